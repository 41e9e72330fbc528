"""The distance to the nearest training item, calibrated by the neighbourhood."""

import numpy as np

from memfast.criteria.base import Criterion, Evidence, Judgement
from memfast.foundation.arguments import finite_number, whole_number

DEFAULT_THRESHOLD = 1.0
DEFAULT_ALPHA = 0.5
DEFAULT_NEIGHBOURS = 50


class Calibrated(Criterion):
    """``d1 / (0.5 * mean of the 50 nearest distances) < 1``: unusually close for this part of the data.

    Score above 0; lower means more memorized; no unit. The 50 nearest are those of the generated sample, the nearest
    itself among them, as the definition reads; ``include_nearest=False`` leaves it out of the mean.

    Args:
        threshold: the score below which a sample counts as a copy.
        alpha: the factor in the denominator.
        neighbours: how many nearest training items the mean is over. Where the training set has fewer, all are used
            and the judgement says so.
        include_nearest: whether the nearest item is part of its own mean.

    What it is not: comparable between numbers of neighbours, or between training sets of very different size.

    Source: Carlini et al. 2023, section 5 (CIFAR-10).
    """

    name = "calibrated"
    title = "Calibrated distance"
    definition = "d1 / (alpha * mean distance to the nearest training items) < threshold"
    source = "Carlini et al. 2023 (CIFAR-10 extraction): alpha 0.5, 50 neighbours"

    def __init__(
        self,
        threshold: float = DEFAULT_THRESHOLD,
        *,
        alpha: float = DEFAULT_ALPHA,
        neighbours: int = DEFAULT_NEIGHBOURS,
        include_nearest: bool = True,
    ) -> None:
        self.threshold = finite_number("calibrated threshold", threshold, above=0)
        self.alpha = finite_number("alpha", alpha, above=0)
        self.neighbours = whole_number("neighbours", neighbours, least=2)
        self.include_nearest = include_nearest
        self.levels = (self.threshold,)

    @property
    def grid(self) -> np.ndarray:
        """0.04 to 2, and the threshold."""
        return np.union1d(np.round(np.arange(0.04, 2.001, 0.04), 2), self.levels)

    def why_not(self, evidence: Evidence) -> str | None:
        """It needs two neighbours."""
        if evidence.neighbours < 2:
            return "it compares the nearest training item with its neighbourhood, and there is only one training item"
        return None

    def judge(self, evidence: Evidence) -> Judgement:
        """Scores; a sample whose whole neighbourhood lies at distance 0 has score ``1 / alpha``."""
        used = min(self.neighbours, evidence.neighbours)
        distances = np.sqrt(evidence.squared_distances[:, :used].astype(np.float64))
        typical = self.alpha * distances[:, 0 if self.include_nearest else 1 :].mean(axis=1)
        scores = np.full(len(evidence), 1 / self.alpha)
        np.divide(distances[:, 0], typical, out=scores, where=typical > 0)
        notes: tuple[str, ...] = ()
        if used < self.neighbours:
            notes = (f"the mean is over {used} neighbours instead of {self.neighbours}: no more are known",)
        return Judgement(scores, self.flags(evidence, scores, self.threshold), evidence.indices[:, 0], notes)
