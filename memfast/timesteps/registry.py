"""The densities by name, for configurations. To add one: write its class and add it here."""

from collections.abc import Mapping
from typing import Any

from memfast.foundation.arguments import own_arguments
from memfast.foundation.errors import InputError
from memfast.timesteps.adaptive import LossSecondMoment
from memfast.timesteps.bands import SpeeD, TimestepBias
from memfast.timesteps.beta import Beta
from memfast.timesteps.changing import Plan
from memfast.timesteps.confidence_interval import ConfidenceInterval
from memfast.timesteps.custom import Custom, Mixture
from memfast.timesteps.density import Density
from memfast.timesteps.gaussian import GaussianMixture
from memfast.timesteps.laplace import Laplace
from memfast.timesteps.log_normal import LogNormal
from memfast.timesteps.stable_diffusion_3 import CosMap, LogitNormal, Mode
from memfast.timesteps.student_t import StudentT
from memfast.timesteps.uniform import Uniform

DENSITIES: dict[str, type[Density]] = {
    density.name: density
    for density in (
        Uniform, ConfidenceInterval, GaussianMixture, StudentT, Laplace, Beta, LogitNormal, Mode, CosMap, LogNormal,
        SpeeD, TimestepBias, Custom, Mixture, Plan, LossSecondMoment,
    )
}  # fmt: skip


def density_from_dict(config: Mapping[str, Any]) -> Density:
    """The density that its ``to_dict`` described.

    Raises:
        InputError: an unknown name or argument.

    >>> density_from_dict({"name": "confidence_interval", "low": 600, "high": 1000})
    ConfidenceInterval(low=600, high=1000, coverage=0.5, tails='uniform', mix=None, uniform_floor=0.0)
    """
    arguments = dict(config)
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in DENSITIES:
        raise InputError("timestep density", expected="one of " + ", ".join(DENSITIES), received=repr(name))
    try:
        return DENSITIES[name].from_config(arguments)
    except InputError:
        raise
    except (TypeError, KeyError, ValueError) as error:
        expected = own_arguments(DENSITIES[name])
        raise InputError(f"timestep density {name}", expected=expected, received=str(error)) from error
