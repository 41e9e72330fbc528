"""How well a score tells memorized from not: ROC, AUC, true positives at a share of false ones, with intervals."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.arrays import plain_array
from memfast.foundation.errors import InputError

DEFAULT_CONFIDENCE = 0.95
DEFAULT_RESAMPLES = 2000
DEFAULT_FPR = 0.01
# A share of false positives times their number, both exact in mind, may fall short of a whole number by rounding.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Roc:
    """A score's ROC curve. A sample is flagged where its score is at least the threshold.

    Attributes:
        auc: area under the curve in [0, 1]: the chance that a memorized sample scores above another one, ties counted
            half. 1 separates, 0.5 knows nothing, below 0.5 the sign is wrong.
        auc_interval: its interval: from the lower to the higher end of DeLong's on the logit scale and Newcombe's.
        fpr: float64, falling threshold: share of the others that is flagged; starts at 0, ends at 1.
        tpr: the share of the memorized that is flagged.
        thresholds: the score of each point; infinity for the first.
        positive: float64, ascending scores of the memorized.
        negative: float64, ascending scores of the others.
        confidence: coverage of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    auc: float
    auc_interval: tuple[float, float]
    fpr: np.ndarray
    tpr: np.ndarray
    thresholds: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    confidence: float = DEFAULT_CONFIDENCE
    resamples: int = DEFAULT_RESAMPLES
    seed: int = 0

    def false_positives_at(self, fpr: float = DEFAULT_FPR) -> int:
        """How many false positives a share of ``fpr`` allows: with fewer than 100 others, 1 % allows none."""
        finite_number("fpr", fpr, least=0, greatest=1)
        return int(np.floor(fpr * len(self.negative) + ROUNDING))

    def tpr_at(self, fpr: float = DEFAULT_FPR) -> tuple[float, tuple[float, float]]:
        """The greatest share of memorized samples flagged with at most ``fpr`` of the others flagged, and its interval.

        No interpolation between points: a share that the curve does not reach is not claimed. With n others the
        smallest share above 0 is 1/n, so below 100 of them "at 1 %" means "without a single false positive".

        The interval holds two things: a percentile bootstrap of both classes (the threshold moves with the others that
        were drawn) and Wilson's interval at the threshold found (the bootstrap has no width where all or none are
        flagged). It runs from the lower to the higher of their ends.
        """
        allowed = self.false_positives_at(fpr)
        found = float(_flagged(self.positive[None], self.negative[None], allowed)[0])
        generator = np.random.Generator(np.random.Philox(self.seed))
        shape = (self.resamples, len(self.positive)), (self.resamples, len(self.negative))
        positive = self.positive[generator.integers(len(self.positive), size=shape[0])]
        negative = np.sort(self.negative[generator.integers(len(self.negative), size=shape[1])], axis=1)
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(_flagged(positive, negative, allowed), [tail, 1 - tail])
        count = round(found * len(self.positive))
        wilson = stats.binomtest(count, len(self.positive)).proportion_ci(self.confidence, method="wilson")
        return found, (float(min(low, wilson.low)), float(max(high, wilson.high)))

    def best_accuracy(self) -> tuple[float, float]:
        """The greatest share of right answers on these very samples, and its threshold: optimistic for new ones."""
        right = self.tpr * len(self.positive) + (1 - self.fpr) * len(self.negative)
        place = int(right.argmax())
        return float(right[place] / (len(self.positive) + len(self.negative))), float(self.thresholds[place])

    def to_dict(self, fpr: float = DEFAULT_FPR) -> dict[str, Any]:
        """The curve and its figures as plain lists and numbers."""
        tpr, interval = self.tpr_at(fpr)
        return {
            "auc": self.auc,
            "auc_interval": list(self.auc_interval),
            "tpr_at_fpr": {
                "fpr": fpr, "tpr": tpr, "interval": list(interval), "false_positives": self.false_positives_at(fpr),
            },
            "positives": len(self.positive),
            "negatives": len(self.negative),
            "roc": {"fpr": self.fpr.tolist(), "tpr": self.tpr.tolist()},
        }  # fmt: skip


def roc(
    scores: Any,
    memorized: Any,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Roc:
    """The ROC of a detector's scores.

    Args:
        scores: ``[n]``, higher is more memorized.
        memorized: bool ``[n]``, the truth.
        confidence: coverage of the intervals.
        resamples: of the bootstrap behind ``tpr_at``.
        seed: of NumPy's Philox generator.

    Raises:
        InputError: NaN among the scores, or only one kind of samples.

    >>> found = roc([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
    >>> found.auc, found.tpr_at(0.0)[0], found.tpr_at(0.5)[0]
    (0.75, 0.5, 1.0)
    """
    values, truth = plain_array("scores", scores), plain_array("memorized", memorized)
    if values.dtype.kind not in "biuf":
        raise InputError("scores", expected="numbers", received=f"dtype {values.dtype}")
    values = values.astype(np.float64)
    if values.ndim != 1 or truth.shape != values.shape:
        raise InputError(
            "memorized", expected="one flag per score", received=f"{list(truth.shape)} for {list(values.shape)} scores"
        )
    if truth.dtype != bool and not np.isin(truth, (0, 1)).all():
        raise InputError("memorized", expected="True and False", received=f"values of {truth.dtype}")
    if np.isnan(values).any():
        raise InputError("scores", expected="numbers", received=f"{int(np.isnan(values).sum())} NaN")
    finite_number("confidence", confidence, above=0, below=1)
    whole_number("resamples", resamples, least=1)
    whole_number("seed", seed, least=0)
    truth = truth.astype(bool)
    positive, negative = np.sort(values[truth]), np.sort(values[~truth])
    if not len(positive) or not len(negative):
        raise InputError(
            "memorized", expected="both memorized samples and others",
            received=f"{len(positive)} memorized and {len(negative)} others",
        )  # fmt: skip
    auc, variance = _de_long(positive, negative)
    thresholds = np.concatenate([[np.inf], np.unique(values)[::-1]])
    return Roc(
        auc=auc,
        auc_interval=_interval(auc, variance, len(positive), len(negative), confidence),
        fpr=1 - np.searchsorted(negative, thresholds) / len(negative),
        tpr=1 - np.searchsorted(positive, thresholds) / len(positive),
        thresholds=thresholds, positive=positive, negative=negative,
        confidence=confidence, resamples=resamples, seed=seed,
    )  # fmt: skip


def _de_long(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float]:
    """Area and its variance, by the placement values.

    Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44, 837-845; by ranks, Sun and Xu 2014.
    """
    above = (np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")) / 2
    below = (np.searchsorted(positive, negative, "left") + np.searchsorted(positive, negative, "right")) / 2
    of_positive, of_negative = above / len(negative), 1 - below / len(positive)
    variance = 0.0
    for placements in (of_positive, of_negative):
        if len(placements) > 1:
            variance += float(placements.var(ddof=1)) / len(placements)
    return float(above.sum() / (len(positive) * len(negative))), variance


def _interval(auc: float, variance: float, n: int, m: int, confidence: float) -> tuple[float, float]:
    """From the lower to the higher end of two intervals: DeLong's on the logit scale, and Newcombe's.

    DeLong's own covers about 80 % near an area of 1, whatever its name promises; on the logit scale it is right for
    normal scores and short for skewed ones, where Newcombe's is right (docs/metrics.md has the measured coverage).
    """
    z = float(stats.norm.isf((1 - confidence) / 2))
    low, high = _newcombe(auc, n, m, z)
    if variance > 0 and min(n, m) > 1 and 0 < auc < 1:
        centre, half = np.log(auc / (1 - auc)), z * variance**0.5 / (auc * (1 - auc))
        low, high = min(low, float(special.expit(centre - half))), max(high, float(special.expit(centre + half)))
    return low, high


def _newcombe(auc: float, n: int, m: int, z: float) -> tuple[float, float]:
    """Areas that lie z standard deviations or less from the one found, each by its own variance; by bisection.

    Source: Newcombe 2006, Statistics in Medicine 25, 559-573, method 5 (Hanley and McNeil's variance with
    N* = (n + m) / 2 - 1 in both terms).
    """
    middle = (n + m) / 2 - 1

    def within(area: float) -> bool:
        variance = area * (1 - area) / (n * m) * (1 + middle * ((1 - area) / (2 - area) + area / (1 + area)))
        return abs(area - auc) <= z * variance**0.5

    ends = []
    for outside in (0.0, 1.0):
        inner, outer = auc, outside
        for _ in range(60):
            centre = (inner + outer) / 2
            inner, outer = (centre, outer) if within(centre) else (inner, centre)
        ends.append(outside if inner == auc == outside else inner)
    return ends[0], ends[1]


def _flagged(positive: np.ndarray, negative: np.ndarray, allowed: int) -> np.ndarray:
    """Rows of scores (negative ones ascending) -> share of positive ones above all but ``allowed`` negative ones."""
    if allowed >= negative.shape[1]:
        return np.ones(len(positive))
    bar = negative[:, negative.shape[1] - 1 - allowed]
    return (positive > bar[:, None]).mean(axis=1)
