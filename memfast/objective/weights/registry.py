"""The loss weights by name. To add one: write its class and add it here."""

from collections.abc import Mapping
from typing import Any

from memfast.foundation.registry import Registry
from memfast.objective.weights.base import LossWeight
from memfast.objective.weights.by_level import EDM, P2, SD3, Debiased, MinSNR, Unweighted
from memfast.objective.weights.by_row import CustomWeight, Importance, SpeeDWeight

WEIGHTS: Registry[type[LossWeight]] = Registry(
    "loss_weight",
    (Unweighted, MinSNR, P2, EDM, Debiased, SD3, SpeeDWeight, CustomWeight, Importance),
    group="memfast.loss_weights",
    base=LossWeight,
)


def weight_from_dict(config: LossWeight | str | Mapping[str, Any]) -> LossWeight:
    """The weight of a name (its defaults), of a dictionary, or the object itself.

    Raises:
        InputError: an unknown name or argument.

    >>> weight_from_dict("min_snr"), weight_from_dict({"name": "p2", "gamma": 0.5})
    (MinSNR(gamma=5.0), P2(gamma=0.5, k=1.0))
    """
    if isinstance(config, LossWeight):
        return config.resolved(WEIGHTS.build)
    return WEIGHTS.build(config, beside="an object of memfast.objective.weights (CustomWeight takes numbers)")
