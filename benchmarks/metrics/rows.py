"""The metrics against the strongest peer of each: `python -m benchmarks metrics`."""

import contextlib
import io

import numpy as np

from benchmarks.rows import Row, Timed


def _clouds(n: int, d: int, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    spectrum = 1 / np.sqrt(1 + np.arange(d))
    return tuple((generator.standard_normal((n, d)) * spectrum + s).astype(dtype) for s in (0, 0.1))  # type: ignore[return-value]


def exact_transport() -> tuple[Timed, Timed]:
    import ot

    from memfast.metrics import wasserstein

    x, y = _clouds(5000, 64)
    small = wasserstein(x[:400], y[:400]).value
    assert abs(small - ot.emd2([], [], ot.dist(x[:400], y[:400])) ** 0.5) < 1e-9 * small
    return lambda: wasserstein(x, y), lambda: ot.emd2([], [], ot.dist(x, y), numItermax=10**8)


def per_dimension() -> tuple[Timed, Timed]:
    import ot

    from memfast.metrics import wasserstein_per_dimension

    x, y = _clouds(10_000, 768)
    peer = ot.wasserstein_1d(x[:, :8].copy(), y[:, :8].copy(), p=2) ** 0.5
    np.testing.assert_allclose(wasserstein_per_dimension(x[:, :8], y[:, :8]), peer, rtol=1e-9)
    return lambda: wasserstein_per_dimension(x, y), lambda: ot.wasserstein_1d(x, y, p=2)


def _sliced(dtype: type) -> tuple[Timed, Timed]:
    import ot

    from memfast.metrics import wasserstein
    from memfast.metrics.sliced import random_directions

    x, y = _clouds(10_000, 768, dtype)
    directions = random_directions(768, 500)
    across = directions.numpy().T.astype(dtype)
    ours = wasserstein(x, y, method="sliced", directions=directions).value
    assert abs(ours - ot.sliced_wasserstein_distance(x, y, projections=across)) < 1e-4 * ours
    return (
        lambda: wasserstein(x, y, method="sliced", directions=directions),
        lambda: ot.sliced_wasserstein_distance(x, y, projections=across),
    )


def prdc() -> tuple[Timed, Timed]:
    from prdc import compute_prdc

    from memfast.metrics import precision_recall_density_coverage

    generator = np.random.default_rng(0)
    real, generated = generator.standard_normal((2, 10_000, 2048)).astype(np.float32)

    def peer() -> object:
        with contextlib.redirect_stdout(io.StringIO()):
            return compute_prdc(real, generated, 5)

    def agree(rows: int) -> bool:
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = compute_prdc(real[:rows], generated[:rows], 5)
        return np.allclose(list(theirs.values()), precision_recall_density_coverage(real[:rows], generated[:rows]))

    assert agree(1000)
    return lambda: precision_recall_density_coverage(real, generated), peer


def bootstrap() -> tuple[Timed, Timed]:
    """1,000 resamples of the four scores of 10,000 samples against the neighbours that they rest on."""
    from memfast.metrics import ManifoldCounts
    from memfast.metrics.shared_neighbors import nearest

    generator = np.random.default_rng(0)
    counts = ManifoldCounts(generator.integers(0, 9, 10_000), *(generator.random((2, 10_000)) < 0.7), 5)
    rows = generator.standard_normal((10_000, 512)).astype(np.float32)
    return counts.intervals, lambda: nearest(rows, rows, 6)


ROWS = (
    Row("exact_w2_5000x64", "ot.dist + ot.emd2", 4.0, exact_transport),
    Row("w2_per_dimension_10000x768", "ot.wasserstein_1d", 15.0, per_dimension),
    Row("sliced_w2_10000x768_float32", "ot.sliced_wasserstein_distance", 2.0, lambda: _sliced(np.float32)),
    Row("sliced_w2_10000x768_float64", "ot.sliced_wasserstein_distance", 2.0, lambda: _sliced(np.float64)),
    Row("prdc_10000x2048", "prdc.compute_prdc", 3.0, prdc),
    Row("bootstrap_1000", "memfast's own neighbours", 1.0, bootstrap),
)
