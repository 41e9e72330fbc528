"""The samplers: DDIM, DDPM and Heun. Each takes a network from noise to samples, on the noise contract of memfast.

A sample is a function of (network, seed, sample id): neither the batch size nor the number of samples changes it,
beyond what the network's own arithmetic does with the batch size.

A sampler is a small object, and everything else that there is to say is one request::

    DDIM(eta=0.5).sample(network, SamplingRequest(schedule=schedule, shape=(1, 14, 14), count=64))

``ddim``, ``ddpm`` and ``heun`` do the same in one call.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.foundation.registry import Registry
from memfast.sampling.denoiser import Network
from memfast.sampling.loop import Move, fresh_noise, run
from memfast.sampling.request import SamplingRequest, takes_request
from memfast.sampling.steps import Level, level_at, levels, nearest_row, on_grid
from memfast.schedules import ContinuousSchedule, Schedule

DDPM_VARIANCES = ("small", "large")
# Karras et al. 2022: no step raises sigma by more than this factor.
MOST_CHURN = math.sqrt(2.0) - 1.0


@dataclass(frozen=True)
class Sampler:
    """Base of the samplers: ``advance`` takes one step.

    Attributes:
        name: the key in ``SAMPLERS``.
        default_steps: steps where the request says none; None is every timestep of the schedule.
        default_spacing: which timesteps to visit where the request does not say.
    """

    name: ClassVar[str]
    default_steps: ClassVar[int | None] = 50
    default_spacing: ClassVar[str] = "trailing"

    def sample(self, network: Network, request: SamplingRequest) -> torch.Tensor:
        """Draw samples.

        Args:
            network: called as ``network(x, timesteps)`` or ``network(x, timesteps, labels)``, x in the dtype of its
                parameters; for VP schedules the times are the 0-based timesteps, see ``Level.time``. It gives a tensor,
                or what a diffusers model gives.
            request: what to sample.

        Returns:
            float32 ``[count, *shape]``.

        Raises:
            InputError: arguments that do not fit each other.
        """
        return run(network, request, self.levels(request), self)

    def levels(self, request: SamplingRequest) -> list[Level]:
        """The levels that a request visits: the noisiest first, the clean one last."""
        steps = self.default_steps if request.steps is None else request.steps
        steps = len(on_grid(request.schedule)) if steps is None else steps
        spacing = self.default_spacing if request.spacing is None else request.spacing
        return levels(request.schedule, steps, spacing)

    def advance(self, move: Move) -> torch.Tensor:
        """The next state, ``[B, ...]``."""
        raise NotImplementedError

    def perturb(
        self, state: torch.Tensor, level: Level, ids: torch.Tensor, step: int, request: SamplingRequest
    ) -> tuple[torch.Tensor, Level]:
        """The state and its level before the network is asked: as they are, unless a sampler adds noise first."""
        return state, level

    def to_dict(self) -> dict[str, Any]:
        """What ``choose_sampler`` makes the sampler from again."""
        return {"name": self.name, **{field.name: getattr(self, field.name) for field in fields(self)}}


@dataclass(frozen=True)
class DDIM(Sampler):
    """DDIM (Song et al. 2021, equation 12): ``x' = alpha' x0 + sqrt(sigma'^2 - s^2) noise + s fresh``.

    Args:
        eta: 0 is deterministic, 1 has DDPM's variance.
    """

    name = "ddim"
    eta: float = 0.0

    def __post_init__(self) -> None:
        finite_number("eta", self.eta, least=0, greatest=1)

    def advance(self, move: Move) -> torch.Tensor:
        """The step of equation 12."""
        spread = self.eta * posterior_std(move.level, move.following)
        kept = math.sqrt(max(0.0, move.following.sigma**2 - spread**2))
        moved = move.following.alpha * move.x0 + kept * move.noise
        return moved + spread * move.fresh_noise() if spread > 0 else moved


@dataclass(frozen=True)
class DDPM(Sampler):
    """DDPM's reverse process (Ho et al. 2020, algorithm 2): the mean of q(x_s | x_t, x0) plus fresh noise.

    Args:
        variance: ``small`` is q(x_s | x_t, x0)'s own, ``large`` is that of q(x_t | x_s) (Ho's sigma^2 = beta). No noise
            is added in the last step.
    """

    name = "ddpm"
    default_steps = None
    variance: str = "small"

    def __post_init__(self) -> None:
        if self.variance not in DDPM_VARIANCES:
            raise InputError("variance", expected="one of " + ", ".join(DDPM_VARIANCES), received=repr(self.variance))

    def advance(self, move: Move) -> torch.Tensor:
        """The mean, and noise of the chosen variance."""
        small = posterior_std(move.level, move.following)
        kept = math.sqrt(max(0.0, move.following.sigma**2 - small**2))
        mean = move.following.alpha * move.x0 + kept * move.noise
        if move.following.timestep is None:
            return mean
        spread = small if self.variance == "small" else math.sqrt(transition_variance(move.level, move.following))
        return mean + spread * move.fresh_noise()


@dataclass(frozen=True)
class Heun(Sampler):
    """The probability flow ODE by Heun's rule (Karras et al. 2022, algorithm 1), or with churn their algorithm 2.

    In ``y = x / alpha`` and ``s = sigma / alpha`` every schedule's ODE is ``dy/ds = noise estimate``. The last step, to
    the clean level, and a step from a level without signal are Euler's (that is, DDIM's). The network is called
    ``2 * steps - 1`` times. Levels are always those of the schedule, so that a network trained on whole timesteps is
    only ever asked about those.

    Args:
        churn: S_churn: each step first adds noise that raises s by the factor ``1 + churn / steps`` (at most the square
            root of 2), to the nearest level of the schedule. 0 adds none; so does a factor below half the distance to
            the schedule's next level.
    """

    name = "heun"
    default_steps = 18
    default_spacing = "karras"
    churn: float = 0.0

    def __post_init__(self) -> None:
        finite_number("churn", self.churn, least=0)

    def advance(self, move: Move) -> torch.Tensor:
        """Euler's step, corrected by the slope at its end."""
        level, following = move.level, move.following
        euler = following.alpha * move.x0 + following.sigma * move.noise
        if following.timestep is None or level.alpha == 0.0:
            return euler
        _, second = move.denoiser(euler, following, move.labels)
        ratio = following.alpha / level.alpha
        return ratio * move.state + (following.sigma - ratio * level.sigma) * 0.5 * (move.noise + second)

    def perturb(
        self, state: torch.Tensor, level: Level, ids: torch.Tensor, step: int, request: SamplingRequest
    ) -> tuple[torch.Tensor, Level]:
        """The state with churn's noise added, at its higher level."""
        if self.churn == 0 or level.alpha == 0 or level.timestep is None:
            return state, level
        rows = on_grid(request.schedule)
        factor = 1.0 + min(self.churn / (len(self.levels(request)) - 1), MOST_CHURN)
        row = max(level.timestep, nearest_row(rows, factor * level.sigma / level.alpha))
        if row == level.timestep:
            return state, level
        higher = level_at(request.schedule, row)
        kept = higher.alpha / level.alpha
        added = math.sqrt(transition_variance(higher, level))
        return kept * state + added * fresh_noise(ids, request.shape, request.seed, step), higher


SAMPLERS: Registry[type[Sampler]] = Registry("method", [DDIM, DDPM, Heun], group="memfast.samplers")


def choose_sampler(method: str | Mapping[str, Any] | Sampler) -> Sampler:
    """A sampler by its name, by its name and options, or as it is.

    Raises:
        InputError: an unknown name or option.

    >>> choose_sampler({"name": "ddim", "eta": 0.5})
    DDIM(eta=0.5)
    """
    if isinstance(method, Sampler):
        return method
    sampler: Sampler = SAMPLERS.build(method)
    return sampler


def _in_one_call(kind: type[Sampler]) -> Callable[[Callable[..., torch.Tensor]], Callable[..., torch.Tensor]]:
    defaults = {"steps": kind.default_steps, "spacing": kind.default_spacing}
    return takes_request(own=fields(kind), defaults=defaults)


@_in_one_call(DDIM)
def ddim(network: Network, schedule: Schedule | ContinuousSchedule, **options: Any) -> torch.Tensor:
    """Sample by ``DDIM``.

    Args:
        network: as for ``Sampler.sample``.
        schedule: the schedule that it was trained with.
        options: ``eta`` of ``DDIM``, and the other fields of ``SamplingRequest``: shape, count, steps, seed, labels,
            guidance, clip, callback, ...

    Returns:
        float32 ``[count, *shape]``.

    Raises:
        InputError: arguments that do not fit each other.
    """
    return _sample(DDIM, network, schedule, options)


@_in_one_call(DDPM)
def ddpm(network: Network, schedule: Schedule | ContinuousSchedule, **options: Any) -> torch.Tensor:
    """Sample by ``DDPM``: ``variance``, and the fields of ``SamplingRequest``; otherwise as ``ddim``."""
    return _sample(DDPM, network, schedule, options)


@_in_one_call(Heun)
def heun(network: Network, schedule: Schedule | ContinuousSchedule, **options: Any) -> torch.Tensor:
    """Sample by ``Heun``: ``churn``, and the fields of ``SamplingRequest``; otherwise as ``ddim``."""
    return _sample(Heun, network, schedule, options)


def _sample(kind: type[Sampler], network: Network, schedule: Any, options: dict[str, Any]) -> torch.Tensor:
    own = {field.name: options.pop(field.name) for field in fields(kind) if field.name in options}
    return kind(**own).sample(network, SamplingRequest(schedule=schedule, **options))


def transition_variance(level: Level, following: Level) -> float:
    """The variance of q(x_t | x_s) for the level t and the less noisy level s that follows it in sampling."""
    return max(0.0, level.sigma**2 - (level.alpha / following.alpha) ** 2 * following.sigma**2)


def posterior_std(level: Level, following: Level) -> float:
    """The standard deviation of q(x_s | x_t, x0)."""
    return following.sigma * math.sqrt(transition_variance(level, following)) / level.sigma
