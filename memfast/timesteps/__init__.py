"""Where along the denoising trajectory a model learns: densities over timesteps and noise levels."""

from memfast.foundation.deprecated import deprecated_names
from memfast.timesteps.adaptive import LossSecondMoment
from memfast.timesteps.bands import SpeeD, TimestepBias
from memfast.timesteps.beta import Beta
from memfast.timesteps.combined import DensitySchedule, Mixture
from memfast.timesteps.confidence_interval import ConfidenceInterval
from memfast.timesteps.custom import Custom
from memfast.timesteps.density import ContinuousDensity, Density, DiscreteDensity
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
    "ContinuousDensity",
    "CosMap",
    "Custom",
    "Density",
    "DensitySchedule",
    "DiscreteDensity",
    "GaussianMixture",
    "Laplace",
    "LogNormal",
    "LogitNormal",
    "LossSecondMoment",
    "Mixture",
    "Mode",
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

__getattr__ = deprecated_names(__name__, {"Plan": "DensitySchedule"})
