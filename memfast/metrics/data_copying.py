"""C_T: a rank test, cell by cell, of whether generated samples lie closer to the training set than held-out ones."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.stats import norm, rankdata

from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices, as_vector, require_magnitude
from memfast.metrics.base import INFINITY, Metric, MetricInputs, MetricOutcome, MetricValue
from memfast.metrics.clusters import k_means
from memfast.metrics.principal import PrincipalComponents
from memfast.metrics.shared_neighbors import nearest

CELLS = 3
COMPONENTS = 64
MINIMUM_PER_CELL = 20
VARIANTS = ("standard", "memorization", "mode")


class DataCopying(NamedTuple):
    """The test's result.

    Attributes:
        value: C_T, a mean of the cells' z; far below 0 means copying, far above 0 underfitting.
        z: z of each cell, NaN where it was left out.
        weights: share of the held-out samples in each cell.
        counts: int64 ``[cells, 3]``: generated, training and held-out samples of each cell.
        used: bool ``[cells]``, cells with enough generated samples.
        p_value: one-sided p of the whole, for independent cells.
    """

    value: float
    z: np.ndarray
    weights: np.ndarray
    counts: np.ndarray
    used: np.ndarray
    p_value: float


def c_t(
    generated: Any,
    training: Any,
    test: Any,
    *,
    cells: int = CELLS,
    components: int | None = COMPONENTS,
    minimum_per_cell: int = MINIMUM_PER_CELL,
    variant: str = "standard",
    seed: int = 0,
) -> DataCopying:
    """The data-copying test of Meehan, Chaudhuri and Dasgupta (2020).

    In each k-means cell of the training set, the distances of generated and of held-out samples to their nearest
    training sample of that cell are compared by the z-scored Mann-Whitney U. C_T is the mean of z over the cells with
    more than ``minimum_per_cell`` generated samples, weighted by the share of held-out samples. Below about -3:
    generated samples are closer to the training set than chance allows.

    Args:
        generated: ``[m, d]``.
        training: ``[n, d]``.
        test: ``[t, d]``, held out from the same distribution.
        cells: k-means cells, fitted on the training set.
        components: principal components, fitted on the training set, where there are more features; None keeps all.
        minimum_per_cell: generated samples that a cell must exceed.
        variant: ``standard``; ``memorization`` exchanges the training and the generated set: far below 0 where training
            samples lie closer to generated ones than held-out data do, which finds the training samples that were
            copied; ``mode``: half of the held-out set stands for the training set, so that copying cannot show and a
            value far from 0 says that the generator leaves modes out.
        seed: of k-means, so that the result repeats.

    Raises:
        InputError: fewer training rows than cells, a cell without held-out or training samples, no cell with enough
            generated samples, an unknown variant.
    """
    generated, training, test = as_matrices(("generated", "training", "test"), (generated, training, test))
    require_magnitude(("generated", "training", "test"), (generated, training, test))
    _check_variant(variant)
    if variant == "memorization":
        generated, training = training, generated
    elif variant == "mode":
        if len(test) < 2:
            raise InputError("test", expected="at least 2 rows, to be halved", received="1")
        training, test = np.array_split(test, 2)
    whole_number("cells", cells, least=1, greatest=len(training), do="A cell needs at least one training sample.")
    whole_number("minimum_per_cell", minimum_per_cell, least=0)
    if components is not None and training.shape[1] > whole_number("components", components, least=1):
        projection = PrincipalComponents.fit(training, min(components, len(training) - 1), seed=seed)
        generated, training, test = (projection.transform(rows) for rows in (generated, training, test))
    partition = k_means(training, cells, seed=seed)
    sets = (generated, training, test)
    labels = [partition.assign(rows) for rows in sets]
    counts = np.stack([np.bincount(label, minlength=cells) for label in labels], axis=1)
    for name, column in (("training", 1), ("test", 2)):
        if not counts[:, column].all():
            empty = int(np.argmin(counts[:, column]))
            raise InputError(
                name, expected="at least one sample in every cell", received=f"none in cell {empty} of {cells}",
                do="Use fewer cells or more samples.",
            )  # fmt: skip
    used = counts[:, 0] > minimum_per_cell
    if not used.any():
        raise InputError(
            "generated",
            expected=f"more than {minimum_per_cell} samples in some cell",
            received=f"at most {int(counts[:, 0].max())}",
            do="Generate more samples or use fewer cells.",
        )
    z = np.full(cells, np.nan)
    for cell in np.nonzero(used)[0]:
        of_cell = [rows[label == cell] for rows, label in zip(sets, labels, strict=True)]
        z[cell] = copying_z(*(nearest(rows, of_cell[1], 1)[0][:, 0] for rows in (of_cell[0], of_cell[2])))
    weights = counts[:, 2] / len(test)
    kept = weights[used]
    value = float(kept @ z[used] / kept.sum())
    combined = float(kept @ z[used] / np.sqrt(kept @ kept))
    return DataCopying(value, z, weights, counts, used, float(norm.cdf(combined)))


def copying_z(generated_distances: np.ndarray, test_distances: np.ndarray) -> float:
    """z of Mann-Whitney's U of two samples of distances; far below 0 where the first are smaller.

    Mean ``n m / 2 - 1/2`` and variance ``n m (n + m + 1) / 12`` under the null, as the authors' code has it.

    >>> round(copying_z(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])), 3)
    -1.746
    """
    first, second = (
        as_vector(name, rows)
        for name, rows in (("generated_distances", generated_distances), ("test_distances", test_distances))
    )
    m, n = len(first), len(second)
    ranks = rankdata(np.concatenate([first, second]))
    u = ranks[:m].sum() - m * (m + 1) / 2
    return float((u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12))


@dataclass(frozen=True)
class CT(Metric):
    """`c_t` of the three sets."""

    name: ClassVar = "c_t"
    summary: ClassVar = "z of 'closer to the training set than held-out samples are', cell by cell"
    source: ClassVar = "Meehan et al. 2020"
    values: ClassVar = (MetricValue("c_t", "none", "lower", -INFINITY, INFINITY),)
    needs: ClassVar = ("test",)
    cells: int = CELLS
    components: int | None = COMPONENTS
    minimum_per_cell: int = MINIMUM_PER_CELL
    variant: str = "standard"

    def __post_init__(self) -> None:
        whole_number("cells", self.cells, least=1)
        whole_number("minimum_per_cell", self.minimum_per_cell, least=0)
        if self.components is not None:
            whole_number("components", self.components, least=1)
        _check_variant(self.variant)

    @property
    def least(self) -> dict[str, int]:
        """At least one cell must be full enough."""
        return {"generated": self.minimum_per_cell + 1, "training": self.cells, "test": self.cells}

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """Components and searches."""
        return 8 * n * d * min(n, d) + 2 * n * (m + t) * 64

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """It is a z already: no interval; the cells and the p-value stand in the details."""
        found = c_t(
            inputs.generated, inputs.training, inputs.test, cells=self.cells, components=self.components,
            minimum_per_cell=self.minimum_per_cell, variant=self.variant, seed=inputs.seed,
        )  # fmt: skip
        details = {
            "z": found.z.tolist(), "counts": found.counts.tolist(), "p_value": found.p_value, "variant": self.variant,
        }  # fmt: skip
        return {"c_t": MetricOutcome(found.value, None, details)}

    def floor_inputs(self, inputs: MetricInputs) -> MetricInputs | None:
        """Held-out against held-out: half of the held-out set as generated, the other half held out."""
        if inputs.test is None:
            return None
        first, second = inputs.held_out_halves()
        return replace(inputs, generated=first, test=second)


def _check_variant(variant: str) -> None:
    if variant not in VARIANTS:
        raise InputError("variant", expected=f"one of {', '.join(VARIANTS)}", received=repr(variant))
