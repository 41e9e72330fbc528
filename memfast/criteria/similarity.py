"""Similarity of features that the user chose."""

from collections.abc import Sequence

import numpy as np

from memfast.criteria.base import Criterion, Evidence, Judgement
from memfast.foundation.arguments import finite_number

DEFAULT_THRESHOLD = 0.75
OTHER_LEVELS = (0.5, 0.75, 0.9, 0.95)


class Similarity(Criterion):
    """``cosine(features(generated), features(training)) > threshold`` for the most similar training item.

    Score in [-1, 1]; HIGHER means more memorized. 0.75 and 0.5 have a meaning for SSCD features only (0.75: copies with
    90 % precision on DISC; 0.5: Somepalli et al.); for other features read the held-out figure and the curve.
    Scores of different extractors, resolutions or crops cannot be compared, so results store which was used.

    Args:
        threshold: the similarity above which a sample counts as a copy.
        levels: other thresholds to report in full.

    Source: Somepalli et al. 2023 (DCR); Pizzi et al. 2022 (SSCD).
    """

    name = "similarity"
    title = "Similarity of features"
    definition = "largest cosine similarity of features to a training item > threshold"
    source = "Somepalli et al. 2023 (0.5); Pizzi et al. 2022, SSCD (0.75)"
    copies_are_low = False
    needs = ("similarities",)

    def __init__(self, threshold: float = DEFAULT_THRESHOLD, levels: Sequence[float] = OTHER_LEVELS) -> None:
        known = [
            finite_number("similarity threshold", value, least=-1, below=1, words="a cosine in [-1, 1)")
            for value in (threshold, *levels)
        ]
        self.threshold = known[0]
        self.levels = tuple(sorted(set(known)))

    @property
    def grid(self) -> np.ndarray:
        """0 to 0.98, and the reported levels."""
        return np.union1d(np.round(np.arange(0.0, 0.9801, 0.02), 2), self.levels)

    def why_not(self, evidence: Evidence) -> str | None:
        """It needs features that are not all zero."""
        if evidence.similarities is not None and np.isnan(evidence.similarities).all():
            return "the features of every sample are all zero, which have no direction to compare"
        return super().why_not(evidence)

    def judge(self, evidence: Evidence) -> Judgement:
        """Scores: the largest cosine similarity. Samples whose features are all zero are not judged."""
        assert evidence.similarities is not None
        assert evidence.similar_indices is not None
        scores = np.asarray(evidence.similarities, np.float64)
        flags, judged = self.flags(evidence, scores, self.threshold), ~np.isnan(scores)
        if judged.all():
            return Judgement(scores, flags, evidence.similar_indices)
        count = int((~judged).sum())
        note = (
            f"{count:,} sample{'s' if count > 1 else ''} left out: all features are zero, like a black image's pixels, "
            "so there is no direction to compare"
        )
        return Judgement(scores, flags, evidence.similar_indices, (note,), judged)
