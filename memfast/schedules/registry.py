"""The schedules by name. To add one: write its function and add it here."""

from collections.abc import Callable, Mapping
from typing import Any

from memfast.foundation.registry import Registry
from memfast.schedules import continuous, discrete
from memfast.schedules.continuous import ContinuousSchedule
from memfast.schedules.schedule import Schedule

SCHEDULES: Registry[Callable[..., Schedule | ContinuousSchedule]] = Registry(
    "schedule",
    (
        discrete.linear, discrete.scaled_linear, discrete.cosine, discrete.from_betas, discrete.from_alphas_cumprod,
        discrete.edm, discrete.flow,
        continuous.edm_continuous, continuous.flow_continuous, continuous.vp_continuous,
    ),
    group="memfast.schedules",
    name_of=lambda function: function.__name__,
)  # fmt: skip


def schedule_from_dict(config: str | Mapping[str, Any]) -> Schedule | ContinuousSchedule:
    """The schedule that its ``to_dict`` described: ``{"name": "linear", "T": 1000}``, or a name alone.

    Arguments that are not given keep their defaults.

    Raises:
        InputError: an unknown name or argument.
    """
    return SCHEDULES.build(config)
