"""The noise schedules of diffusers schedulers: what their networks were trained with, and the levels of one run."""

import inspect
import math
from typing import Any

import numpy as np
import torch

from memfast.foundation.errors import InputError
from memfast.schedules.discrete import cosine, flow, from_alphas_cumprod, from_betas, linear, scaled_linear
from memfast.schedules.schedule import Schedule

# diffusers' own default where a scheduler's configuration does not say.
DEFAULT_PREDICTION_TYPE = "epsilon"
# Products of a thousand float32 factors are off by some 1e-5.
AGREEMENT = 1e-3
# Sigmas are interpolated and stored in float32.
ROUNDING = 1e-5
SUPPORTED = "DDIM, DDPM, PNDM, LCM, DPM-Solver, UniPC or DEIS (with alphas_cumprod), or a flow-matching scheduler"


def schedule_from_scheduler(scheduler: Any) -> tuple[Schedule, str]:
    """The schedule and the prediction type of a diffusers scheduler.

    Raises:
        InputError: a scheduler with neither betas nor a flow schedule, or one that shifts with the image's size.
    """
    config = getattr(scheduler, "config", None)
    total = getattr(config, "num_train_timesteps", None)
    if config is None or total is None:
        raise InputError("scheduler", expected="a diffusers scheduler", received=type(scheduler).__name__)
    prediction_type = prediction_type_of(scheduler)
    if is_flow(scheduler):
        # Solvers of both kinds and flow matching's own schedulers call the shift by different names.
        flow_shift = getattr(config, "flow_shift", getattr(config, "shift", 1.0))
        if getattr(config, "use_dynamic_shifting", False):
            raise InputError(
                "scheduler", expected="a flow schedule of one shift", received="use_dynamic_shifting=True",
                do="Make memfast.schedules.flow(T, shift=...) with the shift of your image size.",
            )  # fmt: skip
        return flow(total, shift=float(flow_shift)), prediction_type
    if not hasattr(scheduler, "betas") or getattr(config, "beta_schedule", None) is None:
        raise InputError("scheduler", expected="one with betas, or flow matching's", received=type(scheduler).__name__)
    return _agreeing(_from_betas(scheduler, config, total), scheduler), prediction_type


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler's states are ``(1 - sigma) * x0 + sigma * noise``: flow matching, whatever solves it."""
    return bool(getattr(scheduler.config, "use_flow_sigmas", False)) or "FlowMatch" in type(scheduler).__name__


def prediction_type_of(scheduler: Any) -> str:
    """What the network of a scheduler predicts, as ``memfast.schedules`` spells it."""
    if "FlowMatch" in type(scheduler).__name__:
        return "flow_prediction"
    return str(getattr(scheduler.config, "prediction_type", DEFAULT_PREDICTION_TYPE))


class SchedulerLevels:
    """The noise level of each state of a run under a diffusers scheduler, whose ``set_timesteps`` was called.

    Solvers on sigmas (DPM-Solver, UniPC, DEIS, flow matching) are asked for theirs, which Karras', exponential, beta
    and flow spacings place between whole timesteps. The others have ``alphas_cumprod`` at the timestep.

    Args:
        scheduler: a scheduler whose states are ``alpha * x0 + sigma * noise`` with unit noise at the start.

    Attributes:
        flow: whether it is flow matching.
        prediction_type: what its network predicts.

    Raises:
        InputError: a scheduler whose states have another form.
    """

    def __init__(self, scheduler: Any) -> None:
        name = type(scheduler).__name__
        self.scheduler = scheduler
        bars, sigmas = (getattr(scheduler, one, None) for one in ("alphas_cumprod", "sigmas"))
        start = float(getattr(scheduler, "init_noise_sigma", 1.0))
        known = hasattr(scheduler, "config")
        self.flow = known and is_flow(scheduler) and sigmas is not None
        if (bars is None and not self.flow) or abs(start - 1.0) > 1e-6:
            why = "which has no alphas_cumprod" if bars is None else "whose states are x0 + sigma * noise"
            raise InputError(
                "pipe.scheduler", expected=SUPPORTED, received=f"{name}, {why}",
                do="For example: pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False).",
            )  # fmt: skip
        self.prediction_type = prediction_type_of(scheduler)

    def at(self, timestep: Any, number: int) -> tuple[int, float, float]:
        """(timestep, alpha, sigma) of the state that the scheduler's step of this number starts from."""
        whole, sigmas = int(timestep), self._sigmas()
        if sigmas is None:
            return whole, *_shares(self.scheduler.alphas_cumprod[whole])
        sigma = float(sigmas[number])
        if not self.flow:
            # Where the solver is on a whole timestep, the table has the digits that float32 sigmas lost.
            bar = float(self.scheduler.alphas_cumprod[whole].double())
            if bar > 0 and abs(sigma / math.sqrt(1.0 / bar - 1.0) - 1.0) < ROUNDING:
                return whole, *_shares(self.scheduler.alphas_cumprod[whole])
        return whole, *self._of_sigma(sigma)

    def final(self) -> tuple[float, float]:
        """(alpha, sigma) of what the last step returns."""
        sigmas = self._sigmas()
        if sigmas is not None:
            return self._of_sigma(float(sigmas[-1]))
        if hasattr(self.scheduler, "get_scalings_for_boundary_condition_discrete"):
            # Consistency models (LCM) end with the clean estimate itself, whatever their table ends with.
            return 1.0, 0.0
        bar = getattr(self.scheduler, "final_alpha_cumprod", None)
        if bar is None:
            return 1.0, 0.0
        steps = getattr(self.scheduler, "num_inference_steps", None)
        if steps:
            before = int(self.scheduler.timesteps[-1]) - self.scheduler.config.num_train_timesteps // int(steps)
            bar = self.scheduler.alphas_cumprod[before] if before >= 0 else bar
        return _shares(bar)

    def used_x0(self, x0: torch.Tensor) -> torch.Tensor | None:
        """The clean estimate as the scheduler goes on with it: thresholded or clipped; None where it does neither."""
        config = self.scheduler.config
        if config.get("thresholding", False) and hasattr(self.scheduler, "_threshold_sample"):
            thresholded: torch.Tensor = self.scheduler._threshold_sample(x0)
            return thresholded
        # Configurations carry the keys of schedulers that they were made from: only its own count.
        clips = "clip_sample" in inspect.signature(type(self.scheduler).__init__).parameters
        if clips and config.get("clip_sample", False):
            reach = float(config.get("clip_sample_range", 1.0))
            return x0.clamp(-reach, reach)
        return None

    def keeps_noise(self, options: dict[str, Any]) -> bool:
        """Whether the scheduler goes on with the noise estimate as it was before the clean one was clipped (DDIM)."""
        own = "use_clipped_model_output" in inspect.signature(type(self.scheduler).step).parameters
        return own and not options.get("use_clipped_model_output", False)

    def _sigmas(self) -> Any:
        """The sigmas of a solver that works on them, in order of the states; None for the others."""
        solves = self.flow or hasattr(self.scheduler, "_sigma_to_alpha_sigma_t")
        return getattr(self.scheduler, "sigmas", None) if solves else None

    def _of_sigma(self, sigma: float) -> tuple[float, float]:
        if self.flow:
            return 1.0 - sigma, sigma
        return 1.0 / math.hypot(1.0, sigma), sigma / math.hypot(1.0, sigma)


def _shares(bar: Any) -> tuple[float, float]:
    value = float(bar.double()) if isinstance(bar, torch.Tensor) else float(bar)
    return math.sqrt(value), math.sqrt(1.0 - value)


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
