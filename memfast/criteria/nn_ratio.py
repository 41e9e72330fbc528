"""Nearest to second nearest: the criterion of most papers on memorization in diffusion models."""

from fractions import Fraction

import numpy as np

from memfast.criteria.base import Criterion, Evidence, Judgement
from memfast.foundation.arguments import finite_number

DEFAULT_THRESHOLD = 1 / 3
OTHER_LEVELS = (1 / 4, 1 / 2)
LARGEST_DENOMINATOR = 1000


class NnRatio(Criterion):
    """``d1 / d2 < 1/3``: the nearest training item is much closer than the second nearest.

    Score d1/d2 in [0, 1]; lower means more memorized; no unit. The comparison is made on squared distances: with
    the threshold 1/3 and integer distances, ``9 * d1**2 < d2**2`` in integers.

    It needs two training items, and exact duplicates in the training set must be collapsed first: they make
    d1 = d2 and hide a copy. Near-duplicates hide copies in the same way (``memfast.audit(near_duplicates=...)`` counts
    them as one), and it cannot see a copy that was shifted, flipped or recoloured by much, because L2 cannot.

    Args:
        threshold: the ratio of distances (not squared) below which a sample counts as a copy.

    Source: Yoon et al. 2023; Gu et al. 2023 (arXiv 2310.02664); Bonnaire et al. 2025 (arXiv 2505.17638), eq. 6.
    """

    name = "nn_ratio"
    title = "Nearest-neighbour ratio"
    definition = "d1 / d2 < threshold; d1 and d2: distances to the nearest and second nearest training item"
    source = "Yoon et al. 2023; Gu et al. 2023; Bonnaire et al. 2025 (eq. 6)"
    aliases = ("nndr",)
    neighbours = 2
    hidden_by_duplicates = True

    def __init__(self, threshold: float = DEFAULT_THRESHOLD) -> None:
        self.threshold = finite_number("nn_ratio threshold", threshold, above=0)
        self.levels = tuple(sorted({*OTHER_LEVELS, DEFAULT_THRESHOLD, self.threshold}))

    @property
    def grid(self) -> np.ndarray:
        """0.02 to 1, and the reported levels."""
        return np.union1d(np.round(np.arange(0.02, 1.001, 0.02), 2), self.levels)

    def why_not(self, evidence: Evidence) -> str | None:
        """It needs two neighbours."""
        if evidence.neighbours < 2:
            return "it compares the nearest with the second nearest training item, and there is only one"
        return None

    def judge(self, evidence: Evidence) -> Judgement:
        """Scores d1/d2; a sample at distance 0 of two training items has score 1 and is not flagged."""
        first, second = (evidence.squared_distances[:, column].astype(np.float64) for column in (0, 1))
        hidden = int((second == 0).sum())
        scores = np.sqrt(np.divide(first, second, out=np.ones_like(first), where=second > 0))
        notes: tuple[str, ...] = ()
        if hidden:
            notes = (f"{hidden} samples lie at distance 0 of two training items: collapse duplicates before judging",)
        return Judgement(scores, self.flags(evidence, scores, self.threshold), evidence.indices[:, 0], notes)

    def flags(self, evidence: Evidence, scores: np.ndarray, threshold: float) -> np.ndarray:
        """Compare squared distances; exactly, where the threshold is a simple fraction."""
        first, second = evidence.squared_distances[:, 0], evidence.squared_distances[:, 1]
        simple = Fraction(threshold).limit_denominator(LARGEST_DENOMINATOR)
        if float(simple) == threshold:
            return first * simple.denominator**2 < second * simple.numerator**2
        return first < second * threshold**2
