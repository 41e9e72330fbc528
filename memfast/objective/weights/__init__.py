"""How much a timestep's error counts."""

from memfast.objective.weights.base import LossWeight, determinant
from memfast.objective.weights.by_level import EDM, P2, SD3, Debiased, MinSNR, Unweighted
from memfast.objective.weights.by_row import Custom, Importance, SpeeD
from memfast.objective.weights.registry import WEIGHTS, weight_from_dict

__all__ = [
    "EDM",
    "P2",
    "SD3",
    "WEIGHTS",
    "Custom",
    "Debiased",
    "Importance",
    "LossWeight",
    "MinSNR",
    "SpeeD",
    "Unweighted",
    "determinant",
    "weight_from_dict",
]
