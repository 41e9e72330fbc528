"""Where along the denoising trajectory a model learns: densities over timesteps and noise levels."""

from memfast.timesteps.adaptive import LossSecondMoment
from memfast.timesteps.bands import SpeeD, TimestepBias
from memfast.timesteps.beta import Beta
from memfast.timesteps.changing import Plan
from memfast.timesteps.confidence_interval import ConfidenceInterval
from memfast.timesteps.custom import Custom, Mixture
from memfast.timesteps.density import Density
from memfast.timesteps.draws import importance_weights, thresholds
from memfast.timesteps.gaussian import GaussianMixture
from memfast.timesteps.laplace import Laplace
from memfast.timesteps.learning import learning_contribution, learning_contribution_slope
from memfast.timesteps.log_normal import LogNormal
from memfast.timesteps.plot import plot_densities
from memfast.timesteps.registry import DENSITIES, density_from_dict
from memfast.timesteps.stable_diffusion_3 import CosMap, LogitNormal, Mode
from memfast.timesteps.student_t import StudentT
from memfast.timesteps.uniform import Uniform

__all__ = [
    "DENSITIES",
    "Beta",
    "ConfidenceInterval",
    "CosMap",
    "Custom",
    "Density",
    "GaussianMixture",
    "Laplace",
    "LogNormal",
    "LogitNormal",
    "LossSecondMoment",
    "Mixture",
    "Mode",
    "Plan",
    "SpeeD",
    "StudentT",
    "TimestepBias",
    "Uniform",
    "density_from_dict",
    "importance_weights",
    "learning_contribution",
    "learning_contribution_slope",
    "plot_densities",
    "thresholds",
]
