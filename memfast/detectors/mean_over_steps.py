"""What detectors share whose score is the mean of one number per state over the first steps."""

import numpy as np

from memfast.detectors.base import Detector, StepLike, is_finished, nothing_seen
from memfast.foundation.arguments import whole_number


class MeanOverSteps(Detector):
    """Base of detectors whose score is a mean over states: ``step`` asks ``_wants`` and gives ``_add`` the numbers.

    Args:
        steps: use the first so many steps; None uses all.
    """

    _total: np.ndarray
    _seen: int

    def __init__(self, steps: int | None) -> None:
        self.steps = None if steps is None else whole_number("steps", steps, least=1)

    def scores(self) -> np.ndarray:
        """The mean of each sample."""
        if not self._seen:
            raise nothing_seen(self.name)
        return self._total / self._seen

    def _wants(self, step: StepLike) -> bool:
        return not is_finished(step) and (self.steps is None or self._seen < self.steps)

    def _add(self, values: np.ndarray) -> None:
        self._total = self._total + values
        self._seen += 1

    def _reset(self) -> None:
        self._total, self._seen = np.zeros(self.count), 0
