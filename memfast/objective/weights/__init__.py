"""How much a timestep's error counts."""

from memfast.foundation.deprecated import deprecated_names
from memfast.objective.weights.base import LossWeight, determinant
from memfast.objective.weights.by_level import EDM, P2, SD3, Debiased, MinSNR, Unweighted
from memfast.objective.weights.by_row import CustomWeight, Importance, SpeeDWeight
from memfast.objective.weights.registry import WEIGHTS, weight_from_dict

__all__ = [
    "EDM",
    "P2",
    "SD3",
    "WEIGHTS",
    "CustomWeight",
    "Debiased",
    "Importance",
    "LossWeight",
    "MinSNR",
    "SpeeDWeight",
    "Unweighted",
    "determinant",
    "weight_from_dict",
]

__getattr__ = deprecated_names(__name__, {"Custom": "CustomWeight", "SpeeD": "SpeeDWeight"})
