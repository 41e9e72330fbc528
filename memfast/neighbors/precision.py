"""In which dtype two sets are compared, and the checked conversion of their blocks to it."""

import numpy as np

from memfast.foundation.errors import InputError
from memfast.neighbors.rows import RowReader

_EXACT_INTEGERS = 2**53
METRICS = ("euclidean", "cosine", "inner_product")
# What the kernel reads as it is; it compares any two of them without loss.
NATIVE = tuple(np.dtype(one) for one in (np.uint8, np.float16, np.float32, np.float64))
_FITS_FLOAT32 = tuple(np.dtype(one) for one in (np.int8, np.int16, np.uint16))


def compute_dtype(dtype: np.dtype, metric: str) -> np.dtype:
    """The dtype in which the kernel receives a set: the narrowest of its own that holds every value.

    Raises:
        InputError: unknown metric.
    """
    if metric not in METRICS:
        raise InputError("metric", expected="one of " + ", ".join(METRICS), received=repr(metric))
    if metric == "cosine":
        return np.dtype(np.float32)
    dtype = dtype.newbyteorder("=")
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    if dtype in NATIVE:
        return dtype
    return np.dtype(np.float32 if dtype in _FITS_FLOAT32 else np.float64)


class Converter:
    """Turns blocks of one set into what the kernel reads: finite, contiguous, of its compute dtype.

    The exact kernels look for NaN themselves; ``check=False`` leaves it to them, and ``check_finite`` names the row.

    Args:
        rows: the set, for its dtype and for naming a row in an error.
        metric: for ``"cosine"`` rows are scaled to length one in float64 and rounded to float32.
        check: whether to look for NaN and infinity.
    """

    def __init__(self, rows: RowReader, metric: str, *, check: bool = True) -> None:
        self.rows, self.metric, self.check = rows, metric, check or metric == "cosine"
        self.compute = compute_dtype(rows.dtype, metric)

    @property
    def copies(self) -> bool:
        """Whether a converted block is a copy."""
        return self.metric == "cosine" or self.rows.dtype not in (self.compute, np.dtype(np.bool_))

    def __call__(self, block: np.ndarray, first: int) -> np.ndarray:
        """Convert rows ``first`` and following.

        Raises:
            InputError: NaN or infinity, an integer that float64 does not hold, or a row of length zero under cosine.
        """
        if self.check:
            self.check_finite(block, first)
        if self.metric == "cosine":
            return self._scale(block, first)
        if block.dtype == np.bool_:
            return np.ascontiguousarray(block).view(np.uint8)
        converted = np.ascontiguousarray(block, self.compute)
        if block.dtype.kind in "iu" and block.dtype.itemsize == 8:
            self._check_lossless(block, first)
        return converted

    def check_finite(self, block: np.ndarray, first: int) -> None:
        """Raise for the first NaN or infinity, naming its row.

        Raises:
            InputError: there is one.
        """
        if block.dtype.kind != "f":
            return
        # A row's sum is finite unless an element is not, or it overflows; only then each element is looked at.
        with np.errstate(over="ignore", invalid="ignore"):
            suspects = np.flatnonzero(~np.isfinite(block.sum(axis=1)))
        for row in suspects:
            bad = np.flatnonzero(~np.isfinite(block[row]))
            if len(bad):
                raise InputError(
                    self.rows.locate(first + int(row)),
                    expected="finite numbers",
                    received=f"{block[row][bad[0]]} at element {bad[0]}",
                    do="Remove or repair this item.",
                )

    def _check_lossless(self, block: np.ndarray, first: int) -> None:
        # The integers themselves are compared: 2**53 + 1 is 2**53 once it is a float64.
        changed = (block > _EXACT_INTEGERS).any(axis=1)
        if block.dtype.kind == "i":
            changed |= (block < -_EXACT_INTEGERS).any(axis=1)
        if changed.any():
            raise InputError(
                self.rows.locate(first + int(changed.argmax())),
                expected="integers of at most 2**53, which float64 holds exactly",
                received=f"{block.dtype} values above",
                do="Convert the set to float64 yourself, where rounding is acceptable.",
            )

    def _scale(self, block: np.ndarray, first: int) -> np.ndarray:
        wide = block.astype(np.float64)
        largest = np.abs(wide).max(axis=1, keepdims=True)
        if not largest.all():
            raise InputError(
                self.rows.locate(first + int((largest == 0).argmax())),
                expected="a vector with a direction",
                received="all zeros",
                do="Remove this item, or use metric='euclidean'.",
            )
        wide /= largest
        wide /= np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
        return wide.astype(np.float32)
