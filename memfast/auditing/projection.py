"""Where the sets lie: principal components of the training set, as few numbers as a drawing needs."""

from typing import Any

import numpy as np

from memfast.auditing.inputs import Inputs
from memfast.auditing.pictures import shrink
from memfast.data import Source
from memfast.metrics import PrincipalComponents

LARGEST_SIDE = 32
FITTED_ITEMS = 2000
DRAWN_ITEMS = 1000
COMPONENTS = 3
FEWEST_BINS, MOST_BINS = 6, 40
ROWS = 256


def project(
    inputs: Inputs,
    *,
    seed: int = 0,
    fitted: int = FITTED_ITEMS,
    drawn: int = DRAWN_ITEMS,
    components: int = COMPONENTS,
) -> dict[str, Any] | None:
    """Coordinates of a random part of each set on the training set's principal components.

    Large images are averaged down to at most 32 pixels a side first, long signals thinned; values are in [0, 1] units.

    Args:
        inputs: the sets.
        seed: of the random parts.
        fitted: at most how many items of each set are read; the components are fitted on those of the training set.
        drawn: at most how many points of each set are kept.
        components: at most how many components.

    Returns:
        ``fitted`` (training items), ``explained`` (share of the variance per component), ``points`` (set -> pairs of
        coordinates on the first two components) and ``histograms``, one per component: ``edges`` and, per set, its
        density in each bin; the smallest set sets the number of bins. None where the training set has no
        two components.
    """
    sets = {"training": inputs.training, "generated": inputs.generated, "held_out": inputs.test}
    rows = {name: _part(source, inputs, seed, fitted) for name, source in sets.items() if source is not None}
    most = min(components, len(rows["training"]) - 1, rows["training"].shape[1])
    if most < 2 or (rows["training"] == rows["training"][0]).all():
        return None
    fit = PrincipalComponents.fit(rows["training"], most, solver="randomized", seed=seed)
    places = {name: fit.transform(part) for name, part in rows.items()}
    # Rice's rule for the smallest set: with more bins its histogram would show chance.
    bins = int(np.clip(2 * min(map(len, rows.values())) ** (1 / 3), FEWEST_BINS, MOST_BINS))
    return {
        "fitted": len(rows["training"]),
        "explained": [_rounded(share) for share in fit.explained_variance_ratio],
        "points": {name: [[_rounded(x), _rounded(y)] for x, y in part[:drawn, :2]] for name, part in places.items()},
        "histograms": [
            _histogram({name: part[:, number] for name, part in places.items()}, bins) for number in range(most)
        ],
    }


def _part(source: Source, inputs: Inputs, seed: int, largest: int) -> np.ndarray:
    """A random part of a set in random order, so that its first items are a random part too; float64 ``[n, d]``."""
    generator = np.random.Generator(np.random.Philox(seed))
    chosen = generator.permutation(len(source))[:largest]
    order = np.argsort(chosen, kind="stable")
    blocks = [_values(source.take(chosen[order[at : at + ROWS]]), inputs) for at in range(0, len(order), ROWS)]
    rows = np.empty((len(chosen), blocks[0].shape[1]))
    rows[order] = np.concatenate(blocks)
    return rows


def _values(block: np.ndarray, inputs: Inputs) -> np.ndarray:
    seen = block if inputs.kind == "values" else shrink(block, inputs, LARGEST_SIDE)
    flat = seen.reshape(len(seen), -1).astype(np.float64)
    return flat / 255 if inputs.kind == "images" else (flat - inputs.low) / inputs.unit


def _histogram(values: dict[str, np.ndarray], bins: int) -> dict[str, Any]:
    everything = np.concatenate(list(values.values()))
    edges = np.linspace(everything.min(), everything.max(), bins + 1)
    if edges[0] == edges[-1]:
        edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, bins + 1)
    # Densities, since runs that are shown together can have bins of other widths.
    densities = {name: np.histogram(part, edges, density=True)[0] for name, part in values.items()}
    return {
        "edges": [_rounded(edge) for edge in edges],
        **{name: [_rounded(value) for value in part] for name, part in densities.items()},
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
