"""The arguments of a training run, checked before anything is written."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from memfast.foundation.arguments import finite_number, seed_number, whole_number
from memfast.foundation.errors import InputError
from memfast.objective import DenoisingObjective
from memfast.training.hooks import Hook
from memfast.training.skipping import LossGate
from memfast.training.update import DECAYS

AFTER_FLIP, BEFORE_FLIP = "after_flip", "before_flip"
PRECISIONS = ("float32", "bfloat16")
# None turns these off.
_OPTIONAL = ("grad_clip", "checkpoint_every", "keep")
_AT_LEAST_ONE = partial(whole_number, least=1)
_NUMBERS: dict[str, Callable[[str, Any], int | float]] = {
    "batch_size": _AT_LEAST_ONE,
    "accumulate": _AT_LEAST_ONE,
    "warmup": partial(whole_number, least=0),
    "log_every": _AT_LEAST_ONE,
    "checkpoint_every": _AT_LEAST_ONE,
    "keep": _AT_LEAST_ONE,
    "seed": seed_number,
    "lr": partial(finite_number, above=0),
    "weight_decay": partial(finite_number, least=0),
    "grad_clip": partial(finite_number, above=0),
    "condition_dropout": partial(finite_number, least=0, greatest=1),
}


def check_numbers(**values: Any) -> list[Any]:
    """The named numbers as Python's own, in the order given; None stays where it turns something off.

    Raises:
        InputError: one is no number, or out of its range; it is named.

    >>> check_numbers(batch_size=64, keep=None, lr=1)
    [64, None, 1.0]
    """
    return [
        None if value is None and name in _OPTIONAL else _NUMBERS[name](name, value) for name, value in values.items()
    ]


def check_betas(betas: Any) -> tuple[float, float]:
    """AdamW's two decays.

    Raises:
        InputError: they are not two, or one lies outside [0, 1).
    """
    if not isinstance(betas, list | tuple) or len(betas) != 2:
        raise InputError("betas", expected="two numbers from 0 to below 1", received=repr(betas))
    first, second = (finite_number("betas", beta, least=0, below=1) for beta in betas)
    return first, second


def check_kinds(*, model: Any, objective: Any, labels: Any, hooks: Any, skip: Any, optimizer: Any) -> None:
    """Raise where one of these is another kind of thing, or two hooks would keep their states under one name."""
    wanted: list[tuple[str, Any, Any, str]] = [
        ("model", model, (nn.Module, Mapping), "an nn.Module, a configuration with a kind, or None"),
        ("objective", objective, DenoisingObjective, "a DenoisingObjective, or None"),
        ("labels", labels, bool, "True, False or None: the labels are the data's own"),
        ("hooks", hooks, (list, tuple), "a list of hooks, like [Monitor()]"),
        ("skip", skip, LossGate, "a LossGate, or None"),
    ]
    for name, value, kinds, words in wanted:
        if value is not None and not isinstance(value, kinds):
            raise InputError(name, expected=words, received=_kind(value))
    for hook in hooks:
        if not isinstance(hook, Hook):
            raise InputError("hooks", expected="instances of memfast.training.Hook", received=_kind(hook))
    names = [hook.name for hook in hooks if type(hook).state is not Hook.state]
    if len(set(names)) < len(names):
        raise InputError(
            "hooks", expected="a name of its own for each", received=", ".join(map(repr, names)),
            do="A checkpoint keeps their states by name: set hook.name.",
        )  # fmt: skip
    if optimizer is not None and not callable(optimizer):
        raise InputError(
            "optimizer", expected="a function that makes an optimizer of the parameters", received=_kind(optimizer),
            do="For example lambda parameters: torch.optim.SGD(parameters, momentum=0.9).",
        )  # fmt: skip


def check_lr_decay(decay: Any) -> None:
    """Raise unless the learning rate can fall so."""
    if decay not in DECAYS:
        raise InputError("lr_decay", expected="one of " + ", ".join(DECAYS), received=repr(decay))


def check_hflip(hflip: bool, kind: str) -> None:
    """Raise where signals would be flipped: they would run backwards."""
    if hflip and kind == "signal":
        raise InputError("hflip", expected="images", received="signals, which it would play backwards")


def check_precision(precision: str) -> None:
    """Raise unless ``precision`` is one that a step can be taken in."""
    if precision not in PRECISIONS:
        raise InputError("precision", expected="'float32' or 'bfloat16'", received=repr(precision))


def check_trainable(model: nn.Module) -> None:
    """Raise where the network has nothing to train."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("model", expected="a network with parameters to train", received="one without any")


def check_classes(config: Mapping[str, Any] | None) -> None:
    """Raise where labels are wanted for a network whose configuration says that it has no classes."""
    if config is not None and config.get("num_classes", 1) is None:
        raise InputError(
            "labels", expected="a network with classes", received="one without",
            do="Set num_classes in the model's configuration.",
        )  # fmt: skip


def check_condition_dropout(share: float, *, labels: bool) -> None:
    """Raise where labels are to be dropped and there are none."""
    if share and not labels:
        raise InputError(
            "condition_dropout", expected="0 without labels", received=str(share),
            do="Train a network with classes on labelled data, or leave it out.",
        )  # fmt: skip


def check_ambient_noise(order: str, *, ambient: bool, hflip: bool) -> None:
    """Raise unless ``order`` is known, and has an effect where it is not the default.

    Raises:
        InputError: another word, or ``"before_flip"`` without an ambient objective or without flips.
    """
    if order not in (AFTER_FLIP, BEFORE_FLIP):
        raise InputError("ambient_noise", expected=f"{AFTER_FLIP!r} or {BEFORE_FLIP!r}", received=repr(order))
    if order == BEFORE_FLIP and not (ambient and hflip):
        missing = "no flips" if ambient else "an objective without"
        raise InputError("ambient_noise", expected="an Ambient objective and hflip=True", received=missing)


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"{type(value).__name__} {value!r}"[:80]
