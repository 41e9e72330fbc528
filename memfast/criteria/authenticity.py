"""Is the sample closer to a training item than that item's own nearest neighbour?"""

import numpy as np

from memfast.criteria.base import Criterion, Evidence, Judgement
from memfast.foundation.arguments import finite_number

DEFAULT_THRESHOLD = 1.0


class Authenticity(Criterion):
    """``d(generated, a) < d(a, nearest other training item of a)``, where ``a`` is the nearest training item.

    Score: the ratio of the two, above 0; lower means more memorized; no unit. AuthPct is the share of samples that
    are NOT flagged (ties apart).

    What it is not: rare. For a perfect generator that draws from the same distribution about half of all samples are
    flagged, and blurred averages even more; read it against the held-out figure only.

    Args:
        threshold: the ratio below which a sample counts as inauthentic; the definition's is 1.

    Source: Alaa et al. 2022; AuthPct in Stein et al. 2023 (dgm-eval).
    """

    name = "authenticity"
    title = "Inauthentic"
    definition = "d(g, a) / d(a, b) < threshold; a: training item nearest to g, b: training item nearest to a"
    source = "Alaa et al. 2022; Stein et al. 2023 (100 % - AuthPct)"
    aliases = ("authpct",)
    needs = ("neighbour_gaps",)
    high_by_nature = True

    def __init__(self, threshold: float = DEFAULT_THRESHOLD) -> None:
        self.threshold = finite_number("authenticity threshold", threshold, above=0)
        self.levels = (self.threshold,)

    @property
    def grid(self) -> np.ndarray:
        """0.04 to 2, and the threshold."""
        return np.union1d(np.round(np.arange(0.04, 2.001, 0.04), 2), self.levels)

    def why_not(self, evidence: Evidence) -> str | None:
        """It needs the neighbours' own neighbours."""
        if evidence.neighbour_gaps is None:
            return "it compares with the nearest training item's own neighbour, and there is only one training item"
        return None

    def judge(self, evidence: Evidence) -> Judgement:
        """Scores: the ratio of distances."""
        assert evidence.neighbour_gaps is not None
        nearest = evidence.squared_distances[:, 0].astype(np.float64)
        gaps = evidence.neighbour_gaps.astype(np.float64)
        scores = np.sqrt(np.divide(nearest, gaps, out=np.ones_like(nearest), where=gaps > 0))
        return Judgement(scores, self.flags(evidence, scores, self.threshold), evidence.indices[:, 0])
