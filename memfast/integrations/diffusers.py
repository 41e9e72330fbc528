"""An objective that matches a diffusers scheduler, for training loops written around one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from memfast.foundation.errors import InputError
from memfast.objective import Ambient, DenoisingObjective, LossWeight
from memfast.schedules import Schedule, cosine, flow, from_alphas_cumprod, from_betas, linear, scaled_linear
from memfast.timesteps import Density

# diffusers' own default where a scheduler's configuration does not say.
DEFAULT_PREDICTION_TYPE = "epsilon"
# Products of a thousand float32 factors are off by some 1e-5.
AGREEMENT = 1e-3


def objective_from_scheduler(
    scheduler: Any,
    *,
    timesteps: Density | Mapping[str, Any] | None = None,
    loss_weight: LossWeight | str | Mapping[str, Any] = "none",
    ambient: Ambient | Mapping[str, Any] | None = None,
    stratified: bool = False,
) -> DenoisingObjective:
    """The objective of a network that is trained and sampled with this scheduler.

    Timesteps are diffusers' own (0-based, 0 is the least noise), the prediction type is the scheduler's, and alpha and
    sigma are recomputed in float64 from its configuration: they agree with ``add_noise`` and ``get_velocity`` in
    float32, and stay right in bfloat16, where diffusers rounds alpha_bar first and adds no noise at the first
    timesteps.

    Args:
        scheduler: a scheduler with betas (DDPM, DDIM, PNDM, Euler, DPM-Solver, ...) or flow matching's
            (``FlowMatchEulerDiscreteScheduler``, or a solver with ``use_flow_sigmas``). Its ``set_timesteps`` does not
            matter.
        timesteps: where to learn, from ``memfast.timesteps``; uniform by default.
        loss_weight: as for ``DenoisingObjective``.
        ambient: as for ``DenoisingObjective``.
        stratified: as for ``DenoisingObjective``.

    Raises:
        InputError: neither kind of scheduler, or a flow schedule that shifts with the image's size.
    """
    schedule, prediction_type = schedule_from_scheduler(scheduler)
    return DenoisingObjective(
        schedule, timesteps, prediction_type, loss_weight=loss_weight, ambient=ambient, stratified=stratified
    )


def schedule_from_scheduler(scheduler: Any) -> tuple[Schedule, str]:
    """The schedule and the prediction type of a diffusers scheduler."""
    config = getattr(scheduler, "config", None)
    total = getattr(config, "num_train_timesteps", None)
    if config is None or total is None:
        raise InputError("scheduler", expected="a diffusers scheduler", received=type(scheduler).__name__)
    prediction_type = getattr(config, "prediction_type", DEFAULT_PREDICTION_TYPE)
    # Solvers of both kinds have betas, used or not; flow matching's own schedulers call the shift by another name.
    flow_shift = getattr(config, "flow_shift", 1.0) if getattr(config, "use_flow_sigmas", False) else None
    if "FlowMatch" in type(scheduler).__name__:
        flow_shift, prediction_type = config.shift, "flow_prediction"
    if flow_shift is not None:
        if getattr(config, "use_dynamic_shifting", False):
            raise InputError(
                "scheduler", expected="a flow schedule of one shift", received="use_dynamic_shifting=True",
                do="Make memfast.schedules.flow(T, shift=...) with the shift of your image size.",
            )  # fmt: skip
        return flow(total, shift=float(flow_shift)), prediction_type
    if not hasattr(scheduler, "betas") or getattr(config, "beta_schedule", None) is None:
        raise InputError("scheduler", expected="one with betas, or flow matching's", received=type(scheduler).__name__)
    return _agreeing(_from_betas(scheduler, config, total), scheduler), prediction_type


def _agreeing(schedule: Schedule, scheduler: Any) -> Schedule:
    """The schedule, or where the scheduler does not follow its betas (CogVideoX shifts the SNR) its own levels."""
    theirs = getattr(scheduler, "alphas_cumprod", None)
    if theirs is None or np.allclose(schedule.alphas_cumprod, theirs.double().numpy(), rtol=AGREEMENT, atol=1e-6):
        return schedule
    return from_alphas_cumprod(theirs.double().numpy())


def _from_betas(scheduler: Any, config: Any, total: int) -> Schedule:
    plain = getattr(config, "trained_betas", None) is None and not getattr(config, "rescale_betas_zero_snr", False)
    if plain and config.beta_schedule == "linear":
        return linear(total, config.beta_start, config.beta_end)
    if plain and config.beta_schedule == "scaled_linear":
        return scaled_linear(total, config.beta_start, config.beta_end)
    if plain and config.beta_schedule == "squaredcos_cap_v2":
        return cosine(total)
    # Rescaled, trained and rarer schedules: the float32 betas are the definition; products are still float64.
    return from_betas(scheduler.betas.double().numpy())
