"""The arguments of a training run, checked before anything is written."""

import math
from typing import Any

from memfast.foundation.errors import InputError

AFTER_FLIP, BEFORE_FLIP = "after_flip", "before_flip"
PRECISIONS = ("float32", "bfloat16")
_ABOVE_ZERO = ("lr", "grad_clip")
_AT_LEAST_ZERO = ("warmup", "weight_decay")
_AT_LEAST_ONE = ("batch_size", "accumulate", "log_every", "checkpoint_every", "keep")
_FRACTIONS = ("condition_dropout",)


def check_numbers(**values: Any) -> None:
    """Raise unless each named number lies in its range; None is accepted where an argument may be None.

    Raises:
        InputError: a number out of range or not finite; it is named.
    """
    for name, value in values.items():
        if value is None:
            continue
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise InputError(name, expected="a finite number", received=repr(value))
        for names, fits, words in (
            (_ABOVE_ZERO, value > 0, "a number above 0"),
            (_AT_LEAST_ZERO, value >= 0, "a number of at least 0"),
            (_AT_LEAST_ONE, value >= 1, "at least 1"),
            (_FRACTIONS, 0 <= value <= 1, "a share from 0 to 1"),
        ):
            if name in names and not fits:
                raise InputError(name, expected=words, received=repr(value))


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
