"""An objective that matches a diffusers scheduler, for training loops written around one."""

from collections.abc import Mapping
from typing import Any

from memfast.objective import Ambient, DenoisingObjective, LossWeight
from memfast.schedules.diffusers import schedule_from_scheduler
from memfast.timesteps import Density

__all__ = ["objective_from_scheduler", "schedule_from_scheduler"]


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
