"""The two branches of guidance in a diffusers pipeline: what the prompt does to the noise estimate of its network."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from memfast.foundation.errors import InputError
from memfast.integrations.diffusers import schedule_from_scheduler
from memfast.sampling.descent import Optimised
from memfast.sampling.steps import Level
from memfast.schedules import Schedule, x0_and_noise


@dataclass(frozen=True)
class Prepared:
    """What a pipeline is to be called with; ``pipeline(**prepared.arguments, num_inference_steps=..., ...)``.

    Attributes:
        prompt_embeds: ``[B, tokens, width]``, one per image.
        negative_prompt_embeds: likewise, of the unconditional branch.
        latents: ``[B, C, h, w]``, unit noise; the pipeline scales it itself.
        descent: the losses on the way here, see ``memfast.sampling.Optimised``.
    """

    prompt_embeds: torch.Tensor
    negative_prompt_embeds: torch.Tensor
    latents: torch.Tensor
    descent: Optimised

    @property
    def arguments(self) -> dict[str, torch.Tensor]:
        """The pipeline's arguments."""
        return {
            "prompt_embeds": self.prompt_embeds,
            "negative_prompt_embeds": self.negative_prompt_embeds,
            "latents": self.latents,
        }


class FirstCall:
    """A pipeline's first call of its network, with everything that goes into it open to change.

    Args:
        pipeline: a ``StableDiffusionPipeline`` or one with the same ``unet``, ``scheduler`` and ``encode_prompt``.
        prompt: one prompt, or one per image.
        images: images per prompt.
        steps: of the run that is to follow: it decides the first timestep.
        negative_prompt: as for the pipeline.
        latents: ``[B, C, h, w]``, unit noise; drawn with ``generator`` as the pipeline would if it is None.
        generator: as for the pipeline.
        height: of the images in pixels, by default the network's own.
        width: likewise.

    Attributes:
        embeds: ``[B, tokens, width]``, the prompts.
        negative: likewise, of the unconditional branch.
        latents: ``[B, C, h, w]``, unit noise in the network's dtype.
    """

    def __init__(
        self,
        pipeline: Any,
        prompt: str | Sequence[str],
        *,
        images: int = 1,
        steps: int = 50,
        negative_prompt: str | Sequence[str] | None = None,
        latents: torch.Tensor | None = None,
        generator: Any = None,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        from diffusers.utils.torch_utils import randn_tensor

        self.network = unet_of(pipeline)
        self.scheduler = pipeline.scheduler
        self.schedule, self.prediction_type = schedule_from_scheduler(self.scheduler)
        _check_text_conditioned(pipeline)
        device, dtype = self.network.device, self.network.dtype
        prompts: Any = prompt if isinstance(prompt, str) else list(prompt)
        with torch.no_grad():
            encoded = pipeline.encode_prompt(prompts, device, images, True, negative_prompt)
        self.embeds, self.negative = (part.detach().to(device, dtype) for part in encoded)
        side = self.network.config["sample_size"]
        sides = side if isinstance(side, Sequence) else (side, side)
        rows, columns = (
            default if asked is None else asked // pipeline.vae_scale_factor
            for asked, default in zip((height, width), sides, strict=True)
        )
        shape = (len(self.embeds), self.network.config["in_channels"], rows, columns)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        if tuple(latents.shape) != shape:
            raise InputError("latents", expected=f"shape {list(shape)}", received=f"shape {list(latents.shape)}")
        self.latents = latents.to(device, dtype)
        self.scheduler.set_timesteps(steps, device=device)
        self.timestep = self.scheduler.timesteps[0]

    def difference(self, latents: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
        """Conditional minus unconditional noise estimate, float32 ``[B, C, h, w]``, for unit noise and embeddings.

        At a level without signal (alpha = 0) it is unconditional minus conditional clean estimate.
        """
        dtype = self.network.dtype
        state = self.scheduler.scale_model_input(latents * self.scheduler.init_noise_sigma, self.timestep).to(dtype)
        both = torch.cat([self.negative, embeds.to(dtype)])
        output = self.network(torch.cat([state, state]), self.timestep, encoder_hidden_states=both, return_dict=False)
        without, with_prompt = output[0].float().chunk(2)
        level, outputs = level_of(self.schedule, self.timestep), with_prompt - without
        if level.alpha > 0:
            return noise_difference(outputs, level, self.prediction_type)
        # Without signal the noise estimates are equal, whatever the network says.
        return -x0_and_noise(outputs, torch.zeros_like(outputs), level.alpha, level.sigma, self.prediction_type)[0]


def unet_of(pipeline: Any) -> Any:
    """The pipeline's ``unet``.

    Raises:
        InputError: it has none.
    """
    network = getattr(pipeline, "unet", None)
    if network is None:
        raise InputError("pipeline", expected="a diffusers pipeline with a unet", received=type(pipeline).__name__)
    return network


def _check_text_conditioned(pipeline: Any) -> None:
    """Refuse pipelines whose prompts are more than one embedding each."""
    encode = getattr(pipeline, "encode_prompt", None)
    arguments = [] if encode is None else list(inspect.signature(encode).parameters)
    further = getattr(unet_of(pipeline).config, "addition_embed_type", None)
    if arguments[:4] != ["prompt", "device", "num_images_per_prompt", "do_classifier_free_guidance"] or further:
        raise InputError(
            "pipeline", expected="one whose prompts are one embedding each: Stable Diffusion 1 or 2",
            received=type(pipeline).__name__,
            do="A guidance rule (memfast.integrations.guided_by) also works with Stable Diffusion XL.",
        )  # fmt: skip


def level_of(schedule: Schedule, timestep: Any) -> Level:
    """The noise level of a pipeline's timestep (a number or a tensor of equal ones), rounded to a whole one."""
    first = timestep.flatten()[0].item() if isinstance(timestep, torch.Tensor) else timestep
    row = min(max(round(float(first)), 0), len(schedule) - 1)
    return Level(row, row, float(schedule.alpha[row]), float(schedule.sigma[row]))


def noise_difference(outputs: torch.Tensor, level: Level, prediction_type: str) -> torch.Tensor:
    """A difference of two network outputs for one state, as the difference of the noise estimates."""
    if prediction_type == "epsilon":
        return outputs
    # The noise is affine in (output, state): for a difference of outputs the state drops out.
    return x0_and_noise(outputs, torch.zeros_like(outputs), level.alpha, level.sigma, prediction_type)[1]
