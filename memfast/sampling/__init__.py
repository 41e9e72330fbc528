"""Samplers on the noise contract: the same seed and sample id give the same start and the same fresh noise."""

from typing import Any

from memfast.foundation.deprecated import warn_deprecated
from memfast.sampling.branches import branch_difference
from memfast.sampling.conditions import optimise_condition
from memfast.sampling.denoiser import Denoiser, Guidance
from memfast.sampling.descent import Optimised
from memfast.sampling.from_run import sample
from memfast.sampling.guidance import GUIDANCES, Delayed, DynamicTransition, choose_guidance
from memfast.sampling.loop import fresh_noise, initial_noise
from memfast.sampling.request import SamplingRequest
from memfast.sampling.samplers import DDIM, DDPM, SAMPLERS, Heun, Sampler, choose_sampler, ddim, ddpm, heun
from memfast.sampling.start_noise import optimise_start
from memfast.sampling.state import Step
from memfast.sampling.steps import SPACINGS, Level, levels

__all__ = [
    "DDIM",
    "DDPM",
    "GUIDANCES",
    "SAMPLERS",
    "SPACINGS",
    "Delayed",
    "Denoiser",
    "DynamicTransition",
    "Guidance",
    "Heun",
    "Level",
    "Optimised",
    "Sampler",
    "SamplingRequest",
    "Step",
    "branch_difference",
    "choose_guidance",
    "choose_sampler",
    "ddim",
    "ddpm",
    "fresh_noise",
    "heun",
    "initial_noise",
    "levels",
    "optimise_condition",
    "optimise_start",
    "sample",
]


def __getattr__(name: str) -> Any:
    if name == "METHODS":
        warn_deprecated("memfast.sampling.METHODS", "memfast.sampling.SAMPLERS", stacklevel=2)
        return {"ddim": ddim, "ddpm": ddpm, "heun": heun}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
