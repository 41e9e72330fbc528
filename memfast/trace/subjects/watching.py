"""A diffusers pipeline watched from outside: its network's outputs and its scheduler's steps become states of a run.

The network's forward is hooked for the branches of guidance, the scheduler's ``step`` for the state and the guided
prediction that it goes by. Each state is given its OWN level, see ``memfast.schedules.diffusers.SchedulerLevels``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

import torch

from memfast.foundation.errors import InputError
from memfast.sampling import Step
from memfast.sampling.denoiser import branch_estimate, network_output, tensor_of
from memfast.schedules import x0_and_noise
from memfast.schedules.diffusers import SchedulerLevels

NETWORKS = ("unet", "transformer")
# Arguments of a network that were computed from its state by another network, and how that one can be asked again.
CONTROL_RESIDUALS = ("down_block_additional_residuals", "mid_block_additional_residual")
HALVES = (torch.float16, torch.bfloat16)
OF_ONE_STATE = ("block_controlnet_hidden_states", "controlnet_block_samples", "controlnet_single_block_samples")


class NetworkCall(NamedTuple):
    """One call of a network, to be repeated on another input."""

    arguments: tuple
    options: dict[str, Any]
    output: torch.Tensor

    @property
    def input_name(self) -> str | None:
        """The keyword of its state; None where it is the first positional argument."""
        return next((name for name in ("sample", "hidden_states") if name in self.options), None)

    @property
    def input(self) -> torch.Tensor:
        """Its state."""
        name = self.input_name
        found: torch.Tensor = self.options[name] if name else self.arguments[0]
        return found

    def in_float32(self) -> "NetworkCall":
        """The call with its half-precision tensors in float32."""
        return NetworkCall(_in_float32(self.arguments), _in_float32(self.options), self.output)

    def repeat(self, network: torch.nn.Module, x: torch.Tensor, **changed: Any) -> Any:
        """The network's output for another state and other arguments."""
        name = self.input_name
        given = x.to(self.input.device, self.input.dtype)
        options = {**self.options, **changed, **({name: given} if name else {})}
        # Without hooks: those that change the network's output, or count its calls, belong to the run alone.
        return network.forward(*(self.arguments if name else (given, *self.arguments[1:])), **options)


def network_of(pipe: Any) -> torch.nn.Module:
    """The pipeline's denoising network."""
    for name in NETWORKS:
        found = getattr(pipe, name, None)
        if isinstance(found, torch.nn.Module):
            return found
    raise InputError(
        "pipe", expected="a diffusers pipeline with a " + " or a ".join(NETWORKS), received=type(pipe).__name__
    )


class PipelineWatch:
    """Turns what the hooks see into ``memfast.sampling.Step`` objects and hands them to a callback.

    It is also the pipeline's network under the run's prompts, for whoever asks about other states
    (``memfast.trace.measure.NetworkBranches``).

    Args:
        pipe: the pipeline.
        initial: ``[rows, ...]``, the latents that the run is to start from; the network gets twice as many under
            guidance, those without a prompt first, or is called twice.
        callback: takes each state, the finished samples included; None only counts.
        scale: the guidance scale, where the pipeline's own arithmetic applies it; None under a rule.
    """

    def __init__(
        self, pipe: Any, initial: torch.Tensor, callback: Callable[[Step], None] | None, scale: float | None = None
    ) -> None:
        self.pipe, self.network, self.levels = pipe, network_of(pipe), SchedulerLevels(pipe.scheduler)
        self.initial, self.rows, self.callback, self.scale = initial, len(initial), callback, scale
        self.number = 0
        self.last: NetworkCall | None = None
        self.control: NetworkCall | None = None
        self.finished: torch.Tensor | None = None
        self._outputs: list[torch.Tensor] = []
        self._asking = False

    def close(self) -> None:
        """The run has ended: check that it went to its end, and hand over the finished samples."""
        if self.finished is None:
            raise InputError("pipe", expected="a pipeline that calls scheduler.step", received="none of it in a run")
        planned = len(self.pipe.scheduler.timesteps)
        if self.number != planned:
            raise InputError(
                "pipe", expected=f"a run over all {planned} timesteps of its scheduler",
                received=f"{self.number} steps",
                do="Leave out what ends a run early: denoising_end, strength, an interrupting callback.",
            )  # fmt: skip
        alpha, sigma = self.levels.final()
        ids = torch.arange(self.rows)
        if self.callback is not None:
            self.callback(Step(self.number, None, alpha, sigma, _floats(self.finished), None, ids))

    def saw_network(self, _module: Any, arguments: tuple, options: dict[str, Any], output: Any) -> None:
        """The network's forward hook."""
        if not self._asking:
            values = tensor_of(output).detach()
            self.last = NetworkCall(arguments, options, values)
            self._outputs.append(values)

    def saw_control(self, _module: Any, arguments: tuple, options: dict[str, Any], output: Any) -> None:
        """A ControlNet's forward hook."""
        if not self._asking:
            self.control = NetworkCall(arguments, options, output[0][0])

    def saw_step(
        self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, options: dict[str, Any], result: Any
    ) -> None:
        """The scheduler's step: its arguments and what it returned."""
        if not self._outputs:
            raise InputError("pipe", expected="a call of the network before each step", received="none")
        now, alpha, sigma = self.levels.at(timestep, self.number)
        state = _floats(sample)
        if self.number == 0:
            self._check_start(state)
        x0, noise = self._read(model_output, state, alpha, sigma)
        used = self.levels.used_x0(x0)
        if used is not None:
            x0, noise = used, noise if self.levels.keeps_noise(options) else (state - alpha * used) / sigma
        conditional, unconditional = self._branches(self._outputs, model_output)
        if self.scale is not None:
            self._check_output(model_output, conditional, unconditional)
        self._outputs = []
        with_prompt = self._read(conditional, state, alpha, sigma)
        without = (None, None) if unconditional is None else self._read(unconditional, state, alpha, sigma)
        ids = torch.arange(self.rows)
        if self.callback is not None:
            self.callback(
                Step(
                    self.number, now, alpha, sigma, state, x0, ids, noise, with_prompt[1], without[1], with_prompt[0],
                    without[0],
                )
            )  # fmt: skip
        self.number += 1
        self.finished = result[0] if isinstance(result, tuple) else result.prev_sample

    def conditional(self, x: torch.Tensor, step: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The clean and the noise estimate of x with the prompts, at that step's level."""
        found, _ = self._ask(x)
        return self._read(found, x, step.alpha, step.sigma)

    def difference(self, x: torch.Tensor, step: Any) -> torch.Tensor:
        """Conditional minus unconditional estimate there; the network computes it in float32."""
        with weights_in_float32(self.network, self.control_network):
            conditional, unconditional = self._ask(x, in_float32=True)
        if unconditional is None:
            raise InputError(
                "pipe", expected="guidance above 1: its network gives both branches then", received="one branch"
            )
        with_prompt, without = (
            branch_estimate(*self._read(output, x, step.alpha, step.sigma), step.alpha)
            for output in (conditional, unconditional)
        )
        return with_prompt - without

    @property
    def control_network(self) -> torch.nn.Module | None:
        """The pipeline's ControlNet, or None."""
        found = getattr(self.pipe, "controlnet", None)
        return found if isinstance(found, torch.nn.Module) else None

    @property
    def can_ask(self) -> bool:
        """Whether the network can be asked about another state: not where its arguments belong to one state only."""
        options = {} if self.last is None else {key for key, value in self.last.options.items() if value is not None}
        residuals = any(key in options for key in CONTROL_RESIDUALS)
        return not any(key in options for key in OF_ONE_STATE) and (not residuals or self.control is not None)

    def _check_start(self, state: torch.Tensor) -> None:
        given = _floats(self.initial).to(state.device)
        if state.shape != given.shape or not torch.allclose(state, given, rtol=1e-3, atol=1e-3):
            raise InputError(
                "pipe", expected=f"a run that starts from the latents {list(given.shape)} that it is given",
                received=f"other states {list(state.shape)}",
                do="Pipelines that start from an image (img2img, inpainting) or part of the way cannot be traced.",
            )  # fmt: skip

    def _check_output(
        self, model_output: torch.Tensor, conditional: torch.Tensor, unconditional: torch.Tensor | None
    ) -> None:
        """The scheduler's step must go by what the branches make under guidance, rescaled at most."""
        guided = conditional.double()
        if unconditional is not None and self.scale is not None:
            guided = unconditional.double() + self.scale * (guided - unconditional.double())
        if (model_output.double() * network_output(guided, model_output)).sum() < 0:
            raise InputError(
                "pipe", expected="a pipeline that passes its network's output on to scheduler.step",
                received="one that changes its sign first",
                do="Record its states yourself (callback_on_step_end) and use memfast.trace.decompose.",
            )  # fmt: skip

    def _branches(
        self, outputs: list[torch.Tensor], model_output: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The network's outputs with and without the prompts."""
        sizes = [len(output) for output in outputs]
        if sizes == [self.rows]:
            return outputs[0], None
        if sizes == [2 * self.rows]:
            without, within = outputs[0].chunk(2)
            return within, without
        if sizes == [self.rows, self.rows]:
            first, second = outputs
            # guided = without + scale * (within - without): the share of a - b beyond b is the scale where a is within.
            away = (first - second).double()
            passed = network_output(model_output, first)
            share = ((passed - second).double() * away).sum() / away.square().sum()
            return (first, second) if share > 0.5 else (second, first)
        raise InputError(
            "pipe", expected=f"a network that is called with {self.rows} or {2 * self.rows} samples in each step",
            received=" and ".join(map(str, sizes)),
            do="Pipelines with further branches of guidance are not supported.",
        )  # fmt: skip

    def _read(
        self, output: torch.Tensor, state: torch.Tensor, alpha: float, sigma: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        values = network_output(output.to(state.device, state.dtype), state)
        at = [torch.tensor(value, dtype=torch.float64, device=state.device) for value in (alpha, sigma)]
        return x0_and_noise(values, state, at[0], at[1], self.levels.prediction_type)

    def _ask(self, x: torch.Tensor, *, in_float32: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The network's branches at another state, at the level of its last call."""
        if self.last is None:
            raise InputError("pipe", expected="a call of the network first", received="none")
        call, control = self.last, self.control
        if in_float32:
            call, control = call.in_float32(), None if control is None else control.in_float32()
        self._asking = True
        try:
            found = call.repeat(self.network, _rows(x, len(call.output)), **self._residuals(call, control, x))
        finally:
            self._asking = False
        output = network_output(found, x)
        if len(output) == self.rows:
            return output, None
        without, within = output.chunk(2)
        return within, without

    def _residuals(self, call: NetworkCall, control: NetworkCall | None, x: torch.Tensor) -> dict[str, Any]:
        """A ControlNet's residuals for another state."""
        network = self.control_network
        if network is None or control is None or not any(key in call.options for key in CONTROL_RESIDUALS):
            return {}
        down, middle = control.repeat(network, _rows(x, len(control.input)), return_dict=False)
        missing = len(call.output) - len(control.input)
        if missing:
            # Its guess mode leaves the branch without a prompt alone.
            down = [torch.cat([torch.zeros_like(one[:missing]), one]) for one in down]
            middle = torch.cat([torch.zeros_like(middle[:missing]), middle])
        return dict(zip(CONTROL_RESIDUALS, (down, middle), strict=True))


@contextmanager
def watching(
    pipe: Any, initial: torch.Tensor, callback: Callable[[Step], None] | None, scale: float | None = None
) -> Iterator[PipelineWatch]:
    """Watch one run of ``pipe``; on the way out its network and scheduler are as they were."""
    watch = PipelineWatch(pipe, initial, callback, scale)
    scheduler = pipe.scheduler
    own, step = vars(scheduler).get("step"), scheduler.step

    # Pipelines look at the signature of ``step`` to see whether it takes eta and a generator.
    @wraps(step)
    def watched(model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, *rest: Any, **options: Any) -> Any:
        before = sample.detach().clone()
        result = step(model_output, timestep, sample, *rest, **options)
        watch.saw_step(model_output.detach(), timestep, before, options, result)
        return result

    hooks = [watch.network.register_forward_hook(watch.saw_network, with_kwargs=True)]
    if watch.control_network is not None:
        hooks.append(watch.control_network.register_forward_hook(watch.saw_control, with_kwargs=True))
    scheduler.step = watched
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()
        if own is None:
            del scheduler.step
        else:
            scheduler.step = own


@contextmanager
def weights_in_float32(*networks: torch.nn.Module | None) -> Iterator[None]:
    """Networks with their half-precision weights in float32, and afterwards the very same weights again."""
    kept: list[tuple[dict[str, Any], str, torch.Tensor]] = []
    for module in (module for network in networks if network is not None for module in network.modules()):
        every: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for held in every:
            for name, values in held.items():
                if values is not None and values.dtype in HALVES and not values.is_meta:
                    kept.append((held, name, values))
    try:
        for held, name, values in kept:
            whole = values.detach().float()
            held[name] = torch.nn.Parameter(whole, False) if isinstance(values, torch.nn.Parameter) else whole
        yield
    finally:
        for held, name, values in kept:
            held[name] = values


def _in_float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in HALVES else value
    if isinstance(value, dict):
        return {name: _in_float32(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_in_float32(one) for one in value)
    return value


def _rows(x: torch.Tensor, count: int) -> torch.Tensor:
    """x as often as a call of ``count`` rows needs it."""
    return torch.cat([x] * (count // len(x)))


def _floats(tensor: torch.Tensor) -> torch.Tensor:
    """float32, on a device that also computes in float64."""
    tensor = tensor.detach().cpu() if tensor.device.type == "mps" else tensor.detach()
    return tensor.float()
