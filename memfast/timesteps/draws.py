"""From probabilities to the integer thresholds by which ``memfast.ops.draw_timesteps`` draws exactly."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memfast.timesteps.density import Vector, normalized


def thresholds(probabilities: ArrayLike) -> NDArray[np.int64]:
    """floor(cdf_j * 2^64) - 2^63 for every j before the last bin with mass.

    A draw is one 64-bit word; its index is the number of thresholds at or below it. So a bin of probability 0 is never
    drawn, and every other has its probability to within 2^-52.

    Args:
        probabilities: ``[T]``, finite, 0 or more; divided by their sum.

    Returns:
        int64 ``[n]``, not falling; n is the index of the last bin with mass (0 where only the first has any).

    Raises:
        InputError: a probability that is NaN, infinite or negative, or none above 0.

    >>> thresholds([0.25, 0.25, 0.5])
    array([-4611686018427387904,                    0])
    """
    values = normalized(np.asarray(probabilities, dtype=np.float64), "probabilities")
    last = int(np.flatnonzero(values)[-1])
    cumulative = np.cumsum(values)
    scaled = np.floor(cumulative[:last] / cumulative[-1] * 2.0**64)
    # A float64 of 2^64 does not fit a word: the bins behind it hold less than 2^-53 together.
    words = np.full(last, 2**64 - 1, dtype=np.uint64)
    words[scaled < 2.0**64] = scaled[scaled < 2.0**64].astype(np.uint64)
    return (words ^ np.uint64(1 << 63)).view(np.int64)


def importance_weights(probabilities: ArrayLike) -> Vector:
    """1 / (T p(t)): what a loss is multiplied by to be unbiased for the uniform density; 0 where p is 0.

    >>> importance_weights([0.5, 0.25, 0.25])
    array([0.66666667, 1.33333333, 1.33333333])
    """
    values = normalized(np.asarray(probabilities, dtype=np.float64), "probabilities")
    return np.divide(1.0, len(values) * values, out=np.zeros_like(values), where=values > 0)
