"""What a model learns: the seven-column table and the objective on it."""

from memfast.objective.ambient import Ambient, denoised_data
from memfast.objective.batch import Batch
from memfast.objective.curves import GapCurve, LossCurve, denoising_loss_curve, ideal_gap
from memfast.objective.denoising import DenoisingObjective
from memfast.objective.ideal import Ideal, IdealModel, ideal_denoiser
from memfast.objective.weights import WEIGHTS, LossWeight, weight_from_dict

__all__ = [
    "WEIGHTS",
    "Ambient",
    "Batch",
    "DenoisingObjective",
    "GapCurve",
    "Ideal",
    "IdealModel",
    "LossCurve",
    "LossWeight",
    "denoised_data",
    "denoising_loss_curve",
    "ideal_denoiser",
    "ideal_gap",
    "weight_from_dict",
]
