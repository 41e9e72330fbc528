"""A network as a denoiser: its output, with guidance and clipping, read as clean sample and noise."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

import torch

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.sampling.steps import Level
from memfast.schedules import x0_and_noise
from memfast.schedules.predictions import SIGMA_DATA, check_prediction_type, input_scale

Network = Callable[..., torch.Tensor]


class Guidance(Protocol):
    """A guidance scale that changes along the trajectory; see ``memfast.sampling.guidance``."""

    def begin(self, count: int) -> None:
        """A batch of ``count`` samples starts."""

    def scale(self, level: Level, gap: torch.Tensor) -> torch.Tensor:
        """The scales ``[B]`` in a state at ``level``.

        Args:
            level: the state's noise level.
            gap: float64 ``[B]``, the norm of conditional minus unconditional noise estimate there.
        """


@dataclass(frozen=True)
class Estimates:
    """What a network says of one state.

    Attributes:
        x0: ``[B, ...]``, the clean sample, guided and clipped.
        noise: ``[B, ...]``, the noise that goes with ``x0``.
        conditional: ``[B, ...]``, the noise estimate with the labels, before guidance and clipping, or None.
        unconditional: ``[B, ...]``, the same without the labels; None where the network was not asked.
        x0_conditional: ``[B, ...]``, the clean sample that belongs to ``conditional``.
        x0_unconditional: ``[B, ...]``, the one that belongs to ``unconditional``.
    """

    x0: torch.Tensor
    noise: torch.Tensor
    conditional: torch.Tensor | None = None
    unconditional: torch.Tensor | None = None
    x0_conditional: torch.Tensor | None = None
    x0_unconditional: torch.Tensor | None = None


@dataclass
class Denoiser:
    """What a sampler calls.

    Attributes:
        network: called as ``network(x, times)``, or ``network(x, times, labels)`` where there are labels; x in the
            dtype of its parameters. It gives a tensor, or what a diffusers model gives.
        prediction_type: what it predicts.
        guidance: 1 uses the labels as they are; w gives ``without + w * (with - without)``, two calls per step. A
            ``Guidance`` gives w state by state.
        clip: the least and greatest value of a clean sample, or None; one that is infinite is no bound.
        sigma_data: for ``prediction_type="edm"``.
        both_branches: ask for the unconditional estimate also where the guidance has no use for it.
    """

    network: Network
    prediction_type: str = "epsilon"
    guidance: float | Guidance = 1.0
    clip: tuple[float, float] | None = None
    sigma_data: float = SIGMA_DATA
    both_branches: bool = False

    def __post_init__(self) -> None:
        check_prediction_type(self.prediction_type)
        self.sigma_data = finite_number("sigma_data", self.sigma_data, above=0)
        if not callable(getattr(self.guidance, "scale", None)):
            self.guidance = finite_number("guidance", self.guidance, do="Or a rule of memfast.sampling.")
        if self.clip is not None:
            self.clip = _bounds(self.clip)

    def begin(self, count: int) -> None:
        """A batch of ``count`` samples starts."""
        if not isinstance(self.guidance, float | int):
            self.guidance.begin(count)

    def __call__(
        self, x: torch.Tensor, level: Level, labels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The clean sample and the noise in ``x`` at ``level``, by the network's estimate."""
        found = self.estimates(x, level, labels, branches=False)
        return found.x0, found.noise

    def estimates(
        self, x: torch.Tensor, level: Level, labels: torch.Tensor | None = None, *, branches: bool = True
    ) -> Estimates:
        """The clean sample and the noise in ``x`` at ``level``, with the branches that guidance joined.

        Without ``branches`` their own noise estimates are not computed where nothing else needs them.
        """
        alpha = torch.tensor(level.alpha, dtype=torch.float64, device=x.device)
        sigma = torch.tensor(level.sigma, dtype=torch.float64, device=x.device)
        dtype = torch.int64 if isinstance(level.time, int) else torch.float32
        times = torch.full((len(x),), level.time, dtype=dtype, device=x.device)
        scaled = x * input_scale(self.prediction_type, alpha, sigma, self.sigma_data)
        scaled = scaled.to(dtype_of(self.network, scaled.dtype))

        def ask(*labels_given: torch.Tensor | None) -> torch.Tensor:
            return network_output(self.network(scaled, times, *labels_given), x).to(x.dtype)

        def read(output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x0_and_noise(output, x, alpha, sigma, self.prediction_type, self.sigma_data)

        conditional = unconditional = x0_conditional = x0_unconditional = None
        if labels is None:
            x0, noise = read(ask())
        elif self.guidance == 1.0 and not self.both_branches:
            x0, noise = x0_conditional, conditional = read(ask(labels))
        else:
            with_labels, without = ask(labels), ask(None)
            scale: Any = self.guidance
            constant = isinstance(scale, float | int)
            if branches or not constant:
                x0_conditional, conditional = read(with_labels)
                x0_unconditional, unconditional = read(without)
                if not constant:
                    gap = (conditional - unconditional).double().flatten(1).norm(dim=1)
                    scale = scale.scale(level, gap).to(x.dtype).view(-1, *[1] * (x.ndim - 1))
            # At guidance 1 to the bit what the labels alone give: a watched run ends as an unwatched one.
            alone = constant and scale == 1.0
            x0, noise = read(with_labels if alone else without + scale * (with_labels - without))
        if self.clip is not None:
            x0 = x0.clamp(*self.clip)
            noise = (x - alpha * x0) / sigma
        return Estimates(x0, noise, conditional, unconditional, x0_conditional, x0_unconditional)


def branch_estimate(x0: torch.Tensor, noise: torch.Tensor, alpha: float) -> torch.Tensor:
    """What compares two conditions at a level: the noise estimate, or where alpha is 0 minus the clean estimate.

    Without signal (flow models at the start, zero terminal SNR) the noise estimate is the state itself, whatever the
    network says. Minus the clean estimate is what differences of noise estimates, divided by alpha / sigma, tend to
    there.

    Args:
        x0: ``[B, ...]``, the clean sample by one branch.
        noise: ``[B, ...]``, the noise by the same branch.
        alpha: the level's share of the signal.
    """
    return noise if alpha > 0 else -x0


def network_output(output: Any, x: torch.Tensor) -> torch.Tensor:
    """The prediction for ``x`` in whatever a network gave: a tensor, a tuple, or a diffusers output.

    Twice the channels of ``x`` are a prediction and a variance; the variance is left out.
    """
    values = tensor_of(output)
    if values.ndim == x.ndim > 1 and values.shape[1] == 2 * x.shape[1]:
        values = values.chunk(2, dim=1)[0]
    return values


def tensor_of(output: Any) -> torch.Tensor:
    """The tensor in whatever a network gave: itself, the first of a tuple, or the ``sample`` of a diffusers output."""
    if isinstance(output, torch.Tensor):
        return output
    found: torch.Tensor = output[0] if isinstance(output, tuple) else output.sample
    return found


def dtype_of(network: Any, default: torch.dtype) -> torch.dtype:
    """The dtype that a network computes in: that of its first floating parameter."""
    parameters = network.parameters() if isinstance(network, torch.nn.Module) else ()
    return next((one.dtype for one in parameters if one.is_floating_point()), default)


def _bounds(clip: Any) -> tuple[float, float]:
    pair = clip.tolist() if hasattr(clip, "tolist") else clip
    numbers = isinstance(pair, list | tuple) and all(isinstance(x, Real) and not isinstance(x, bool) for x in pair)
    if not numbers or len(pair) != 2 or not pair[0] < pair[1]:
        raise InputError("clip", expected="(least, greatest)", received=repr(clip))
    return float(pair[0]), float(pair[1])
