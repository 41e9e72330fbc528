"""Multi-scale structural similarity of two pictures, for pictures down to a single row of values."""

import torch
from torch import Tensor
from torch.nn import functional

WEIGHTS = (0.33, 0.33, 0.33)
WINDOW, WINDOW_SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def ms_ssim(first: Tensor, second: Tensor, weights: tuple[float, ...] = WEIGHTS, window: int = WINDOW) -> Tensor:
    """MS-SSIM of each pair, float32 ``[B]`` in [0, 1]; 1 for equal pictures.

    Product over scales of the mean contrast-structure term (at the coarsest scale of the full term), negative means
    taken as 0, each to its weight; from scale to scale pictures are averaged 2 by 2. Gaussian window of sigma 1.5; the
    contrast term where it fits whole, the full term on the picture continued by reflection, as in torchmetrics.

    A picture too small for that gets what ``fitting`` says: fewer scales, and where not even one fits a smaller window.

    Args:
        first: ``[B, C, H, W]``, or ``[B, C, L]``, values in [0, 1].
        second: the same shape.
        weights: exponent per scale, finest first. The defaults are those of Hintersdorf et al. 2024.
        window: side of the window, odd.

    Source: Wang, Simoncelli and Bovik 2003.
    """
    if first.ndim == 3:
        first, second = first[:, :, None], second[:, :, None]
    scales, sides = fitting(first.shape[-2:], len(weights), window)
    product = torch.ones(len(first), dtype=first.dtype, device=first.device)
    for scale in range(scales):
        full, contrast = _ssim(first, second, sides)
        product = product * (full if scale == scales - 1 else contrast).clamp_min(0) ** weights[scale]
        # A side of one value is a signal's missing one and is left alone.
        pool = tuple(2 if side > 1 else 1 for side in first.shape[-2:])
        first, second = functional.avg_pool2d(first, pool), functional.avg_pool2d(second, pool)
    return product


def fitting(sides: torch.Size | tuple[int, ...], scales: int, window: int) -> tuple[int, tuple[int, int]]:
    """How many scales fit, at most ``scales``, and the window's height and width.

    >>> fitting((64, 64), 3, 11), fitting((14, 14), 3, 11), fitting((8, 8), 3, 11), fitting((1, 140), 3, 11)
    ((3, (11, 11)), (1, (11, 11)), (1, (7, 7)), (3, (1, 11)))
    """
    height, width = sides
    longest = [side for side in (height, width) if side > 1] or [1]
    shortest = min(longest)
    window = min(window, shortest - 1 + shortest % 2)
    while scales > 1 and shortest // 2 ** (scales - 1) < window:
        scales -= 1
    return scales, (window if height > 1 else 1, window if width > 1 else 1)


def _ssim(first: Tensor, second: Tensor, sides: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Means over positions and channels of the full and of the contrast-structure term, ``[B]`` each."""
    batch, channels = first.shape[:2]
    rows, columns = sides[0] // 2, sides[1] // 2
    stacked = torch.cat([first, second, first * first, second * second, first * second]).flatten(0, 1)[:, None]
    stacked = functional.pad(stacked, (columns, columns, rows, rows), mode="reflect")
    for axis, side in enumerate(sides):
        shape = [1, 1, 1, 1]
        shape[2 + axis] = side
        stacked = functional.conv2d(stacked, _gaussian(side, stacked).view(shape))
    mean_1, mean_2, square_1, square_2, product = stacked.view(5, batch, channels, *stacked.shape[-2:])
    variances = (square_1 - mean_1**2).clamp_min(0) + (square_2 - mean_2**2).clamp_min(0)
    contrast = (2 * (product - mean_1 * mean_2) + K2**2) / (variances + K2**2)
    luminance = (2 * mean_1 * mean_2 + K1**2) / (mean_1**2 + mean_2**2 + K1**2)
    height, width = contrast.shape[-2:]
    inside = contrast[..., rows : height - rows, columns : width - columns]
    return (luminance * contrast).mean(dim=(1, 2, 3)), inside.mean(dim=(1, 2, 3))


def _gaussian(side: int, like: Tensor) -> Tensor:
    places = torch.arange(side, dtype=like.dtype, device=like.device) - (side - 1) / 2
    weights = torch.exp(-0.5 * (places / WINDOW_SIGMA) ** 2)
    return weights / weights.sum()
