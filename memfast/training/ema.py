"""Averages of the weights over training: constant decay and EDM2's power function, several at once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from memfast import ops
from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.training.sharding import from_local, reshard, shard_like, to_local

# The plain mean over training, exponent 0, has 0.289; beyond it the newest weights would count least.
LARGEST_STD = 0.28
POWER = "power-"
# Enough for decays that differ only far behind the point.
DIGITS = ".12g"


@dataclass(frozen=True)
class ConstantDecay:
    """``average = decay * average + (1 - decay) * weights`` after every step.

    Attributes:
        decay: from 0 to below 1.
        ramp: use ``min(decay, (1 + step) / (10 + step))``, so that a short run's average forgets the first weights.
    """

    decay: float = 0.999
    ramp: bool = True

    def __post_init__(self) -> None:
        finite_number("ema decay", self.decay, least=0, below=1)

    @property
    def name(self) -> str:
        """The name of the average, for files: the decay."""
        return f"{self.decay:{DIGITS}}"

    @property
    def description(self) -> str:
        """What a resumed run must have in common."""
        return self.name if self.ramp else f"{self.name} without a ramp"

    def weight(self, step: int) -> float:
        """The share of the new weights after step ``step`` = 1, 2, ..."""
        return 1.0 - (min(self.decay, (1 + step) / (10 + step)) if self.ramp else self.decay)


@dataclass(frozen=True)
class PowerFunction:
    """EDM2's average, whose profile over training is a power of time (Karras et al. 2024, arXiv 2312.02696, sec. 3.1).

    Attributes:
        std: the profile's relative standard deviation, for example 0.05; above 0, below 0.28.
    """

    std: float = 0.05

    def __post_init__(self) -> None:
        finite_number("ema std", self.std, above=0, below=LARGEST_STD)

    @property
    def name(self) -> str:
        """The name of the average, for files."""
        return f"{POWER}{self.std:{DIGITS}}"

    @property
    def description(self) -> str:
        """What a resumed run must have in common."""
        return self.name

    @property
    def gamma(self) -> float:
        """The exponent: the positive root of std**2 * (g + 2)**2 * (g + 3) = g + 1."""
        inverse = self.std**-2
        return float(np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse]).real.max())

    def weight(self, step: int) -> float:
        """The share of the new weights after step ``step`` = 1, 2, ..."""
        return 1.0 - (1.0 - 1.0 / step) ** (self.gamma + 1.0)


Profile = ConstantDecay | PowerFunction
FUSED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def profiles(value: Any) -> list[Profile]:
    """The averages a user asked for: None, a decay, a profile, a power function's name, or several of them.

    >>> [profile.name for profile in profiles([0.99, PowerFunction(0.1), "power-0.05"])]
    ['0.99', 'power-0.1', 'power-0.05']
    """
    if value is None:
        return []
    items: Sequence[Any] = list(value) if isinstance(value, (list, tuple)) else [value]
    found = [_profile(item) for item in items]
    if len({profile.name for profile in found}) != len(found):
        raise InputError("ema", expected="averages with different names", received=", ".join(p.name for p in found))
    return found


def _profile(item: Any) -> Profile:
    if isinstance(item, (ConstantDecay, PowerFunction)):
        return item
    if isinstance(item, str) and item.startswith(POWER):
        try:
            return PowerFunction(float(item.removeprefix(POWER)))
        except ValueError as error:
            expected = f"{POWER!r} and a number above 0 and below {LARGEST_STD}, like '{POWER}0.05'"
            raise InputError("ema", expected=expected, received=repr(item)) from error
    return ConstantDecay(finite_number("ema decay", item, do=f"'{POWER}0.05' names a power function."))


class Averages:
    """The averages of one model's parameters, float32 (float64 where the model is); its buffers are not averaged.

    Of a network that is sharded over processes, each holds the averages of its own shard.

    Args:
        model: the network.
        wanted: the profiles.
    """

    def __init__(self, model: nn.Module, wanted: Iterable[Profile]) -> None:
        self.profiles = list(wanted)
        self._names = [name for name, _ in model.named_parameters()]
        self._model = model
        self._parameters: list[torch.Tensor] = [parameter.detach() for parameter in model.parameters()]
        self._fused = all(parameter.dtype in FUSED_DTYPES for parameter in self._parameters)
        parts = [to_local(parameter) for parameter in self._parameters]
        self._averages: list[list[torch.Tensor]] = [
            [p.float().clone() if self._fused else p.clone() for p in parts] for _ in self.profiles
        ]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step ``step`` = 1, 2, ..."""
        weights = [profile.weight(step) for profile in self.profiles]
        parts = [to_local(parameter) for parameter in self._parameters]
        if self._fused:
            ops.ema(parts, self._averages, [1.0 - weight for weight in weights])
            return
        for weight, average in zip(weights, self._averages, strict=True):
            torch._foreach_lerp_(average, parts, weight)

    def state(self, name: str) -> dict[str, torch.Tensor]:
        """One average by parameter name, sharded as its parameters are."""
        own = zip(self._names, self._own(name), self._parameters, strict=True)
        return {parameter: from_local(average, like) for parameter, average, like in own}

    @torch.no_grad()
    def load(self, name: str, state: Mapping[str, torch.Tensor]) -> None:
        """Set one average from full tensors."""
        for parameter, average, like in zip(self._names, self._own(name), self._parameters, strict=True):
            average.copy_(to_local(shard_like(state[parameter].to(like.device), like)))

    @contextmanager
    def applied(self, index: int = 0) -> Iterator[None]:
        """The model with an average for its parameters, in place; afterwards its own, to the bit."""
        own = [to_local(parameter).clone() for parameter in self._parameters]
        self._set(self._averages[index])
        try:
            yield
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            to_local(parameter).copy_(value)
        reshard(self._model)

    def _own(self, name: str) -> list[torch.Tensor]:
        return self._averages[[profile.name for profile in self.profiles].index(name)]
