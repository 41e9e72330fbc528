"""One number over several seeds: its mean, and how far it spreads."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

# Student's interval of three values is 4.3 standard errors wide: below this many seeds their range says more.
LEAST_FOR_T = 5
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A mean over seeds with an interval.

    Attributes:
        mean: over the seeds.
        low: the interval's lower end.
        high: its upper end.
        count: how many seeds.
    """

    mean: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Student's 95 % interval of the mean for 5 values or more, otherwise the least to the greatest value.

        >>> Spread.of([1.0, 2.0, 6.0])
        Spread(mean=3.0, low=1.0, high=6.0, count=3)
        """
        numbers = np.asarray(list(values), dtype=np.float64)
        if numbers.size == 0 or not np.isfinite(numbers).all():
            raise ValueError(f"expected finite numbers, received {numbers.tolist()}")
        mean, count = float(numbers.mean()), len(numbers)
        if count < LEAST_FOR_T:
            return cls(mean, float(numbers.min()), float(numbers.max()), count)
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * numbers.std(ddof=1) / np.sqrt(count))
        return cls(mean, mean - half, mean + half, count)

    def text(self, form: str = ".2f", unit: str = "") -> str:
        """The mean with the interval behind it.

        >>> Spread.of([1.0, 2.0, 6.0]).text(".1f", " %")
        '3.0 % (1.0 to 6.0)'
        """
        return f"{self.mean:{form}}{unit} ({self.low:{form}} to {self.high:{form}})"


def kind_of_interval(count: int) -> str:
    """What the brackets behind a mean of ``count`` seeds hold, in words."""
    if count < LEAST_FOR_T:
        return f"mean of {count} seeds (least to greatest)"
    return f"mean of {count} seeds (Student's 95 % interval)"
