"""A diffusers pipeline watched from outside: its network's outputs and its scheduler's steps become states of a run.

The network's forward is hooked for the branches of guidance, the scheduler's ``step`` for the state and the guided
prediction that it goes by. Each state is given its OWN level: ``alphas_cumprod`` at the timestep it is evaluated at,
and ``final_alpha_cumprod`` for what the last step returns.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from memfast.foundation.errors import InputError
from memfast.sampling import Step
from memfast.schedules import x0_and_noise
from memfast.trace.observing import Probe

NETWORKS = ("unet", "transformer")
SUPPORTED = "DDIM, DDPM, PNDM, DPM-Solver, UniPC or DEIS (with alphas_cumprod), or a flow-matching Euler scheduler"


class Call(NamedTuple):
    """One call of the network, to be repeated on another input."""

    arguments: tuple
    options: dict[str, Any]
    output: torch.Tensor


def network_of(pipe: Any) -> torch.nn.Module:
    """The pipeline's denoising network."""
    for name in NETWORKS:
        found = getattr(pipe, name, None)
        if isinstance(found, torch.nn.Module):
            return found
    raise InputError(
        "pipe", expected="a diffusers pipeline with a " + " or a ".join(NETWORKS), received=type(pipe).__name__
    )


class Levels:
    """The noise level of each state under a diffusers scheduler.

    Raises:
        InputError: a scheduler whose states have neither form.
    """

    def __init__(self, scheduler: Any) -> None:
        name = type(scheduler).__name__
        self.scheduler = scheduler
        bars = getattr(scheduler, "alphas_cumprod", None)
        self.flow = bars is None and getattr(scheduler, "sigmas", None) is not None and "Flow" in name
        start = float(getattr(scheduler, "init_noise_sigma", 1.0))
        if (bars is None and not self.flow) or abs(start - 1.0) > 1e-6:
            why = "which has no alphas_cumprod" if bars is None else "whose states are x0 + sigma * noise"
            raise InputError(
                "pipe.scheduler", expected=SUPPORTED, received=f"{name}, {why}",
                do="For example: pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config).",
            )  # fmt: skip
        self.prediction_type = "flow_prediction" if self.flow else scheduler.config.prediction_type
        clips = not self.flow and bool(scheduler.config.get("clip_sample", False))
        reach = float(scheduler.config.get("clip_sample_range", 1.0)) if clips else 0.0
        self.clip = (-reach, reach) if clips else None

    def at(self, timestep: Any, number: int) -> tuple[int, float, float]:
        """(timestep, alpha, sigma) of the state that the scheduler's step of this number starts from."""
        if self.flow:
            sigma = float(self.scheduler.sigmas[number])
            return int(timestep), 1.0 - sigma, sigma
        bar = float(self.scheduler.alphas_cumprod[int(timestep)].double())
        return int(timestep), math.sqrt(bar), math.sqrt(1.0 - bar)

    def final(self) -> tuple[float, float]:
        """(alpha, sigma) of what the last step returns."""
        if self.flow:
            sigma = float(self.scheduler.sigmas[-1])
            return 1.0 - sigma, sigma
        bar = getattr(self.scheduler, "final_alpha_cumprod", None)
        if bar is None:
            sigmas = getattr(self.scheduler, "sigmas", None)
            bar = 1.0 if sigmas is None else 1.0 / (1.0 + float(sigmas[-1]) ** 2)
        return math.sqrt(float(bar)), math.sqrt(1.0 - float(bar))


class Capture:
    """Turns what the hooks see into ``memfast.sampling.Step`` objects and hands them to a callback.

    Args:
        pipe: the pipeline.
        rows: samples in the batch; the network gets twice as many under guidance, those without a prompt first.
        callback: takes each state, the finished samples included.
    """

    def __init__(self, pipe: Any, rows: int, callback: Callable[[Step], None]) -> None:
        self.network, self.levels = network_of(pipe), Levels(pipe.scheduler)
        self.rows, self.callback = rows, callback
        self.last: Call | None = None
        self.number = 0
        self.finished: torch.Tensor | None = None
        self._asking = False

    def close(self) -> None:
        """The run has ended: hand over the finished samples."""
        if self.finished is None:
            raise InputError("pipe", expected="a pipeline that calls scheduler.step", received="none of it in a run")
        alpha, sigma = self.levels.final()
        ids = torch.arange(self.rows)
        self.callback(Step(self.number, None, alpha, sigma, _floats(self.finished), None, ids))

    def probe(self) -> Probe:
        """The network at a state's level, with the prompts of this run."""
        return Probe(
            lambda x, step: self._ask(x, step)[0],
            lambda x, step: self._difference(*self._ask(x, step)),
        )  # fmt: skip

    def saw_network(self, _module: Any, arguments: tuple, options: dict[str, Any], output: Any) -> None:
        """The network's forward hook."""
        if not self._asking:
            self.last = Call(arguments, options, _tensor_of(output).detach())

    def saw_step(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, result: Any) -> None:
        """The scheduler's step: its arguments and what it returned."""
        if self.last is None:
            raise InputError("pipe", expected="a call of the network before each step", received="none")
        now, alpha, sigma = self.levels.at(timestep, self.number)
        state = _floats(sample)
        x0, noise = self._read(model_output, state, alpha, sigma)
        if self.levels.clip is not None:
            x0 = x0.clamp(*self.levels.clip)
            noise = (state - alpha * x0) / sigma
        conditional, unconditional = self._branches(self.last.output, state, alpha, sigma)
        ids = torch.arange(self.rows)
        self.callback(Step(self.number, now, alpha, sigma, state, x0, ids, noise, conditional, unconditional))
        self.number += 1
        self.finished = result[0] if isinstance(result, tuple) else result.prev_sample

    def _branches(
        self, output: torch.Tensor, state: torch.Tensor, alpha: float, sigma: float
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if len(output) == self.rows:
            return self._read(output, state, alpha, sigma)[1], None
        if len(output) != 2 * self.rows:
            raise InputError(
                "pipe", expected=f"a network that is called with {self.rows} or {2 * self.rows} samples",
                received=f"{len(output)}", do="Pipelines with further branches of guidance are not supported.",
            )  # fmt: skip
        without, within = output.chunk(2)
        return self._read(within, state, alpha, sigma)[1], self._read(without, state, alpha, sigma)[1]

    def _read(
        self, output: torch.Tensor, state: torch.Tensor, alpha: float, sigma: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        values = output.to(state.device, state.dtype)
        if values.ndim > 1 and values.shape[1] == 2 * state.shape[1]:
            values = values.chunk(2, dim=1)[0]  # the second half is a variance
        at = [torch.tensor(value, dtype=torch.float64, device=state.device) for value in (alpha, sigma)]
        return x0_and_noise(values, state, at[0], at[1], self.levels.prediction_type)

    def _ask(self, x: torch.Tensor, step: Step) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The network's branches at another input, at the level of its last call."""
        if self.last is None:
            raise InputError("pipe", expected="a call of the network first", received="none")
        arguments, options, output = self.last
        name = next((name for name in ("sample", "hidden_states") if name in options), None)
        before = options[name] if name else arguments[0]
        given = torch.cat([x] * (len(output) // self.rows)).to(before.device, before.dtype)
        options = {**options, name: given} if name else options
        self._asking = True
        try:
            # Without hooks: those that change the network's output, or count its calls, belong to the run alone.
            found = self.network.forward(*(arguments if name else (given, *arguments[1:])), **options)
        finally:
            self._asking = False
        return self._branches(_tensor_of(found), x, step.alpha, step.sigma)

    def _difference(self, conditional: torch.Tensor, unconditional: torch.Tensor | None) -> torch.Tensor:
        if unconditional is None:
            raise InputError(
                "pipe", expected="guidance above 1: its network gives both branches then", received="one branch"
            )
        return conditional - unconditional


@contextmanager
def capturing(pipe: Any, rows: int, callback: Callable[[Step], None]) -> Iterator[Capture]:
    """Watch one run of ``pipe``; on the way out its network and scheduler are as they were."""
    capture = Capture(pipe, rows, callback)
    scheduler = pipe.scheduler
    own, step = vars(scheduler).get("step"), scheduler.step

    def watched(model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, *rest: Any, **options: Any) -> Any:
        before = sample.detach().clone()
        result = step(model_output, timestep, sample, *rest, **options)
        capture.saw_step(model_output.detach(), timestep, before, result)
        return result

    hook = capture.network.register_forward_hook(capture.saw_network, with_kwargs=True)
    scheduler.step = watched
    try:
        yield capture
    finally:
        hook.remove()
        if own is None:
            del scheduler.step
        else:
            scheduler.step = own


def _tensor_of(output: Any) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output
    return output[0] if isinstance(output, tuple) else output.sample


def _floats(tensor: torch.Tensor) -> torch.Tensor:
    """float32, on a device that also computes in float64."""
    tensor = tensor.detach().cpu() if tensor.device.type == "mps" else tensor.detach()
    return tensor.float()
