"""What a Trainer needs before its first step: a device, a number of steps, a network."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.models import build, suggest

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


def make_model(
    model: nn.Module | Mapping[str, Any] | None, item_shape: Sequence[int], seed: int, num_classes: int | None = None
) -> nn.Module:
    """The network; one that is built here has initial weights that follow from ``seed``.

    Args:
        model: the network itself, its configuration, or None for a small one.
        item_shape: the shape of one item in front of it.
        seed: of the run.
        num_classes: for the small one.
    """
    if isinstance(model, nn.Module):
        return model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed & (2**63 - 1))
        config = (
            suggest(item_shape, num_classes=num_classes) if model is None else {"item_shape": list(item_shape), **model}
        )
        given = config["item_shape"]
        if not isinstance(given, list | tuple) or list(given) != list(item_shape):
            raise InputError(
                "model item_shape", expected=f"{list(item_shape)}, the data's", received=str(given),
                do="Leave it out: it follows from the data.",
            )  # fmt: skip
        if config.get("kind") == "diffusers_unet2d":
            config.pop("item_shape", None)
        return build(config)


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
