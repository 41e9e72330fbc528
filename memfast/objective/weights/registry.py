"""The loss weights by name. To add one: write its class and add it here."""

from collections.abc import Mapping
from typing import Any

from memfast.foundation.arguments import own_arguments
from memfast.foundation.errors import InputError
from memfast.objective.weights.base import LossWeight
from memfast.objective.weights.by_level import EDM, P2, SD3, Debiased, MinSNR, Unweighted
from memfast.objective.weights.by_row import Custom, Importance, SpeeD

WEIGHTS: dict[str, type[LossWeight]] = {
    weight.name: weight for weight in (Unweighted, MinSNR, P2, EDM, Debiased, SD3, SpeeD, Custom, Importance)
}


def weight_from_dict(config: "LossWeight | str | Mapping[str, Any]") -> LossWeight:
    """The weight of a name (its defaults), of a dictionary, or the object itself.

    Raises:
        InputError: an unknown name or argument.

    >>> weight_from_dict("min_snr"), weight_from_dict({"name": "p2", "gamma": 0.5})
    (MinSNR(gamma=5.0), P2(gamma=0.5, k=1.0))
    """
    if isinstance(config, LossWeight):
        return config
    if not isinstance(config, str | Mapping):
        expected = "a name, a dictionary or an object of memfast.objective.weights"
        raise InputError("loss_weight", expected=expected, received=type(config).__name__, do="Custom takes numbers.")
    arguments = {"name": config} if isinstance(config, str) else dict(config)
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in WEIGHTS:
        raise InputError("loss_weight", expected="one of " + ", ".join(WEIGHTS), received=repr(name))
    try:
        return WEIGHTS[name](**arguments)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        expected = own_arguments(WEIGHTS[name])
        raise InputError(f"loss_weight {name}", expected=expected, received=str(error)) from error
