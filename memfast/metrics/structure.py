"""Structural similarity of image pairs: luminance, contrast and structure in local windows, without a network."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from memfast.foundation.arguments import finite_number
from memfast.foundation.arrays import plain_array
from memfast.foundation.errors import InputError
from memfast.metrics.base import Metric, MetricInputs, MetricOutcome, MetricValue
from memfast.metrics.intervals import mean_interval

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
NUMBERS_AT_ONCE = 1 << 22


def structural_similarity(x: Any, y: Any, *, data_range: float | None = None) -> np.ndarray:
    """SSIM of each pair of images: float64 ``[n]``, -1 to 1, 1 for equal images.

    Gaussian windows of 11 x 11 pixels with a deviation of 1.5 that lie wholly within the image; the mean over windows
    and channels. It needs no network and no weights, so it says how alike two pictures are in their pixels, not in what
    they show.

    Args:
        x: ``[n, H, W]`` or ``[n, H, W, C]`` with 1, 3 or 4 channels, H and W of at least 11.
        y: the same, pair by pair.
        data_range: greatest minus least possible value; None takes 255 for uint8 and 1 for floats.

    Raises:
        InputError: another shape, sets of different shape or dtype, or values that are not finite.

    Source: Wang et al. 2004.
    """
    first, second = _images("x", x), _images("y", y)
    if first.shape != second.shape:
        raise InputError("y", expected=f"images {list(first.shape)}, as x", received=f"{list(second.shape)}")
    if (first.dtype == np.uint8) != (second.dtype == np.uint8):
        raise InputError("y", expected=f"{first.dtype} values, as x", received=f"{second.dtype} values")
    if data_range is None:
        data_range = 255.0 if first.dtype == np.uint8 else 1.0
    finite_number("data_range", data_range, above=0)
    step = max(1, NUMBERS_AT_ONCE // int(np.prod(first.shape[1:])))
    parts = [
        _similarities(first[start : start + step], second[start : start + step], data_range)
        for start in range(0, len(first), step)
    ]
    return np.concatenate(parts)


@dataclass(frozen=True)
class StructuralSimilarity(Metric):
    """`structural_similarity` of each generated image to its nearest training image."""

    name: ClassVar = "structural_similarity"
    summary: ClassVar = "mean SSIM of each generated image and its nearest training image"
    source: ClassVar = "Wang et al. 2004"
    values: ClassVar = (MetricValue("structural_similarity", "none", "higher", -1.0, 1.0, "bootstrap"),)
    needs: ClassVar = ("images",)
    data_range: float = 1.0

    def __post_init__(self) -> None:
        finite_number("data_range", self.data_range, above=0)

    @property
    def least(self) -> dict[str, int]:
        """One pair."""
        return {"generated": 1, "training": 1}

    @property
    def searches(self) -> tuple[tuple[str, str, int], ...]:
        """The nearest training image in pixels."""
        return (("generated", "training", 1),)

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """Five filters of two passes."""
        return 10 * m * d * 2 * WINDOW

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """Per sample, so that classes have their own means."""
        shape = inputs.image_shape
        assert shape is not None
        partners = inputs.neighbors.nearest("generated", "training", 1)[1][:, 0]
        samples = structural_similarity(
            inputs.generated.reshape(-1, *shape), inputs.training[partners].reshape(-1, *shape),
            data_range=self.data_range,
        )  # fmt: skip
        interval = mean_interval(samples, seed=inputs.seed)
        return {"structural_similarity": MetricOutcome(float(samples.mean()), interval, {}, samples)}


def _images(name: str, value: Any) -> np.ndarray:
    array = plain_array(name, value)
    if array.dtype.kind not in "biuf":
        raise InputError(name, expected="real numbers", received=f"dtype {array.dtype}")
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3, 4) or min(array.shape[1:3]) < WINDOW or not len(array):
        raise InputError(
            name, expected=f"images [n, H, W] or [n, H, W, C], C of 1, 3 or 4, H and W of at least {WINDOW}",
            received=f"shape {list(array.shape)}", do="Move channels to the last axis.",
        )  # fmt: skip
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(name, expected="finite values", received="a NaN or an infinity")
    return array


def _similarities(x: np.ndarray, y: np.ndarray, data_range: float) -> np.ndarray:
    # [n C, 1, H, W] in units of the range: squares stay small.
    a, b = (
        torch.from_numpy(np.moveaxis(part.astype(np.float64) / data_range, 3, 1).copy()).flatten(0, 1)[:, None]
        for part in (x, y)
    )
    means = [_smooth(one) for one in (a, b, a * a, b * b, a * b)]
    mean_a, mean_b = means[:2]
    variance_a, variance_b = ((means[i] - means[i - 2] ** 2).clamp_min(0) for i in (2, 3))
    covariance = means[4] - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return (top / bottom).flatten(1).mean(dim=1).view(len(x), -1).mean(dim=1).numpy()


def _smooth(images: torch.Tensor) -> torch.Tensor:
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    rows = torch.nn.functional.conv2d(images, weights.view(1, 1, -1, 1))
    return torch.nn.functional.conv2d(rows, weights.view(1, 1, 1, -1))
