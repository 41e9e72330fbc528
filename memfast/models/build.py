"""A configuration -> a network. To add a network: write its class, with its ``kind``, and add it to ``KINDS``."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.foundation.registry import Registry
from memfast.foundation.values import plain
from memfast.models.mlp import Mlp
from memfast.models.unet1d import UNet1d
from memfast.models.unet2d import DiffusersUNet2d, UNet2d

KINDS: Registry[type[nn.Module]] = Registry(
    "model kind",
    (Mlp, UNet1d, UNet2d, DiffusersUNet2d),
    group="memfast.networks",
    base=nn.Module,
    name_of=lambda network: network.kind,
)


def build(config: Mapping[str, Any]) -> nn.Module:
    """The network that ``config`` describes, called as ``model(x, timesteps, labels=None) -> prediction``.

    Args:
        config: ``kind`` (one of ``KINDS``) and that class's arguments, as plain values that JSON can hold. The full
            configuration, defaults filled in, is kept as ``model.memfast_config``.

    Raises:
        InputError: the kind or an option is unknown, or one that is needed is missing.

    >>> build({"kind": "mlp", "item_shape": [1, 8, 8], "width": 16}).memfast_config["blocks"]
    3
    """
    config = dict(config)
    network: Any = KINDS.find(config.pop("kind", None))
    kind = network.kind
    signature = inspect.signature(network)
    unknown = sorted(set(config) - set(signature.parameters))
    if unknown:
        raise InputError(
            f"model {kind}", expected="options " + ", ".join(signature.parameters), received=", ".join(unknown)
        )
    try:
        bound = signature.bind(**config)
    except TypeError as error:
        raise InputError(f"model {kind}", expected="all its options", received=str(error)) from error
    bound.apply_defaults()
    for name, value in bound.arguments.items():
        # None, where it is the default, means that there are none, or that the network chooses.
        if name in _OPTIONS and not (value is None and signature.parameters[name].default is None):
            bound.arguments[name] = _OPTIONS[name](f"model {kind}: {name}", value)
    try:
        model = network(**bound.arguments)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"model {kind}", expected="options that fit together", received=str(error)) from error
    model.memfast_config = {"kind": kind, **plain(bound.arguments)}
    return model


def suggest(item_shape: Sequence[int], *, num_classes: int | None = None) -> dict[str, Any]:
    """A small configuration that fits items of this shape: ``unet2d`` for images, ``unet1d`` for signals.

    >>> suggest((1, 140))["kind"], suggest((3, 32, 32))["kind"]
    ('unet1d', 'unet2d')
    """
    kinds = {2: "unet1d", 3: "unet2d"}
    if len(item_shape) not in kinds:
        raise InputError("item_shape", expected="(C, L) or (C, H, W)", received=str(tuple(item_shape)))
    return {"kind": kinds[len(item_shape)], "item_shape": list(item_shape), "num_classes": num_classes}


def _each(check: Callable[[str, Any], Any], name: str, values: Any) -> list[Any]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) == 0:
        raise InputError(name, expected="a list of at least one value", received=repr(values))
    return [check(name, value) for value in values]


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(name, expected="true or false", received=repr(value))
    return value


_AT_LEAST_ONE = partial(whole_number, least=1)
# What an option of this name must be, in every network that has it.
_OPTIONS: dict[str, Callable[[str, Any], Any]] = {
    "item_shape": partial(_each, _AT_LEAST_ONE),
    "width": _AT_LEAST_ONE,
    "widths": partial(_each, _AT_LEAST_ONE),
    "blocks": _AT_LEAST_ONE,
    "layers": _AT_LEAST_ONE,
    "num_classes": _AT_LEAST_ONE,
    "attention": partial(_each, _flag),
    "dropout": partial(finite_number, least=0, greatest=1),
}
