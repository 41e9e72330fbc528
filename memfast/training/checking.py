"""The arguments of a training run, checked before anything is written."""

from collections.abc import Callable
from functools import partial
from typing import Any

from memfast.foundation.arguments import finite_number, seed_number, whole_number
from memfast.foundation.errors import InputError

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


def check_precision(precision: str) -> None:
    """Raise unless ``precision`` is one that a step can be taken in."""
    if precision not in PRECISIONS:
        raise InputError("precision", expected="'float32' or 'bfloat16'", received=repr(precision))


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
