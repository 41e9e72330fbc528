"""Guidance rules of ``memfast.sampling`` in a diffusers pipeline: delayed, opposite, dynamic."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from memfast.foundation.errors import InputError
from memfast.integrations.diffusers import schedule_from_scheduler
from memfast.integrations.diffusers_branches import level_of, noise_difference, unet_of
from memfast.sampling.denoiser import Guidance
from memfast.sampling.guidance import choose_guidance


@contextmanager
def guided_by(pipeline: Any, rule: float | Guidance | Mapping[str, Any]) -> Iterator[None]:
    """Within it, calls of the pipeline are guided by ``rule``::

        with guided_by(pipeline, Delayed(until=500, scale=7.5)):
            images = pipeline(prompt, guidance_scale=7.5).images

    Why not by ``callback_on_step_end`` and the pipeline's own scale: the pipeline takes that scale, whenever it is 1 or
    less, as "no guidance", and then calls its network with half the latents but all the prompts; a callback also comes
    one step late, and has one scale for all images. So the network's conditional output c is changed instead, to
    ``u + (scale / guidance_scale) (c - u)``, from which the pipeline's own arithmetic gives ``u + scale (c - u)``. The
    output is left as it is, bit for bit, where the rule's scale is the pipeline's.

    Args:
        pipeline: one with a ``unet`` that is called once per step with the unconditional and the conditional half in
            one batch (Stable Diffusion's, and most that derive from it).
        rule: from ``memfast.sampling``: ``Delayed``, ``DynamicTransition``, a dictionary of ``choose_guidance``, or a
            number. A rule sees noise estimates and timesteps; it begins anew with every call of the pipeline.

    Raises:
        InputError: in the pipeline's call: ``guidance_scale`` of 1 or less (there would be one branch only), or
            ``guidance_rescale``, which would rescale to the changed output.
    """
    network = unet_of(pipeline)
    hook = _Hook(pipeline, choose_guidance(rule))
    handle = network.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class _Hook:
    """Changes the conditional half of the network's output."""

    def __init__(self, pipeline: Any, rule: float | Guidance) -> None:
        self.pipeline, self.rule = pipeline, rule
        self.schedule, self.prediction_type = schedule_from_scheduler(pipeline.scheduler)
        self.last: tuple[int, float] | None = None

    def __call__(self, network: Any, inputs: tuple, options: dict, output: Any) -> Any:
        if not self.pipeline.do_classifier_free_guidance:
            raise InputError(
                "guidance_scale", expected="above 1, so that the pipeline asks for both branches",
                received=str(self.pipeline.guidance_scale), do="The rule's scales take its place.",
            )  # fmt: skip
        if getattr(self.pipeline, "guidance_rescale", 0.0) > 0.0:
            raise InputError("guidance_rescale", expected="0", received=str(self.pipeline.guidance_rescale))
        values = output if isinstance(output, torch.Tensor) else output[0]
        without, with_prompt = values.float().chunk(2)
        timestep = options["timestep"] if "timestep" in options else inputs[1]
        gap = with_prompt - without
        scales = self._scales(float(torch.as_tensor(timestep).flatten()[0]), gap)
        share = (scales / self.pipeline.guidance_scale).to(gap).view(-1, *[1] * (gap.ndim - 1))
        changed = torch.where(share == 1, with_prompt, without + share * gap)
        return _like(output, torch.cat([without, changed]).to(values.dtype))

    def _scales(self, timestep: float, gap: torch.Tensor) -> torch.Tensor:
        count = len(gap)
        if isinstance(self.rule, float | int):
            return torch.full((count,), float(self.rule), dtype=torch.float64, device=gap.device)
        # Timesteps fall within one call of the pipeline.
        if self.last is None or self.last[0] != count or timestep > self.last[1]:
            self.rule.begin(count)
        self.last = (count, timestep)
        level = level_of(self.schedule, timestep)
        noise = noise_difference(gap, level, self.prediction_type)
        return self.rule.scale(level, noise.double().flatten(1).norm(dim=1))


def _like(output: Any, values: torch.Tensor) -> Any:
    """``values`` in the place of the network's output, in whatever that came."""
    if isinstance(output, torch.Tensor):
        return values
    if isinstance(output, tuple):
        return (values, *output[1:])
    return type(output)(sample=values)
