"""Noise schedules, and what a network may predict under them."""

from memfast.schedules.continuous import ContinuousSchedule, edm_continuous, flow_continuous, vp_continuous
from memfast.schedules.discrete import cosine, edm, flow, from_alphas_cumprod, from_betas, linear, scaled_linear
from memfast.schedules.predictions import PREDICTION_TYPES, target, target_coefficients, x0_and_noise
from memfast.schedules.registry import SCHEDULES, schedule_from_dict
from memfast.schedules.schedule import Schedule

__all__ = [
    "PREDICTION_TYPES",
    "SCHEDULES",
    "ContinuousSchedule",
    "Schedule",
    "cosine",
    "edm",
    "edm_continuous",
    "flow",
    "flow_continuous",
    "from_alphas_cumprod",
    "from_betas",
    "linear",
    "scaled_linear",
    "schedule_from_dict",
    "target",
    "target_coefficients",
    "vp_continuous",
    "x0_and_noise",
]
