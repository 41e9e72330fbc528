"""Ren et al.: memorized prompts spread their cross-attention over tokens that mean nothing."""

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from memfast.detectors.base import Detector, Difference, StepLike, is_finished, nothing_seen
from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError

LAST_STEPS = 10
PUBLISHED_LAYER = 3


class Ren(Detector):
    """Entropy of the cross-attention late in the run, plus how much its padding part has grown since the first step.

    ``mean over the last steps of (E_t + P_t) - P_0``, with ``E_t = -sum a log a`` over all tokens and ``P_t`` the same
    sum over the end mark and the padding behind it; a is the attention averaged over layers, heads and pixels, so it
    sums to 1 over tokens. In nats; higher means that attention is scattered: memorized.

    Args:
        last_steps: how many steps at the end; the paper's 10 belong to runs of 50.

    Source: Ren et al. 2024 (ECCV, "Unveiling and Mitigating Memorization in Text-to-image Diffusion Models through
    Cross Attention"), renjie3/MemAttn, detect.py, mode D.
    """

    name = "ren"
    source = "Ren et al. 2024, ECCV"
    needs_attention = True
    by_default = False
    _first: np.ndarray | None
    _late: deque[np.ndarray]

    def __init__(self, last_steps: int = LAST_STEPS) -> None:
        self.last_steps = whole_number("last_steps", last_steps, least=1)

    def step(
        self, step: StepLike, *, difference: Difference | None = None, attention: Sequence[Tensor] | None = None
    ) -> None:
        """Keep this step's two entropies."""
        if is_finished(step):
            return
        if self.tokens is None:
            raise InputError(self.name, expected="tokens in begin: each prompt's length", received="None")
        shares = token_shares(checked_layers(attention, self.count, self.name))
        terms = entropy_terms(shares)
        behind = np.arange(terms.shape[1])[None] >= self.tokens[:, None] - 1
        padding = np.where(behind, terms, 0.0).sum(axis=1)
        if self._first is None:
            self._first = padding
        self._late.append(terms.sum(axis=1) + padding)

    def scores(self) -> np.ndarray:
        """Entropy score of each sample."""
        if self._first is None:
            raise nothing_seen(self.name)
        return np.mean(self._late, axis=0) - self._first

    def _reset(self) -> None:
        self._first = None
        self._late = deque(maxlen=self.last_steps)


class RenFirst(Detector):
    """Entropy over the tokens of ONE layer's cross-attention at the first step, in nats; before anything is drawn.

    Args:
        layer: which cross-attention layer, counted from 0 in the order of the forward pass. The paper's 3 is of Stable
            Diffusion; another network has other layers.

    Source: as ``Ren``, mode E.
    """

    name = "ren_first"
    source = "Ren et al. 2024, ECCV"
    needs_attention = True
    by_default = False
    _scores: np.ndarray | None

    def __init__(self, layer: int = PUBLISHED_LAYER) -> None:
        self.layer = layer

    def step(
        self, step: StepLike, *, difference: Difference | None = None, attention: Sequence[Tensor] | None = None
    ) -> None:
        """Take the entropy of the first state; later ones are passed over."""
        if is_finished(step) or self._scores is not None:
            return
        layers = checked_layers(attention, self.count, self.name)
        if not 0 <= self.layer < len(layers):
            raise InputError("layer", expected=f"0 to {len(layers) - 1}", received=str(self.layer))
        self._scores = entropy_terms(token_shares([layers[self.layer]])).sum(axis=1)

    def scores(self) -> np.ndarray:
        """Entropy of each sample."""
        if self._scores is None:
            raise nothing_seen(self.name)
        return self._scores

    def _reset(self) -> None:
        self._scores = None


def checked_layers(attention: Sequence[Tensor] | None, count: int, who: str) -> Sequence[Tensor]:
    """``attention`` if it is one ``[count, pixels, tokens]`` tensor per layer."""
    if not attention:
        raise InputError(
            who, expected="attention, one tensor per cross-attention layer", received="none",
            do="Capture it with memfast.integrations.capture_attention.",
        )  # fmt: skip
    for layer in attention:
        if layer.ndim != 3 or len(layer) != count or layer.shape[2] != attention[0].shape[2]:
            raise InputError(
                who, expected=f"attention [{count}, pixels, {attention[0].shape[-1]} tokens]",
                received=f"shape {list(layer.shape)}",
            )  # fmt: skip
    return attention


def token_shares(layers: Sequence[Tensor]) -> np.ndarray:
    """Each token's share of the attention, float64 ``[B, tokens]``: mean over pixels, then over layers."""
    return torch.stack([layer.double().mean(dim=1) for layer in layers]).mean(dim=0).cpu().numpy()


def entropy_terms(shares: np.ndarray) -> np.ndarray:
    """``-a log a`` of each share, 0 where a share is 0."""
    return -shares * np.log(np.where(shares > 0, shares, 1.0))
