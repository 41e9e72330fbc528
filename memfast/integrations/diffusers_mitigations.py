"""Wen's and Jeon's mitigations before a diffusers pipeline is called: another prompt embedding, another start."""

from collections.abc import Sequence
from typing import Any

import torch

from memfast.integrations.diffusers_branches import FirstCall, Prepared
from memfast.sampling import conditions, start_noise


def optimise_prompt(
    pipeline: Any,
    prompt: str | Sequence[str],
    *,
    target_loss: float | None,
    lr: float = conditions.LEARNING_RATE,
    iterations: int = conditions.ITERATIONS,
    weight_decay: float = conditions.WEIGHT_DECAY,
    norm: str = "image",
    **call: Any,
) -> Prepared:
    """Prompt embeddings that pull less, for a call of the pipeline::

        found = optimise_prompt(pipeline, "a prompt", target_loss=1.5, images=4, generator=generator, steps=50)
        images = pipeline(**found.arguments, num_inference_steps=50, guidance_scale=7.5).images

    AdamW on the embedding, in float32, lowers the magnitude of the text-conditional noise estimate at the first step.
    The start token's row stays exactly as it is (in the paper's code its gradient is zero but its weight still decays).

    Args:
        pipeline: a Stable Diffusion pipeline.
        prompt: one prompt, or several.
        target_loss: images whose magnitude is at most this are left alone. Wen et al. use 3 with ``norm="batch"`` and 4
            images, that is 1.5 an image; another network needs another value. None goes on for all iterations.
        lr: AdamW's learning rate.
        iterations: updates at most.
        weight_decay: AdamW's.
        norm: ``image``: one embedding and one stop per image; ``batch`` as in the paper's code: one embedding for all
            images, and one norm over them together.
        call: ``images``, ``steps``, ``negative_prompt``, ``latents``, ``generator``, ``height``, ``width`` as for
            ``FirstCall``: those of the pipeline's call that follows.

    Source: Wen et al. 2024 (ICLR), section 5.
    """
    first = FirstCall(pipeline, prompt, **call)
    start_token = torch.zeros(1, first.embeds.shape[1], 1, dtype=torch.bool, device=first.embeds.device)
    start_token[:, 0] = True
    found = conditions.reduce_gap(
        lambda embeds: first.difference(first.latents, embeds), first.embeds.float(), target_loss=target_loss, lr=lr,
        iterations=iterations, weight_decay=weight_decay, norm=norm, frozen=start_token,
    )  # fmt: skip
    return Prepared(found.values.to(first.embeds.dtype), first.negative, first.latents, found)


def optimise_latents(
    pipeline: Any,
    prompt: str | Sequence[str],
    *,
    threshold: float | None,
    lr: float = start_noise.LEARNING_RATE,
    iterations: int = start_noise.ITERATIONS,
    regularization: float = start_noise.REGULARIZATION,
    **call: Any,
) -> Prepared:
    """Starting latents where the prompt's density is not sharp (SAIL), for a call of the pipeline::

        found = optimise_latents(pipeline, "a prompt", threshold=8.2, images=4, generator=generator, steps=50)
        images = pipeline(**found.arguments, num_inference_steps=50, guidance_scale=7.5).images

    Adam on the noise, in float32; the loss is that of ``memfast.sampling.optimise_start``.

    Args:
        pipeline: a Stable Diffusion pipeline.
        prompt: one prompt, or several.
        threshold: images whose loss is at most this are left alone. Jeon et al. use 8.2 for Stable Diffusion 1. None
            goes on for all iterations.
        lr: Adam's learning rate.
        iterations: updates at most.
        regularization: weight of the noise's norm; 0.05 for Stable Diffusion 1, 0.01 for 2 in the paper's code.
        call: as for ``optimise_prompt``.

    Source: Jeon et al. 2025 (ICML, arXiv 2412.04140), algorithm 2.
    """
    first = FirstCall(pipeline, prompt, **call)
    found = start_noise.flatten_start(
        lambda noise: first.difference(noise, first.embeds), first.latents.float(), threshold=threshold, lr=lr,
        iterations=iterations, regularization=regularization,
    )  # fmt: skip
    return Prepared(first.embeds, first.negative, found.values.to(first.latents.dtype), found)
