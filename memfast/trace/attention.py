"""The cross-attention of a diffusers U-Net while it runs: which token each place of the image looks at."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class CrossAttention:
    """Computes one cross-attention layer in the open and keeps its probabilities, averaged over heads.

    Args:
        kept: layer name -> probabilities of the last call ``[B, pixels, tokens]``; this layer writes its own.
        name: the layer's.
        rows: samples with a prompt: the last so many of a call.
    """

    def __init__(self, kept: dict[str, torch.Tensor], name: str, rows: int) -> None:
        self.kept, self.name, self.rows = kept, name, rows

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        **options: Any,
    ) -> torch.Tensor:
        """The layer, as diffusers' plain processor computes it for ``[B, pixels, channels]``."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        count, tokens, _ = context.shape
        mask = attn.prepare_attention_mask(attention_mask, tokens, count)
        if encoder_hidden_states is not None and attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)
        query, key, value = (
            attn.head_to_batch_dim(project(source))
            for project, source in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        probabilities = attn.get_attention_scores(query, key, mask)
        heads = probabilities.detach().reshape(count, -1, *probabilities.shape[1:])
        self.kept[self.name] = heads[-self.rows :].float().mean(1)
        found = attn.batch_to_head_dim(torch.bmm(probabilities, value))
        found = attn.to_out[1](attn.to_out[0](found))
        if attn.residual_connection:
            found = found + hidden_states
        return found / attn.rescale_output_factor


@contextmanager
def cross_attention(network: Any, rows: int) -> Iterator[dict[str, torch.Tensor]]:
    """Watch every cross-attention layer of a diffusers U-Net; on the way out its processors are as they were.

    Gives the dictionary of probabilities that each call of the network fills, in the layers' order.
    """
    kept: dict[str, torch.Tensor] = {}
    before = dict(network.attn_processors)
    network.set_attn_processor(
        {
            name: CrossAttention(kept, name, rows) if ".attn2." in name else processor
            for name, processor in before.items()
        }
    )
    try:
        yield kept
    finally:
        network.set_attn_processor(before)
