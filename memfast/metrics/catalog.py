"""Every metric in one row each: what it needs, which way it points, where it comes from, what it costs.

To add one: write its function and add a row.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from memfast.foundation.errors import InputError
from memfast.metrics.copying import authenticity, cosine_penalty, mifid, neighbor_ratios
from memfast.metrics.data_copying import c_t
from memfast.metrics.diversity import vendi
from memfast.metrics.frechet import frechet_distance, frechet_infinity
from memfast.metrics.intervals import Interval, bootstrap_mean
from memfast.metrics.kernel import SUBSET_SIZE, SUBSETS, kernel_distance
from memfast.metrics.likelihood import feature_likelihood
from memfast.metrics.manifold import NEIGHBORS, manifold_counts
from memfast.metrics.projected import l2_distances, projected_distances
from memfast.metrics.shared import SharedNeighbors
from memfast.metrics.transport import wasserstein

EXACT_TRANSPORT_ROWS = 5000
NORMAL_QUANTILE = 1.959964


@dataclass(frozen=True)
class Value:
    """One number that a metric gives.

    Attributes:
        name: its name in results.
        better: ``lower``, ``higher`` or ``none``: what its authors call better for a generator.
        copying: ``lower``, ``higher`` or ``none``: which way it moves when training samples are copied.
        low: the least it can be.
        high: the most it can be.
    """

    name: str
    better: str
    copying: str
    low: float
    high: float


@dataclass
class Sets:
    """The features that metrics work on; all ``[n, d]`` float64, with the neighbours found so far."""

    generated: np.ndarray
    training: np.ndarray
    test: np.ndarray | None
    shared: SharedNeighbors
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """A computed value: with its interval, what else is worth knowing, and the per-sample values it is the mean of."""

    value: float
    interval: Interval | None = None
    details: dict[str, Any] = field(default_factory=dict)
    samples: np.ndarray | None = None


@dataclass(frozen=True)
class Metric:
    """One row.

    Attributes:
        name: what users write.
        summary: one line.
        source: where its definition comes from.
        values: the numbers it gives.
        compute: the sets -> value name -> outcome.
        needs_test: whether it needs a held-out set.
        neighbors: searches it makes: (queries, database, k).
        cost: (m, n, t, d) -> floating-point operations apart from neighbours.
        least: the fewest generated and training samples.
    """

    name: str
    summary: str
    source: str
    values: tuple[Value, ...]
    compute: Callable[[Sets], dict[str, Outcome]]
    needs_test: bool = False
    neighbors: tuple[tuple[str, str, int], ...] = ()
    cost: Callable[[int, int, int, int], float] = lambda m, n, t, d: (m + n) * d
    least: int = 2


def choose(names: str | Iterable[str] | None, *, has_test: bool) -> list[Metric]:
    """The rows of these names; a value's name also chooses its row. None: every row whose needs are met.

    Raises:
        InputError: no such metric, or one that needs a held-out set where there is none.
    """
    if names is None or names == "all":
        return [row for row in CATALOG if has_test or not row.needs_test]
    chosen: list[Metric] = []
    for name in names.split(",") if isinstance(names, str) else names:
        row = _find(name.strip())
        if row.needs_test and not has_test:
            raise InputError("test", expected=f"a held-out set, which '{row.name}' needs", received="none")
        if row not in chosen:
            chosen.append(row)
    return chosen


def _find(name: str) -> Metric:
    for row in CATALOG:
        if name == row.name or name in (value.name for value in row.values):
            return row
    raise InputError("metrics", expected=f"names among {', '.join(row.name for row in CATALOG)}", received=repr(name))


def _wasserstein(sets: Sets) -> dict[str, Outcome]:
    limit = sets.options.get("exact_transport_rows", EXACT_TRANSPORT_ROWS)
    rows = min(len(sets.generated), len(sets.training), limit)
    generator = np.random.default_rng(sets.seed)
    x, y = (points[np.sort(generator.permutation(len(points))[:rows])] for points in (sets.generated, sets.training))
    found = wasserstein(x, y)
    return {"wasserstein_2": Outcome(found.value, None, {"method": found.method, "gap": found.gap, "rows": rows})}


def _sliced(sets: Sets) -> dict[str, Outcome]:
    found = wasserstein(sets.generated, sets.training, method="sliced", seed=sets.seed)
    error = NORMAL_QUANTILE * found.details["standard_error"]
    interval = Interval(max(0.0, found.value - error), found.value + error) if np.isfinite(error) else None
    return {"sliced_wasserstein_2": Outcome(found.value, interval, dict(found.details))}


def _projected(sets: Sets) -> dict[str, Outcome]:
    results: dict[str, Outcome] = {}
    found = None
    for suffix, count in (("", None), ("_2", 2)):
        if count is not None and found is not None and found.components < count:
            continue
        found = projected_distances(sets.generated, sets.training, components=count, seed=sets.seed)
        details = {"components": found.components, "explained_variance": found.explained_variance}
        results[f"wasserstein_1_components{suffix}"] = Outcome(found.wasserstein, None, details)
        results[f"jensen_shannon_components{suffix}"] = Outcome(found.jensen_shannon, None, details)
    return results


def _l2(sets: Sets) -> dict[str, Outcome]:
    found = l2_distances(sets.generated, sets.training, shared=sets.shared, seed=sets.seed)
    samples = np.sqrt(sets.shared.nearest("generated", "training", 1)[0][:, 0] / sets.training.shape[1])
    return {
        "l2_nearest": Outcome(found.nearest, found.nearest_interval, {}, samples),
        "l2_all_pairs": Outcome(found.all_pairs),
    }


def _frechet(sets: Sets) -> dict[str, Outcome]:
    return {"frechet_distance": Outcome(frechet_distance(sets.generated, sets.training))}


def _frechet_infinity(sets: Sets) -> dict[str, Outcome]:
    """No interval: the subsets of one line share samples, so its fit is far surer than the samples are."""
    found = frechet_infinity(sets.generated, sets.training, seed=sets.seed)
    details = {
        "standard_error_of_fit": found.standard_error,
        "slope": found.slope,
        "sizes": found.sizes.tolist(),
        "distances": found.distances.tolist(),
    }
    return {"frechet_infinity": Outcome(found.value, None, details)}


def _kernel(sets: Sets) -> dict[str, Outcome]:
    return {"kernel_distance": _kernel_outcome(sets, "polynomial")}


def _kernel_rbf(sets: Sets) -> dict[str, Outcome]:
    return {"kernel_distance_rbf": _kernel_outcome(sets, "rbf")}


def _kernel_outcome(sets: Sets, kernel: str) -> Outcome:
    """Subsets of at most half the smaller set, so that they differ; the interval is their delete-d jackknife's.

    Subsets overlap: their mean is far surer of these very samples than the samples are of their distribution.
    """
    count = min(len(sets.generated), len(sets.training))
    size = max(2, min(SUBSET_SIZE, count // 2))
    found = kernel_distance(sets.generated, sets.training, kernel=kernel, subset_size=size, seed=sets.seed)
    jackknife = size / (count - size) if count > size else np.inf
    error = NORMAL_QUANTILE * found.standard_deviation * np.sqrt(jackknife + 1 / found.subsets)
    details: dict[str, Any] = {"standard_deviation": found.standard_deviation, "subset_size": size}
    if kernel == "rbf":
        details["bandwidth"] = found.bandwidth
    interval = Interval(found.value - error, found.value + error) if np.isfinite(error) else None
    return Outcome(found.value, interval, details)


def _manifold(sets: Sets) -> dict[str, Outcome]:
    k = sets.options.get("k", NEIGHBORS)
    counts = manifold_counts(sets.training, sets.generated, k, shared=sets.shared)
    intervals = counts.intervals(seed=sets.seed)
    samples = {"precision": counts.covering > 0, "density": counts.covering / k}
    return {
        name: Outcome(value, intervals[name], {"k": k, "comparison": "<"}, samples.get(name))
        for name, value in counts.scores()._asdict().items()
    }


def _auth_pct(sets: Sets) -> dict[str, Outcome]:
    samples = 100.0 * authenticity(sets.shared)
    return {"auth_pct": Outcome(float(samples.mean()), bootstrap_mean(samples, seed=sets.seed), {}, samples)}


def _ratios(sets: Sets) -> dict[str, Outcome]:
    found = neighbor_ratios(sets.generated, sets.training, shared=sets.shared, seed=sets.seed)
    squared, _ = sets.shared.nearest("generated", "training", 2)
    below = (squared[:, 0] < found.threshold**2 * squared[:, 1]).astype(np.float64)
    details = {"percentiles_5_25_50_75_95": list(found.ratio_percentiles), "undefined": found.undefined}
    return {
        "neighbor_ratio": Outcome(found.mean_ratio, None, details),
        "neighbor_ratio_below": Outcome(found.fraction_below, found.interval, {"threshold": found.threshold}, below),
    }


def _mifid(sets: Sets) -> dict[str, Outcome]:
    penalty = cosine_penalty(sets.generated, sets.training)
    return {"mifid": Outcome(mifid(sets.generated, sets.training), None, {"mean_least_cosine_distance": penalty})}


def _vendi(sets: Sets) -> dict[str, Outcome]:
    kept = sets.generated[np.linalg.norm(sets.generated, axis=1) > 0]
    details = {"training": vendi(sets.training[np.linalg.norm(sets.training, axis=1) > 0])}
    return {"vendi": Outcome(vendi(kept), None, details)}


def _c_t(sets: Sets) -> dict[str, Outcome]:
    found = c_t(sets.generated, sets.training, sets.test, seed=sets.seed)
    details = {"z": found.z.tolist(), "counts": found.counts.tolist(), "p_value": found.p_value}
    return {"c_t": Outcome(found.value, None, details)}


def _likelihood(sets: Sets) -> dict[str, Outcome]:
    found = feature_likelihood(sets.generated, sets.training, sets.test, seed=sets.seed)
    details = {"nll_train": found.nll_train, "nll_test": found.nll_test, "baseline": found.baseline}
    return {
        "fld": Outcome(found.fld, None, details),
        "generalization_gap": Outcome(found.generalization_gap, found.gap_interval, details),
    }


_INF = float("inf")


def _positive(*names: str) -> tuple[Value, ...]:
    """Distances: 0 and above, lower called better, lower also where training samples are copied."""
    return tuple(Value(name, "lower", "lower", 0.0, _INF) for name in names)


CATALOG: tuple[Metric, ...] = (
    Metric(
        "wasserstein", "exact W_2 in feature space (up to 5,000 samples of each set)", "Villani 2009",
        _positive("wasserstein_2"), _wasserstein,
        cost=lambda m, n, t, d: min(m, n, EXACT_TRANSPORT_ROWS) ** 2 * (2 * d + 4000), least=1,
    ),
    Metric(
        "sliced_wasserstein", "mean over 128 random directions of the one-dimensional W_2", "Bonneel et al. 2015",
        _positive("sliced_wasserstein_2"), _sliced, cost=lambda m, n, t, d: 128 * (m + n) * (2 * d + 200), least=1,
    ),
    Metric(
        "projected", "W_1 and Jensen-Shannon per principal component of the training set", "arXiv 2601.21348",
        (
            *_positive("wasserstein_1_components", "wasserstein_1_components_2"),
            Value("jensen_shannon_components", "lower", "lower", 0.0, 0.8325546),
            Value("jensen_shannon_components_2", "lower", "lower", 0.0, 0.8325546),
        ),
        _projected, cost=lambda m, n, t, d: 8 * n * d * min(n, d) + 200 * (m + n) * d,
    ),
    Metric(
        "l2", "L2 per feature to the nearest training sample, and over all pairs", "arXiv 2601.21348",
        (Value("l2_nearest", "none", "lower", 0.0, _INF), Value("l2_all_pairs", "none", "none", 0.0, _INF)),
        _l2, neighbors=(("generated", "training", 1),), cost=lambda m, n, t, d: 2 * m * n * d, least=1,
    ),
    Metric(
        "frechet", "Frechet distance of fitted Gaussians (FID on Inception features)", "Heusel et al. 2017",
        _positive("frechet_distance"), _frechet, cost=lambda m, n, t, d: 2 * (m + n) * d**2 + 30 * d**3,
    ),
    Metric(
        "frechet_infinity", "Frechet distance extrapolated to infinitely many samples", "Chong and Forsyth 2020",
        (Value("frechet_infinity", "lower", "lower", -_INF, _INF),), _frechet_infinity,
        cost=lambda m, n, t, d: 2 * (8 * m + n) * d**2 + 300 * d**3, least=20,
    ),
    Metric(
        "kernel", "squared MMD, cubic polynomial kernel (KID on Inception features)", "Binkowski et al. 2018",
        (Value("kernel_distance", "lower", "lower", -_INF, _INF),), _kernel,
        cost=lambda m, n, t, d: 6 * SUBSETS * min(m, n, SUBSET_SIZE) ** 2 * (d + 20),
    ),
    Metric(
        "kernel_rbf", "squared MMD, RBF kernel of median bandwidth", "Gretton et al. 2012",
        (Value("kernel_distance_rbf", "lower", "lower", -_INF, 2.0),), _kernel_rbf,
        cost=lambda m, n, t, d: 6 * SUBSETS * min(m, n, SUBSET_SIZE) ** 2 * (d + 20),
    ),
    Metric(
        "prdc", "precision, recall, density and coverage of 5-neighbour balls", "Naeem et al. 2020",
        (
            Value("precision", "higher", "higher", 0.0, 1.0), Value("recall", "higher", "none", 0.0, 1.0),
            Value("density", "higher", "higher", 0.0, _INF), Value("coverage", "higher", "higher", 0.0, 1.0),
        ),
        _manifold,
        neighbors=(("training", "training", NEIGHBORS + 1), ("generated", "generated", NEIGHBORS + 1)),
        cost=lambda m, n, t, d: 2 * m * n * (d + 10), least=NEIGHBORS + 1,
    ),
    Metric(
        "auth_pct", "per cent of samples farther from their training neighbour than it is from its own",
        "Alaa et al. 2022", (Value("auth_pct", "higher", "lower", 0.0, 100.0),), _auth_pct,
        neighbors=(("generated", "training", 1), ("training", "training", 2)),
    ),
    Metric(
        "neighbor_ratio", "nearest over second nearest training distance (NNDR)", "Yoon et al. 2023",
        (
            Value("neighbor_ratio", "none", "lower", 0.0, 1.0),
            Value("neighbor_ratio_below", "lower", "higher", 0.0, 1.0),
        ),
        _ratios, neighbors=(("generated", "training", 2),),
    ),
    Metric(
        "mifid", "Frechet distance over the mean least cosine distance", "Bai et al. 2021",
        (Value("mifid", "lower", "higher", 0.0, _INF),), _mifid,
        cost=lambda m, n, t, d: 2 * (m + n) * d**2 + 30 * d**3 + 2 * m * n * d,
    ),
    Metric(
        "vendi", "effective number of different samples", "Friedman and Dieng 2023",
        (Value("vendi", "higher", "none", 1.0, _INF),), _vendi,
        cost=lambda m, n, t, d: 2 * (m * d * min(m, d) + n * d * min(n, d)) + 9 * (min(m, d) ** 3 + min(n, d) ** 3),
        least=1,
    ),
    Metric(
        "c_t", "z of 'closer to the training set than held-out samples are', cell by cell", "Meehan et al. 2020",
        (Value("c_t", "none", "lower", -_INF, _INF),), _c_t, needs_test=True,
        cost=lambda m, n, t, d: 8 * n * d * min(n, d) + 2 * n * (m + t) * 64, least=21,
    ),
    Metric(
        "fld", "feature likelihood divergence and its generalization gap", "Jiralerspong et al. 2023",
        (Value("fld", "lower", "higher", -_INF, _INF), Value("generalization_gap", "none", "lower", -_INF, _INF)),
        _likelihood, needs_test=True, cost=lambda m, n, t, d: 3 * min(m, 10_000) * (n * (2 * d + 1500) + 2 * t * d),
    ),
)  # fmt: skip
