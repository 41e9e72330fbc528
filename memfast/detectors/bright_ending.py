"""Bright Ending: where a memorized prompt looks at its end mark in the last step, the noise estimates differ most."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memfast.detectors.attention import checked_layers
from memfast.detectors.base import Detector, Difference, StepLike, branches, is_finished, nothing_seen
from memfast.foundation.errors import InputError

# Means over heads, layers and neighbouring pixels of float32 shares: what they differ by less is rounding.
EQUAL_WITHIN = 16 * float(np.finfo(np.float32).eps)


class BrightEnding(Detector):
    """Wen's magnitude inside a mask: ``mean_t |(eps(x_t, c) - eps(x_t)) o M|_2 / sqrt(mean(M))``.

    M is the cross-attention of the end-of-text token in the LAST step, of the layers with the most pixels, averaged
    over heads and layers, brought to the latent's size (bilinear), and cut in two by Otsu's threshold: 1 where it is
    bright. At least 0; a mask of everything gives Wen's score. The division by the root of the mask's share makes
    masks of different size comparable; the paper's own normalization could not be read, and neither could its choice of
    layers: both are this library's.

    The mask is known last, so one number per pixel and step is kept: memory grows with the steps, without channels.

    Source: Chen et al. 2024 (arXiv 2410.21665), "Exploring Local Memorization in Diffusion Models via Bright Ending".
    """

    name = "bright_ending"
    source = "Chen et al. 2024 (arXiv 2410.21665)"
    needs_attention = True
    by_default = False
    _maps: list[Tensor]
    _attention: Tensor | None

    def step(
        self, step: StepLike, *, difference: Difference | None = None, attention: Sequence[Tensor] | None = None
    ) -> None:
        """Keep this step's squared differences per pixel, and its attention in case it is the last."""
        if is_finished(step):
            return
        if self.tokens is None:
            raise InputError(self.name, expected="tokens in begin: each prompt's length", received="None")
        layers = checked_layers(attention, self.count, self.name)
        conditional, unconditional = branches(step, self.name)
        if conditional.ndim != 4:
            raise InputError(self.name, expected="latents [B, C, H, W]", received=f"shape {list(conditional.shape)}")
        self._maps.append((conditional - unconditional).float().square().sum(dim=1).cpu())
        self._attention = ending(layers, self.tokens, conditional.shape[-2:])

    def scores(self) -> np.ndarray:
        """Masked magnitude of each sample."""
        masks = torch.from_numpy(self.masks())
        squares = torch.stack([(values.double() * masks).sum(dim=(1, 2)) for values in self._maps])
        return (squares / masks.double().mean(dim=(1, 2))).sqrt().mean(dim=0).numpy()

    def masks(self) -> np.ndarray:
        """bool ``[B, H, W]``: where the end mark was bright in the last step seen."""
        if self._attention is None:
            raise nothing_seen(self.name)
        return np.stack([values >= otsu(values) for values in self._attention.numpy()])

    def _reset(self) -> None:
        self._maps = []
        self._attention = None


def ending(layers: Sequence[Tensor], tokens: np.ndarray, sides: torch.Size | tuple[int, int]) -> Tensor:
    """Attention of each sample's end mark over the picture, float32 ``[B, H, W]`` on the CPU."""
    pixels = max(layer.shape[1] for layer in layers)
    finest = torch.stack([layer.float() for layer in layers if layer.shape[1] == pixels]).mean(dim=0).cpu()
    column = torch.from_numpy(tokens)[:, None, None].expand(-1, pixels, 1) - 1
    height, width = sides
    ratio = (pixels / (height * width)) ** 0.5
    rows, columns = round(height * ratio), round(width * ratio)
    if rows * columns != pixels:
        raise InputError("attention", expected=f"pixels in the proportions {height}:{width}", received=str(pixels))
    picture = finest.gather(2, column).view(-1, 1, rows, columns)
    return functional.interpolate(picture, size=(height, width), mode="bilinear", align_corners=False)[:, 0]


def otsu(values: np.ndarray) -> float:
    """Otsu's threshold: the least value of the upper class, of the cut that leaves the most variance between classes.

    Every cut between two different values is tried (no histogram). Equal values throughout are all of the upper class;
    values whose whole spread is within a few roundings of float32 of the largest magnitude count as equal, because a
    cut between them would be the processor's and not the picture's.

    Source: Otsu 1979, IEEE Trans. Systems, Man and Cybernetics 9, 62-66.

    >>> otsu(np.array([0.0, 0.1, 0.9, 1.0, 1.1]))
    0.9
    """
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    if ordered[-1] - ordered[0] <= EQUAL_WITHIN * np.abs(ordered[[0, -1]]).max():
        return float(ordered[0])
    lower = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)
    means = sums[:-1] / lower, (sums[-1] - sums[:-1]) / (len(ordered) - lower)
    between = np.where(ordered[1:] > ordered[:-1], lower * (len(ordered) - lower) * (means[1] - means[0]) ** 2, -1.0)
    return float(ordered[1:][between.argmax()])
