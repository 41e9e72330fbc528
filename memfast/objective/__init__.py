"""What a model learns: the seven-column table and the objective on it."""

from memfast.objective.ambient import Ambient, denoised_data
from memfast.objective.denoising import Batch, DenoisingObjective
from memfast.objective.weights import WEIGHTS, LossWeight, weight_from_dict

__all__ = [
    "WEIGHTS",
    "Ambient",
    "Batch",
    "DenoisingObjective",
    "LossWeight",
    "denoised_data",
    "weight_from_dict",
]
