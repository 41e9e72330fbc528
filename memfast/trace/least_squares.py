"""The 2x2 normal equations of ``state = w_target * target + w_initial * initial``, from inner products."""

from typing import NamedTuple

import numpy as np

# Below this sine between target and initial state the two weights cannot be told apart.
LEAST_SINE = 1e-6


class NormalEquations(NamedTuple):
    """The products of the two vectors that a state is explained by, each ``[G]``.

    Attributes:
        target: |target|^2.
        initial: |initial|^2.
        both: <target, initial>.
    """

    target: np.ndarray
    initial: np.ndarray
    both: np.ndarray

    @property
    def determinant(self) -> np.ndarray:
        """Of the equations; 0 for parallel vectors."""
        return self.target * self.initial - self.both**2

    @property
    def parallel(self) -> np.ndarray:
        """Where the two vectors are parallel, or one of them is zero: bool ``[G]``."""
        return self.determinant <= LEAST_SINE**2 * self.target * self.initial

    def solve(self, with_target: np.ndarray, with_initial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(w_target, w_initial) of states with these products; NaN where the vectors are parallel."""
        determinant = np.where(self.parallel, np.nan, self.determinant)
        w_target = (with_target * self.initial - with_initial * self.both) / determinant
        w_initial = (with_initial * self.target - with_target * self.both) / determinant
        return w_target, w_initial
