"""Samplers on the noise contract: the same seed and sample id give the same start and the same fresh noise."""

from memfast.sampling.branches import branch_difference
from memfast.sampling.conditions import optimise_condition
from memfast.sampling.denoiser import Denoiser, Guidance
from memfast.sampling.descent import Optimised
from memfast.sampling.from_run import METHODS, sample
from memfast.sampling.guidance import GUIDANCES, Delayed, DynamicTransition, choose_guidance
from memfast.sampling.loop import Step, fresh_noise, initial_noise
from memfast.sampling.samplers import ddim, ddpm, heun
from memfast.sampling.start_noise import optimise_start
from memfast.sampling.steps import SPACINGS, Level, levels

__all__ = [
    "GUIDANCES",
    "METHODS",
    "SPACINGS",
    "Delayed",
    "Denoiser",
    "DynamicTransition",
    "Guidance",
    "Level",
    "Optimised",
    "Step",
    "branch_difference",
    "choose_guidance",
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
