"""The schedules by name. To add one: write its function and add it here."""

from collections.abc import Callable, Mapping
from typing import Any

from memfast.foundation.arguments import own_arguments
from memfast.foundation.errors import InputError
from memfast.schedules import continuous, discrete
from memfast.schedules.continuous import ContinuousSchedule
from memfast.schedules.schedule import Schedule

SCHEDULES: dict[str, Callable[..., Schedule | ContinuousSchedule]] = {
    function.__name__: function
    for function in (
        discrete.linear, discrete.scaled_linear, discrete.cosine, discrete.from_betas, discrete.from_alphas_cumprod,
        discrete.edm, discrete.flow,
        continuous.edm_continuous, continuous.flow_continuous, continuous.vp_continuous,
    )
}  # fmt: skip


def schedule_from_dict(config: Mapping[str, Any]) -> Schedule | ContinuousSchedule:
    """The schedule that its ``to_dict`` described: ``{"name": "linear", "T": 1000}``, others at their defaults.

    Raises:
        InputError: an unknown name or argument.
    """
    arguments = dict(config)
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in SCHEDULES:
        raise InputError("schedule", expected="one of " + ", ".join(SCHEDULES), received=repr(name))
    try:
        return SCHEDULES[name](**arguments)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        expected = own_arguments(SCHEDULES[name])
        raise InputError(f"schedule {name}", expected=expected, received=str(error)) from error
