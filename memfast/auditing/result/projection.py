"""Where the sets lie: principal components of the training set, as few numbers as a drawing needs."""

import numpy as np

from memfast.auditing.opened import OpenedSets
from memfast.auditing.result.pictures import rows_at_once, shrink
from memfast.data import Source
from memfast.metrics import PrincipalComponents
from memfast.results import Projection

LARGEST_SIDE = 32
FITTED_ITEMS = 2000
DRAWN_ITEMS = 1000
COMPONENTS = 3
FEWEST_BINS, MOST_BINS = 6, 40


def project(
    sets: OpenedSets,
    *,
    seed: int = 0,
    fitted: int = FITTED_ITEMS,
    drawn: int = DRAWN_ITEMS,
    components: int = COMPONENTS,
) -> Projection | None:
    """Coordinates of a random part of each set on the training set's principal components.

    Large images are averaged down to at most 32 pixels a side first, long signals thinned; values are in [0, 1] units.

    Args:
        sets: the sets.
        seed: of the random parts.
        fitted: at most how many items of each set are read; the components are fitted on those of the training set.
        drawn: at most how many points of each set are kept.
        components: at most how many components.

    Returns:
        The coordinates and one histogram per component; the smallest set sets the number of bins. None where the
        training set has no two components.
    """
    drawings = {"training": sets.training, "generated": sets.generated, "held_out": sets.test}
    rows = {name: _part(source, sets, seed, fitted) for name, source in drawings.items() if source is not None}
    most = min(components, len(rows["training"]) - 1, rows["training"].shape[1])
    if most < 2 or (rows["training"] == rows["training"][0]).all():
        return None
    fit = PrincipalComponents.fit(rows["training"], most, solver="randomized", seed=seed)
    places = {name: fit.transform(part) for name, part in rows.items()}
    # Rice's rule for the smallest set: with more bins its histogram would show chance.
    bins = int(np.clip(2 * min(map(len, rows.values())) ** (1 / 3), FEWEST_BINS, MOST_BINS))
    points = {name: tuple((_rounded(x), _rounded(y)) for x, y in part[:drawn, :2]) for name, part in places.items()}
    histograms = [_histogram({name: part[:, at] for name, part in places.items()}, bins) for at in range(most)]
    explained = tuple(_rounded(share) for share in fit.explained_variance_ratio)
    return Projection(len(rows["training"]), explained, points, tuple(histograms))


def _part(source: Source, sets: OpenedSets, seed: int, largest: int) -> np.ndarray:
    """A random part of a set in random order, so that its first items are a random part too; float64 ``[n, d]``."""
    generator = np.random.Generator(np.random.Philox(seed))
    chosen = generator.permutation(len(source))[:largest]
    order = np.argsort(chosen, kind="stable")
    step = rows_at_once(source)
    blocks = [_values(source.take(chosen[order[at : at + step]]), sets) for at in range(0, len(order), step)]
    rows = np.empty((len(chosen), blocks[0].shape[1]))
    rows[order] = np.concatenate(blocks)
    return rows


def _values(block: np.ndarray, sets: OpenedSets) -> np.ndarray:
    seen = block if sets.kind == "values" else shrink(block, sets, LARGEST_SIDE)
    flat = seen.reshape(len(seen), -1).astype(np.float64)
    return flat / 255 if sets.kind == "images" else (flat - sets.units.low) / sets.units.unit


def _histogram(values: dict[str, np.ndarray], bins: int) -> dict[str, tuple[float, ...]]:
    everything = np.concatenate(list(values.values()))
    edges = np.linspace(everything.min(), everything.max(), bins + 1)
    if edges[0] == edges[-1]:
        edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, bins + 1)
    # Densities, since runs that are shown together can have bins of other widths.
    densities = {name: np.histogram(part, edges, density=True)[0] for name, part in values.items()}
    return {
        "edges": tuple(_rounded(edge) for edge in edges),
        **{name: tuple(_rounded(value) for value in part) for name, part in densities.items()},
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
