"""The cross-attention of a diffusers network, recorded as it goes, without changing what the network computes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from memfast.foundation.errors import InputError

CROSS_ATTENTION = "attn2.processor"


class AttentionCapture:
    """What ``capture_attention`` recorded of the network's last call.

    Attributes:
        names: the cross-attention layers in the order in which they ran.
        layers: one float32 tensor ``[B, pixels, tokens]`` for each, averaged over heads; sums to 1 over tokens. The
            ``attention`` that detectors take.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.layers: list[torch.Tensor] = []

    def clear(self) -> None:
        """Forget the last call."""
        self.names, self.layers = [], []


@contextmanager
def capture_attention(network: Any, *, guided: bool = True) -> Iterator[AttentionCapture]:
    """Within it, every call of ``network`` leaves its cross-attention in the capture, the last call's only::

        with capture_attention(pipeline.unet) as capture:
            pipeline(prompt, callback_on_step_end=lambda p, i, t, given: watch(capture.layers) or given)

    The probabilities are computed a second time beside the network's own processors, which run as before: outputs stay
    bit for bit the same, and any processor of the network's will do as long as its layer has plain queries and keys.
    The processors are put back on leaving.

    Args:
        network: a ``UNet2DConditionModel``.
        guided: keep the conditional half of a batch that holds both branches (the second one); False keeps all.

    Raises:
        InputError: a network without cross-attention of that kind.
    """
    before = dict(getattr(network, "attn_processors", {}))
    chosen = [name for name in before if name.endswith(CROSS_ATTENTION)]
    if not chosen:
        raise InputError(
            "network", expected="a diffusers network with cross-attention layers", received=type(network).__name__
        )
    capture = AttentionCapture()
    recorders = {name: _Recorder(before[name], name, capture, guided) for name in chosen}
    handle = network.register_forward_pre_hook(lambda *_: capture.clear())
    network.set_attn_processor({**before, **recorders})
    try:
        yield capture
    finally:
        handle.remove()
        network.set_attn_processor(before)


def prompt_tokens(pipeline: Any, prompts: str | Sequence[str]) -> np.ndarray:
    """int64 ``[B]``: how many tokens each prompt has, its start and end marks included; ``tokens`` of a detector."""
    tokenizer = pipeline.tokenizer
    listed = [prompts] if isinstance(prompts, str) else list(prompts)
    if hasattr(pipeline, "maybe_convert_prompt"):
        # A word of several vectors (textual inversion) becomes several words before it is tokenized.
        listed = pipeline.maybe_convert_prompt(listed, tokenizer)
    ids = tokenizer(listed, truncation=True, max_length=tokenizer.model_max_length).input_ids
    return np.array([len(one) for one in ids], dtype=np.int64)


class _Recorder:
    """An attention processor that records and then lets the layer's own processor work."""

    def __init__(self, inner: Any, name: str, capture: AttentionCapture, guided: bool) -> None:
        self.inner, self.name, self.capture, self.guided = inner, name, capture, guided

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: Any = None,
        *rest: Any,
        ip_adapter_masks: Any = None,
        **options: Any,
    ) -> torch.Tensor:
        if encoder_hidden_states is not None:
            # An IP-Adapter's images come beside the text; they have attention of their own.
            tokens = encoder_hidden_states[0] if isinstance(encoder_hidden_states, tuple) else encoder_hidden_states
            mask = rest[0] if rest else options.get("attention_mask")
            with torch.no_grad():
                self._record(attn, hidden_states, tokens, mask)
        # Processors take different arguments (those of attention slicing fewer): they get what the layer gave.
        if ip_adapter_masks is not None:
            options["ip_adapter_masks"] = ip_adapter_masks
        found: torch.Tensor = self.inner(attn, hidden_states, encoder_hidden_states, *rest, **options)
        return found

    def _record(self, attn: Any, pixels: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor | None) -> None:
        if pixels.ndim != 3 or attn.group_norm is not None or attn.spatial_norm is not None:
            raise InputError(
                self.name, expected="plain cross-attention over [B, pixels, width]", received="another kind"
            )
        count = len(pixels)
        if attn.norm_cross:
            tokens = attn.norm_encoder_hidden_states(tokens)
        query, key = attn.head_to_batch_dim(attn.to_q(pixels)), attn.head_to_batch_dim(attn.to_k(tokens))
        mask = attn.prepare_attention_mask(mask, tokens.shape[1], count)
        heads = attn.get_attention_scores(query, key, mask).unflatten(0, (count, attn.heads))
        shares = heads.float().mean(dim=1)
        self.capture.names.append(self.name.removesuffix(".processor"))
        self.capture.layers.append(shares[count // 2 :] if self.guided else shares)
