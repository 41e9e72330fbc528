"""Hintersdorf et al.: do different seeds of one condition begin with the same picture?"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from memfast.detectors.base import Detector, Difference, StepLike, clean_estimates, is_finished, nothing_seen
from memfast.detectors.structural import ms_ssim
from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError

# Mean plus one standard deviation over prompts that are not memorized, Stable Diffusion 1.4.
PUBLISHED_THRESHOLD = 0.428
PAIRS_AT_ONCE = 256


class Hintersdorf(Detector):
    """Greatest MS-SSIM of a seed's first-step noise difference with those of the other seeds of its condition.

    The noise difference is ``eps(x_T, c) - x_T``: what the network wants to change in pure noise. Each channel is
    scaled to [0, 1] by its own extremes. Score in [0, 1]; the paper's score of a prompt is the greatest over its seeds,
    and it takes more than ``threshold`` as memorized.

    MS-SSIM has weights (0.33, 0.33, 0.33) and a window of 11 values. Items of fewer than 44 values a side get fewer
    scales, and below 11 a smaller window (``structural.fitting``): their scores are not on the paper's scale, and the
    threshold says nothing about them. The paper's code calls the network at the second timestep, on the noise of the
    first, and lets the stabilizing constants follow each batch's range; here it is the first timestep and range 1.

    Args:
        threshold: kept for the reader of scores, see ``flags``.

    Source: Hintersdorf et al. 2024 (NeurIPS, "NeMo"), ml-research/localizing_memorization_in_diffusion_models,
    utils/activation_detection.py.
    """

    name = "hintersdorf"
    source = "Hintersdorf et al. 2024, NeurIPS"
    least_seeds = 2
    _scores: np.ndarray | None

    def __init__(self, threshold: float = PUBLISHED_THRESHOLD) -> None:
        self.threshold = finite_number("threshold", threshold, above=0, below=1)

    def step(
        self, step: StepLike, *, difference: Difference | None = None, attention: Sequence[Tensor] | None = None
    ) -> None:
        """Compare the seeds at the first state; later ones are passed over."""
        if is_finished(step) or self._scores is not None:
            return
        if step.conditional is None:
            raise InputError(self.name, expected="the conditional estimate", received="none", do="Sample with labels.")
        if step.state.ndim not in (3, 4):
            raise InputError(
                self.name, expected="images [B, C, H, W] or signals [B, C, L]", received=str(step.state.ndim - 1)
            )
        clean = clean_estimates(step)
        # For a VP schedule the divisor is 1; a VE state is far larger than the noise in it. Without signal the change
        # is 0, and what it tends to, up to a factor that the scaling takes out, is minus the clean estimate.
        change = (
            -clean[0].float()
            if clean is not None
            else (step.conditional.float() - step.state.float() / float(np.hypot(step.alpha, step.sigma)))
        )
        self._scores = greatest_similarity(_to_unit_range(change), self.groups)

    def scores(self) -> np.ndarray:
        """Greatest similarity of each sample."""
        if self._scores is None:
            raise nothing_seen(self.name)
        return self._scores

    def flags(self) -> np.ndarray:
        """bool ``[B]``: above ``threshold``."""
        return self.scores() > self.threshold

    def _reset(self) -> None:
        self._scores = None


def greatest_similarity(pictures: Tensor, groups: np.ndarray) -> np.ndarray:
    """For each picture the greatest MS-SSIM with another one of its group, float64 ``[B]``.

    Raises:
        InputError: a group of one.
    """
    found = np.full(len(pictures), -np.inf)
    left, right = np.triu_indices(len(pictures), k=1)
    same = groups[left] == groups[right]
    left, right = left[same], right[same]
    for start in range(0, len(left), PAIRS_AT_ONCE):
        one, other = left[start : start + PAIRS_AT_ONCE], right[start : start + PAIRS_AT_ONCE]
        values = ms_ssim(pictures[torch.as_tensor(one)], pictures[torch.as_tensor(other)]).cpu().numpy()
        np.maximum.at(found, one, values)
        np.maximum.at(found, other, values)
    if np.isinf(found).any():
        raise InputError("groups", expected="at least two seeds of every condition", received="one")
    return found


def _to_unit_range(values: Tensor) -> Tensor:
    """Each sample's channels scaled to [0, 1]; a constant channel becomes 0."""
    flat = values.flatten(2)
    low, high = flat.amin(dim=2), flat.amax(dim=2)
    width = torch.where(high > low, high - low, torch.ones_like(high))
    shape = [*low.shape, *[1] * (values.ndim - 2)]
    return (values - low.view(shape)) / width.view(shape)
