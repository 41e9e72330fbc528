"""The densities by name, for configurations. To add one: write its class and add it here."""

from collections.abc import Mapping
from typing import Any

from memfast.foundation.registry import Registry
from memfast.timesteps.adaptive import LossSecondMoment
from memfast.timesteps.bands import SpeeD, TimestepBias
from memfast.timesteps.beta import Beta
from memfast.timesteps.combined import DensitySchedule, Mixture
from memfast.timesteps.confidence_interval import ConfidenceInterval
from memfast.timesteps.custom import Custom
from memfast.timesteps.density import Density
from memfast.timesteps.gaussian import GaussianMixture
from memfast.timesteps.laplace import Laplace
from memfast.timesteps.log_normal import LogNormal
from memfast.timesteps.stable_diffusion_3 import CosMap, LogitNormal, Mode
from memfast.timesteps.student_t import StudentT
from memfast.timesteps.uniform import Uniform

DENSITIES: Registry[type[Density]] = Registry(
    "timestep density",
    (
        Uniform, ConfidenceInterval, GaussianMixture, StudentT, Laplace, Beta, LogitNormal, Mode, CosMap, LogNormal,
        SpeeD, TimestepBias, Custom, Mixture, DensitySchedule, LossSecondMoment,
    ),
    group="memfast.densities",
    base=Density,
)  # fmt: skip


def density_from_dict(config: str | Mapping[str, Any]) -> Density:
    """The density that its ``to_dict`` described, or that a name alone means, its arguments at their defaults.

    Raises:
        InputError: an unknown name or argument.

    >>> density_from_dict({"name": "confidence_interval", "low": 600, "high": 1000})
    ConfidenceInterval(low=600, high=1000, coverage=0.5, tails='uniform', mix=None, uniform_floor=0.0)
    """
    return DENSITIES.build(config)
