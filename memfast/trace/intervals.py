"""Intervals of what a trace reports: means over seeds, and correlations over conditions."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from memfast.foundation.errors import InputError
from memfast.results.trace import Correlation

CONFIDENCE = 0.95
# Two points lie on a line whatever they are; Fisher's interval divides by sqrt(n - 3).
LEAST_FOR_CORRELATION, LEAST_FOR_INTERVAL = 3, 4


class MeanCurve(NamedTuple):
    """A mean over seeds and its interval, each ``[...]``; NaN where a single seed tells no spread."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def mean_over_seeds(values: ArrayLike, confidence: float = CONFIDENCE) -> MeanCurve:
    """Mean over the last axis and Student's t interval of it.

    Args:
        values: ``[..., K]``, K seeds.
        confidence: the coverage.

    >>> curve = mean_over_seeds([[1.0, 2.0, 3.0]])
    >>> curve.mean[0].item(), round(curve.low[0].item(), 3)
    (2.0, -0.484)
    """
    found = np.asarray(values, np.float64)
    count = found.shape[-1]
    mean = found.mean(axis=-1)
    if count < 2:
        return MeanCurve(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    half = stats.t.ppf(0.5 + confidence / 2, count - 1) * found.std(axis=-1, ddof=1) / np.sqrt(count)
    return MeanCurve(mean, mean - half, mean + half)


def correlation(x: ArrayLike, y: ArrayLike, confidence: float = CONFIDENCE) -> Correlation:
    """Pearson's r and Fisher's interval of it; points with a NaN are left out.

    None for fewer than three points, which would give 1 or -1 whatever they are, and where one side is constant.

    Args:
        x: ``[N]``.
        y: ``[N]``.
        confidence: the coverage.

    >>> correlation([1, 2, 3, 4, 5], [1, 3, 2, 5, 4]).pearson
    0.8
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise InputError("x, y", expected="two vectors of one length", received=f"shapes {a.shape} and {b.shape}")
    real = np.isfinite(a) & np.isfinite(b)
    a, b, n = a[real], b[real], int(real.sum())
    if n < LEAST_FOR_CORRELATION or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(None, None, n)
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))
    if n < LEAST_FOR_INTERVAL:
        return Correlation(round(r, 15), None, n)
    half = stats.norm.ppf(0.5 + confidence / 2) / np.sqrt(n - 3)
    with np.errstate(divide="ignore"):
        centre = np.arctanh(r)
    return Correlation(round(r, 15), (float(np.tanh(centre - half)), float(np.tanh(centre + half))), n)
