"""The evaluation of Vu et al. 2026 (arXiv 2601.21348): distances to the training set in principal components.

The paper states neither the number of components, nor the order of the Wasserstein distance, nor the histogram of the
Jensen-Shannon distance, nor which L2: each is an option here and its default a named choice (``docs/metrics.md``).
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices, as_vector, require_magnitude
from memfast.metrics.intervals import Interval, bootstrap_mean
from memfast.metrics.one_dimensional import wasserstein_per_dimension
from memfast.metrics.principal import PrincipalComponents
from memfast.metrics.shared_neighbors import SharedNeighbors, nearest
from memfast.metrics.transport import wasserstein

COMPONENTS = 50
BINS = 50
PSEUDOCOUNT = 1e-12
PAIR_ENTRIES = 1 << 22


class ProjectedDistances(NamedTuple):
    """Distances of generated samples to the training set; 0 for equal sets, lower is closer.

    Attributes:
        wasserstein: mean over the components, or the sliced distance, in feature units.
        jensen_shannon: mean over the components, 0 to sqrt(ln 2) = 0.833 (distance, natural logarithm).
        wasserstein_per_component: ``[k]``.
        jensen_shannon_per_component: ``[k]``.
        explained_variance: share of the training variance in the k components.
        components: k.
    """

    wasserstein: float
    jensen_shannon: float
    wasserstein_per_component: np.ndarray
    jensen_shannon_per_component: np.ndarray
    explained_variance: float
    components: int


class L2Distances(NamedTuple):
    """L2 to the nearest training sample and over all pairs, divided by sqrt(d) by default (RMS per feature)."""

    nearest: float
    nearest_interval: Interval
    all_pairs: float


def projected_distances(
    generated: Any,
    training: Any,
    *,
    components: int | None = None,
    wasserstein_kind: str = "per_component",
    p: float = 1,
    bins: int = BINS,
    histogram_range: str = "pooled",
    pseudocount: float = PSEUDOCOUNT,
    base: float | None = None,
    root: bool = True,
    solver: str = "auto",
    seed: int = 0,
) -> ProjectedDistances:
    """Wasserstein and Jensen-Shannon distances in the principal components of the training set.

    The paper calls lower values less memorization; the rest of the field reads closeness to the training set as its
    symptom. Report them beside nearest-neighbour criteria and never merge the two.

    Args:
        generated: ``[m, d]``.
        training: ``[n, d]``; the components are fitted on it alone.
        components: k; None takes 50, or as many dimensions as the training rows span. Report k = 2 too.
        wasserstein_kind: ``per_component`` (mean of the exact one-dimensional W_p) or ``sliced`` (W_2, 128 directions).
        p: order of the per-component distance.
        bins: equal bins of each histogram.
        histogram_range: ``pooled`` spans both sets, ``training`` the training set (outliers then fall in the end bins).
        pseudocount: added to each bin's probability.
        base: of the logarithm; None is natural.
        root: True gives the Jensen-Shannon distance, False the divergence (its square).
        solver: of `PrincipalComponents.fit`.
        seed: of a randomized solver and of the directions.

    Raises:
        InputError: too few rows for the components, constant training features, an unknown choice.
    """
    generated, training = as_matrices(("generated", "training"), (generated, training))
    most = min(len(training) - 1, training.shape[1])
    count = min(COMPONENTS, most) if components is None else components
    projection = _spanned(
        PrincipalComponents.fit(training, count, solver=solver, seed=seed), training.shape, components
    )
    x, y = projection.transform(generated), projection.transform(training)
    each = wasserstein_per_dimension(x, y, p)
    if wasserstein_kind not in ("per_component", "sliced"):
        raise InputError("wasserstein_kind", expected="'per_component' or 'sliced'", received=repr(wasserstein_kind))
    value = (
        each.mean() if wasserstein_kind == "per_component" else wasserstein(x, y, 2, method="sliced", seed=seed).value
    )
    options = {"bins": bins, "histogram_range": histogram_range, "pseudocount": pseudocount, "base": base, "root": root}
    shannon = np.asarray([jensen_shannon(x[:, j], y[:, j], **options) for j in range(x.shape[1])])  # type: ignore[arg-type]
    share = float(projection.explained_variance_ratio.sum())
    return ProjectedDistances(float(value), float(shannon.mean()), each, shannon, share, x.shape[1])


def _spanned(projection: PrincipalComponents, shape: tuple[int, ...], components: int | None) -> PrincipalComponents:
    """Without the components that have no variance: their directions are a solver's accident, not the data's."""
    deviations = np.sqrt(projection.explained_variance)
    rank = int((deviations > max(shape) * np.finfo(np.float64).eps * deviations[0]).sum())
    if components is not None and components > rank:
        raise InputError(
            "components",
            expected=f"at most {rank}, the dimensions that the training rows span",
            received=f"{components}",
        )
    return replace(
        projection,
        components=projection.components[:rank],
        explained_variance=projection.explained_variance[:rank],
    )


def jensen_shannon(
    x: Any,
    y: Any,
    *,
    bins: int = BINS,
    histogram_range: str = "pooled",
    pseudocount: float = PSEUDOCOUNT,
    base: float | None = None,
    root: bool = True,
) -> float:
    """The Jensen-Shannon distance of the histograms of two one-dimensional samples.

    Range 0 to sqrt(ln 2) = 0.833 (to 1 with ``base=2``); lower is closer. It depends on the bins; with few samples per
    bin even equal distributions give a clearly positive value.

    Args: see `projected_distances`.

    >>> round(jensen_shannon([0.0, 0.1], [10.0, 9.9], base=2), 6)
    1.0
    """
    x, y = as_vector("x", x), as_vector("y", y)
    whole_number("bins", bins, least=1)
    finite_number("pseudocount", pseudocount, least=0)
    if base is not None:
        finite_number("base", base, above=1)
    if histogram_range not in ("pooled", "training"):
        raise InputError("histogram_range", expected="'pooled' or 'training'", received=repr(histogram_range))
    low, high = float(y.min()), float(y.max())
    if histogram_range == "pooled":
        low, high = min(low, float(x.min())), max(high, float(x.max()))
    elif low == high:
        raise InputError(
            "training", expected="values that vary, with histogram_range='training'", received=f"{low:g} only",
            do="Use histogram_range='pooled'.",
        )  # fmt: skip
    if high - low <= bins * np.spacing(max(abs(low), abs(high))):
        low, high = low - 0.5 * max(1.0, abs(low)), high + 0.5 * max(1.0, abs(high))
    shares = []
    for values in (x, y):
        counts, _ = np.histogram(np.clip(values, low, high), bins=bins, range=(low, high))
        smoothed = counts / counts.sum() + pseudocount
        shares.append(smoothed / smoothed.sum())
    middle = (shares[0] + shares[1]) / 2
    divergence = sum(float((q[q > 0] * np.log(q[q > 0] / middle[q > 0])).sum()) for q in shares) / 2
    divergence = max(0.0, divergence / (1.0 if base is None else np.log(base)))
    return float(np.sqrt(divergence)) if root else divergence


def l2_distances(
    generated: Any,
    training: Any,
    *,
    per_feature: bool = True,
    all_pairs: bool = True,
    shared: SharedNeighbors | None = None,
    seed: int = 0,
) -> L2Distances:
    """Mean L2 of generated samples to their nearest training sample, and over all pairs.

    Range 0 upwards; a nearest distance far below that of held-out data means copying.

    Args:
        generated: ``[m, d]``.
        training: ``[n, d]``.
        per_feature: divide by sqrt(d), which makes it the RMS difference per feature.
        all_pairs: also average over every pair (n m d operations); False gives NaN.
        shared: neighbours among ``generated`` and ``training``, if searched already.
        seed: of the bootstrap.
    """
    generated, training = as_matrices(("generated", "training"), (generated, training), dtype=None)
    scale = np.sqrt(generated.shape[1]) if per_feature else 1.0
    squared = shared.nearest("generated", "training", 1)[0] if shared else nearest(generated, training, 1)[0]
    closest = np.sqrt(squared[:, 0]) / scale
    mean = float(mean_pair_distance(generated, training) / scale) if all_pairs else float("nan")
    return L2Distances(float(closest.mean()), bootstrap_mean(closest, seed=seed), mean)


def mean_pair_distance(x: Any, y: Any) -> float:
    """The mean Euclidean distance over all pairs of rows, streamed in float64 about the mean."""
    x, y = as_matrices(("x", "y"), (x, y))
    require_magnitude(("x", "y"), (x, y))
    mean = y.mean(axis=0)
    x, y = x - mean, y - mean
    y_norms = np.einsum("jd,jd->j", y, y)
    total = 0.0
    rows = max(1, PAIR_ENTRIES // len(y))
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        block = part @ y.T
        block *= -2
        block += y_norms
        block += np.einsum("id,id->i", part, part)[:, None]
        total += float(np.sqrt(np.maximum(block, 0, out=block), out=block).sum())
    return total / (len(x) * len(y))
