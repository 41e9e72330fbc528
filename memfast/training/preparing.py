"""What a Trainer needs before its first step: a device, a number of steps, a network."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.models import build, config_of, suggest

MOST_EPOCHS = 1e9


def choose_device(device: str | torch.device | None, local_rank: int) -> torch.device:
    """The wanted device, or this process's GPU, or the CPU."""
    if device is not None:
        try:
            return torch.empty(0, device=torch.device(device)).device
        except (RuntimeError, AssertionError) as error:
            cause = str(error).splitlines()[0]
            raise InputError(
                "device", expected="a device that PyTorch can use here", received=f"{device} ({cause})"
            ) from error
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")


def count_steps(steps: int | None, epochs: float | None, items: int, batch_size: int) -> int:
    """The number of steps, from exactly one of ``steps`` and ``epochs``.

    >>> count_steps(None, 3, items=100, batch_size=64)
    5
    >>> count_steps(None, 1.1, items=100, batch_size=10)
    11
    """
    if (steps is None) == (epochs is None):
        raise InputError("steps, epochs", expected="exactly one of them", received=f"steps={steps}, epochs={epochs}")
    if steps is not None:
        return whole_number("steps", steps, least=1)
    # As it is written: the float nearest to 1.1 is a little more, and would cost a step.
    wanted = Fraction(str(finite_number("epochs", epochs, above=0, greatest=MOST_EPOCHS)))
    return math.ceil(wanted * items / batch_size)


def choose_config(item_shape: Sequence[int], weights: Sequence[Path], num_classes: int | None) -> dict[str, Any]:
    """The network's configuration where the user gave none: that of the weights to come, or else a small one.

    Args:
        item_shape: the shape of one item in front of it.
        weights: where weights will come from, the first that tells counts.
        num_classes: for the small one.
    """
    told = (config for config in map(config_of, weights) if config is not None)
    config = next(told, None) or suggest(item_shape, num_classes=num_classes)
    return {name: value for name, value in config.items() if name != "item_shape"}


def make_model(model: nn.Module | Mapping[str, Any], item_shape: Sequence[int], seed: int) -> nn.Module:
    """The network itself, or that of a configuration, whose initial weights follow from ``seed``."""
    if isinstance(model, nn.Module):
        return model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed & (2**63 - 1))
        config = {"item_shape": list(item_shape), **model}
        given = config["item_shape"]
        if not isinstance(given, list | tuple) or list(given) != list(item_shape):
            raise InputError(
                "model item_shape", expected=f"{list(item_shape)}, the data's", received=str(given),
                do="Leave it out: it follows from the data.",
            )  # fmt: skip
        if config.get("kind") == "diffusers_unet2d":
            del config["item_shape"]
            _check_channels(config.get("options"), item_shape)
        return build(config)


def _check_channels(options: Any, item_shape: Sequence[int]) -> None:
    channels = options.get("in_channels", item_shape[0]) if isinstance(options, Mapping) else item_shape[0]
    if len(item_shape) != 3 or channels != item_shape[0]:
        raise InputError(
            "training data", expected=f"images of {channels} channels, as the network takes",
            received=f"items {tuple(item_shape)} in front of it",
        )  # fmt: skip


def seed_generator(device: torch.device, seed: int) -> None:
    """Seed torch's own generators of the CPU and of ``device``.

    ``torch.manual_seed`` asks every kind of device there may be, which takes 0.1 ms: too long for every step.
    """
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
