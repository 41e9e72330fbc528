"""The 2x2 normal equations of ``state = w_target * target + w_initial * initial``, from inner products."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Below this sine between target and initial state the two weights cannot be told apart.
LEAST_SINE = 1e-6


@dataclass(frozen=True)
class NormalEquations:
    """The products of the two vectors that a state is explained by, each ``[G]``.

    Attributes:
        target: |target|^2.
        initial: |initial|^2.
        both: <target, initial>.
    """

    target: np.ndarray
    initial: np.ndarray
    both: np.ndarray

    @cached_property
    def parallel(self) -> np.ndarray:
        """Where the two vectors are parallel, or one of them is zero: bool ``[G]``."""
        found: np.ndarray = self._determinant <= LEAST_SINE**2 * self.target * self.initial
        return found

    def solve(self, with_target: np.ndarray, with_initial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(w_target, w_initial) of states with these products; NaN where the vectors are parallel."""
        w_target = (with_target * self.initial - with_initial * self.both) / self._divisor
        w_initial = (with_initial * self.target - with_target * self.both) / self._divisor
        return w_target, w_initial

    def unexplained(
        self,
        squared: np.ndarray,
        with_target: np.ndarray,
        with_initial: np.ndarray,
        weights: tuple[np.ndarray, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """|state - w_target * target - w_initial * initial|^2 for the solution, and the size of its terms.

        Args:
            squared: |state|^2.
            with_target: <state, target>.
            with_initial: <state, initial>.
            weights: what ``solve`` gave for these.
        """
        w_target, w_initial = weights
        rest = squared - w_target * with_target - w_initial * with_initial
        return rest, squared + w_target**2 * self.target + w_initial**2 * self.initial

    @cached_property
    def _determinant(self) -> np.ndarray:
        return np.asarray(self.target * self.initial - self.both**2)

    @cached_property
    def _divisor(self) -> np.ndarray:
        return np.where(self.parallel, np.nan, self._determinant)
