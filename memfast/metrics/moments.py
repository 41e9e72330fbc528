"""Mean and covariance by parts: batches, shards and ranks add up, in float64."""

from typing import Any

import numpy as np

from memfast.foundation.arguments import whole_number
from memfast.foundation.arrays import plain_array
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrix, require_width


class Moments:
    """Count, mean and scatter of rows seen so far; two of them merge into the one of all rows.

    The scatter is summed about the running mean (Chan, Golub and LeVeque 1979), so that a mean far from zero costs no
    digits. The result does not depend on how the rows were divided beyond rounding of float64.

    >>> a = Moments().update([[0.0], [2.0]]); b = Moments().update([[4.0]])
    >>> a.merge(b).mean, a.count
    (array([2.]), 3)
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.empty(0)
        self.scatter = np.empty((0, 0))

    def update(self, rows: Any) -> "Moments":
        """Add rows ``[n, d]``."""
        matrix = as_matrix("rows", rows)
        part = Moments()
        part.count, part.mean = len(matrix), matrix.mean(axis=0)
        centred = matrix - part.mean
        with np.errstate(over="ignore", invalid="ignore"):
            part.scatter = centred.T @ centred
        if not np.isfinite(part.scatter).all():
            raise InputError(
                "features", expected="magnitudes whose square float64 holds", received="larger ones",
                do="Scale all sets by one number.",
            )  # fmt: skip
        return self.merge(part)

    def merge(self, other: "Moments") -> "Moments":
        """Add the rows that ``other`` has seen."""
        if other.count == 0:
            return self
        if self.count == 0:
            self.count, self.mean, self.scatter = other.count, other.mean.copy(), other.scatter.copy()
            return self
        require_width("rows", other.mean[None], len(self.mean), "the rows before")
        total = self.count + other.count
        step = other.mean - self.mean
        self.scatter += other.scatter + np.outer(step, step) * (self.count * other.count / total)
        self.mean = self.mean + step * (other.count / total)
        self.count = total
        return self

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance ``[d, d]``.

        Raises:
            InputError: fewer than two rows were seen.
        """
        if self.count < 2:
            raise InputError("rows", expected="at least 2 rows for a covariance", received=f"{self.count}")
        return self.scatter / (self.count - 1)

    def arrays(self) -> dict[str, np.ndarray]:
        """A copy of the state as arrays, ready for ``npz`` or safetensors."""
        return {"count": np.asarray(self.count), "mean": self.mean.copy(), "scatter": self.scatter.copy()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Moments":
        """The state that `arrays` gave; the arrays themselves are left alone.

        Raises:
            InputError: a scatter of another width than the mean, numbers that are not finite, or a count that is no
                whole number.
        """
        moments = cls()
        count = plain_array("moments count", arrays["count"])
        moments.count = whole_number("moments count", count.item() if count.ndim == 0 else count, least=0)
        moments.mean, moments.scatter = (
            plain_array(f"moments {name}", arrays[name]).astype(np.float64) for name in ("mean", "scatter")
        )
        width = moments.mean.size
        if moments.mean.shape != (width,) or moments.scatter.shape != (width, width):
            raise InputError(
                "moments",
                expected="a mean [d] and a scatter [d, d]",
                received=f"{list(moments.mean.shape)} and {list(moments.scatter.shape)}",
            )
        if not (np.isfinite(moments.mean).all() and np.isfinite(moments.scatter).all()):
            raise InputError("moments", expected="finite numbers", received="a NaN or an infinity")
        return moments
