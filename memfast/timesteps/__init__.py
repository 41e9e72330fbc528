"""Where along the denoising trajectory a model learns: densities over timesteps and noise levels."""

from memfast.timesteps.confidence_interval import ConfidenceInterval
from memfast.timesteps.density import Density
from memfast.timesteps.draws import importance_weights, thresholds
from memfast.timesteps.gaussian import GaussianMixture
from memfast.timesteps.learning import learning_contribution, learning_contribution_slope
from memfast.timesteps.registry import DENSITIES, density_from_dict
from memfast.timesteps.uniform import Uniform

__all__ = [
    "DENSITIES",
    "ConfidenceInterval",
    "Density",
    "GaussianMixture",
    "Uniform",
    "density_from_dict",
    "importance_weights",
    "learning_contribution",
    "learning_contribution_slope",
    "thresholds",
]
