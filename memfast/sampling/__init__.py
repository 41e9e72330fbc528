"""Samplers on the noise contract: the same seed and sample id give the same start and the same fresh noise."""

from memfast.sampling.denoiser import Denoiser
from memfast.sampling.from_run import METHODS, sample
from memfast.sampling.loop import Step, fresh_noise, initial_noise
from memfast.sampling.samplers import ddim, ddpm, heun
from memfast.sampling.steps import SPACINGS, Level, levels

__all__ = [
    "METHODS",
    "SPACINGS",
    "Denoiser",
    "Level",
    "Step",
    "ddim",
    "ddpm",
    "fresh_noise",
    "heun",
    "initial_noise",
    "levels",
    "sample",
]
