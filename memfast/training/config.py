"""Every option of a training run, written once: its name, default, check, meaning, and where else it appears.

``Trainer``'s keyword arguments and their documentation, the flags of ``memfast train``, the table ``[training]`` of its
TOML file and the table ``training`` of ``run.json`` are made from the fields of :class:`TrainingConfig`. To add an
option, add a field.

This module does not import PyTorch, so that ``memfast --help`` stays quick.
"""

import difflib
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from memfast.foundation.arguments import finite_number, seed_number, whole_number
from memfast.foundation.errors import InputError

AFTER_FLIP, BEFORE_FLIP = "after_flip", "before_flip"
PRECISIONS = ("float32", "bfloat16")
LR_DECAYS = ("none", "cosine")
MOST_EPOCHS = 1e9
# What a run learns where nothing else is said: noise prediction on this schedule, at every timestep alike.
DEFAULT_SCHEDULE = {"name": "linear"}

Check = Callable[[str, Any], Any]


def option(
    default: Any,
    text: str,
    *,
    check: Check | None = None,
    toml: Any = None,
    flag: bool = False,
    recorded: str | None = None,
) -> Any:
    """A field of ``TrainingConfig``.

    Args:
        default: its default.
        text: what it means, for the documentation, ``--help`` and the table of TOML entries.
        check: called with name and value; returns the value to keep, or raises ``InputError``.
        toml: the type of its TOML entry; None where the file cannot set it.
        flag: whether ``memfast train`` has a flag for it.
        recorded: its place in ``run.json``'s table ``training``, for example ``"lr.base"``. A resumed run must agree in
            it. None: it may change from one resumption to the next.
    """
    least = getattr(check, "keywords", {}).get("least")
    metadata = {"text": text, "check": check, "toml": toml, "flag": flag, "recorded": recorded, "least": least}
    return field(default=default, metadata=metadata)


def _or_none(check: Check) -> Check:
    def checked(name: str, value: Any) -> Any:
        return None if value is None else check(name, value)

    checked.keywords = getattr(check, "keywords", {})  # type: ignore[attr-defined]
    return checked


def _one_of(choices: Sequence[str], words: str = "") -> Check:
    def check(name: str, value: Any) -> str:
        if value not in choices:
            raise InputError(name, expected=words or " or ".join(map(repr, choices)), received=repr(value))
        return value

    return check


def _true_or_false(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(name, expected="True or False", received=_kind(value))
    return value


def _labels(name: str, value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        expected = "True, False or None: the labels are the data's own"
        raise InputError(name, expected=expected, received=_kind(value))
    return value


def _betas(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InputError(name, expected="two numbers from 0 to below 1", received=repr(value))
    first, second = (finite_number(name, beta, least=0, below=1) for beta in value)
    return first, second


def _compile(name: str, value: Any) -> bool | str:
    if not isinstance(value, bool) and value != "auto":
        raise InputError(name, expected="True, False or 'auto'", received=repr(value))
    return value


def _optimizer(name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise InputError(
            name, expected="a function that makes an optimizer of the parameters", received=_kind(value),
            do="For example lambda parameters: torch.optim.SGD(parameters, momentum=0.9).",
        )  # fmt: skip
    return value


def _ema(_: str, value: Any) -> tuple[Any, ...]:
    from memfast.training.ema import profiles

    return tuple(profiles(value))


def _hooks(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise InputError(name, expected="a list of hooks, like [Monitor()]", received=_kind(value))
    return tuple(value)


def _skip(name: str, value: Any) -> Any:
    from memfast.training.skipping import LossGate

    if value is not None and not isinstance(value, LossGate):
        raise InputError(name, expected="a LossGate, or None", received=_kind(value))
    return value


_AT_LEAST_ONE = partial(whole_number, least=1)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The options of a training run, checked when it is made. ``Trainer`` takes them as keyword arguments.

    Raises:
        InputError: an option that cannot be used; the text says what was expected.
    """

    steps: int | None = option(
        None, "How many training steps; or give ``epochs``.", check=_or_none(_AT_LEAST_ONE), toml=int | None, flag=True,
    )  # fmt: skip
    epochs: float | None = option(
        None, "How many passes over the data, in place of ``steps``; rounded up to whole steps.",
        check=_or_none(partial(finite_number, above=0, greatest=MOST_EPOCHS)), toml=float | None, flag=True,
    )  # fmt: skip
    batch_size: int = option(
        64, "Draws per step, over all processes and accumulated parts.",
        check=_AT_LEAST_ONE, toml=int, flag=True, recorded="batch_size",
    )  # fmt: skip
    lr: float = option(
        2e-4, "The learning rate.", check=partial(finite_number, above=0), toml=float, flag=True, recorded="lr.base"
    )
    warmup: int = option(
        0, "Steps over which the rate rises to ``lr``.",
        check=partial(whole_number, least=0), toml=int, flag=True, recorded="lr.warmup",
    )  # fmt: skip
    lr_decay: str = option(
        "none", '``"none"``, or ``"cosine"`` to 0 at the last step.',
        check=_one_of(LR_DECAYS, "one of " + ", ".join(LR_DECAYS)), toml=str, flag=True, recorded="lr.decay",
    )  # fmt: skip
    optimizer: Any = option(
        None, "A function that makes an optimizer of the parameters; None is AdamW. All its groups get the run's rate.",
        check=_optimizer,
    )  # fmt: skip
    betas: tuple[float, float] = option((0.9, 0.999), "AdamW's two decays.", check=_betas, toml=list[float])
    weight_decay: float = option(
        0.0, "AdamW's, decoupled.", check=partial(finite_number, least=0), toml=float, flag=True
    )
    grad_clip: float | None = option(
        1.0, "The greatest norm of all gradients together; None does not clip.",
        check=_or_none(partial(finite_number, above=0)), toml=float | None, flag=True, recorded="grad_clip",
    )  # fmt: skip
    accumulate: int = option(
        1, "Parts in which a process works through its share of a batch.",
        check=_AT_LEAST_ONE, toml=int, flag=True, recorded="accumulate",
    )  # fmt: skip
    ema: Any = option(
        0.999, "Averages of the weights: a decay, a ``ConstantDecay``, a ``PowerFunction`` or its name "
        '(``"power-0.05"``), several of them, or None. Sampling uses the first.',
        check=_ema, toml=float | str | list[float | str] | None, recorded="ema",
    )  # fmt: skip
    precision: str = option(
        "float32", '``"float32"`` or ``"bfloat16"`` (autocast; weights, noise and loss stay float32).',
        check=_one_of(PRECISIONS), toml=str, flag=True, recorded="precision",
    )  # fmt: skip
    compile: bool | str = option(
        "auto", 'True, False, or ``"auto"``: see ``memfast.training.choose_compile``.', check=_compile, toml=str | bool
    )
    seed: int = option(
        0, "The seed of everything random, a whole number of 64 bits.",
        check=seed_number, toml=int, flag=True, recorded="seed",
    )  # fmt: skip
    hflip: bool = option(
        False, "Flip half of the images from left to right.",
        check=_true_or_false, toml=bool, flag=True, recorded="hflip",
    )  # fmt: skip
    ambient_noise: str = option(
        AFTER_FLIP, 'For an ``Ambient`` objective with ``hflip``: ``"after_flip"`` adds an item\'s fixed noise to the '
        "flipped item, as the paper's code does, so that an item and its mirror image share one noise; "
        '``"before_flip"`` flips it along, so that the noisy copy is one image and its mirror image.',
        check=_one_of((AFTER_FLIP, BEFORE_FLIP)), toml=str, flag=True, recorded="ambient_noise",
    )  # fmt: skip
    labels: bool | None = option(
        None, 'Train with the data\'s labels: True, False, or None for "if the model has classes".', check=_labels
    )
    condition_dropout: float = option(
        0.0, 'The share of labels replaced by "no class", for guidance.',
        check=partial(finite_number, least=0, greatest=1), toml=float, flag=True, recorded="condition_dropout",
    )  # fmt: skip
    start: str | os.PathLike[str] | None = option(
        None, "Weights to start from: a run's folder, a diffusers folder, a safetensors file.",
        toml=str | None, flag=True, recorded="start",
    )  # fmt: skip
    resume: bool = option(False, "Continue the run in ``out`` if it holds one; otherwise start.", check=_true_or_false)
    overwrite: bool = option(
        False, "Replace the run in ``out``, once the first step of the new one has succeeded.", check=_true_or_false
    )
    checkpoint_every: int | None = option(
        1000, "Steps between checkpoints; None writes one at the end only.",
        check=_or_none(_AT_LEAST_ONE), toml=int | None, flag=True,
    )  # fmt: skip
    keep: int | None = option(
        3, "How many numbered checkpoints to keep; None keeps all.",
        check=_or_none(_AT_LEAST_ONE), toml=int | None, flag=True,
    )  # fmt: skip
    log_every: int = option(50, "Steps between log entries.", check=_AT_LEAST_ONE, toml=int, flag=True)
    tensorboard: bool = option(False, "Also write TensorBoard's files.", check=_true_or_false, toml=bool, flag=True)
    device: Any = option(
        None, "Where to train: cpu, cuda, ...; None takes the GPU if there is one.", toml=str | None, flag=True
    )
    resident: bool | None = option(
        None, "Keep the data on the device; None decides by the memory that is free.", check=_or_none(_true_or_false)
    )
    shard: bool = option(
        False, "With several processes, shard weights, gradients and optimizer state over them (FSDP2) instead of "
        "keeping a copy in each. Checkpoints are the same, so either continues the other.",
        check=_true_or_false, toml=bool, flag=True,
    )  # fmt: skip
    find_unused_parameters: bool = option(
        False, "With several processes, allow parameters that a step's loss does not depend on (an option of DDP).",
        check=_true_or_false, toml=bool, flag=True,
    )  # fmt: skip
    hooks: Sequence[Any] = option((), "What runs between steps, for example ``Monitor``.", check=_hooks)
    skip: Any = option(None, "A ``LossGate`` that skips samples of abnormally low loss, or None.", check=_skip)
    progress: bool = option(True, "Show progress.", check=_true_or_false)

    def __post_init__(self) -> None:
        for one in fields(self):
            check = one.metadata["check"]
            if check is not None:
                object.__setattr__(self, one.name, check(one.name, getattr(self, one.name)))
        if (self.steps is None) == (self.epochs is None):
            raise InputError(
                "steps, epochs", expected="exactly one of them", received=f"steps={self.steps}, epochs={self.epochs}"
            )
        if self.batch_size % self.accumulate:
            raise InputError(
                "batch_size", expected=f"a multiple of {self.accumulate} (world size 1 x accumulate {self.accumulate})",
                received=str(self.batch_size), do="Change it or accumulate.",
            )  # fmt: skip

    @classmethod
    def from_arguments(cls, options: dict[str, Any]) -> "TrainingConfig":
        """The configuration of ``Trainer``'s keyword arguments.

        Raises:
            TypeError: an argument that does not exist; the text names the nearest one.
        """
        known = [one.name for one in fields(cls)]
        for name in options:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise TypeError(f"Trainer() got an unexpected keyword argument {name!r}.{hint}")
        return cls(**options)

    def recorded(self) -> dict[str, Any]:
        """What ``run.json`` says of the training, and what a resumed run must have in common with it."""
        from memfast.training.optimizer import describe_optimizer

        found: dict[str, Any] = {"optimizer": describe_optimizer(self.optimizer_factory())}
        for one in fields(self):
            if one.metadata["recorded"] is not None:
                *tables, name = one.metadata["recorded"].split(".")
                place = found
                for table in tables:
                    place = place.setdefault(table, {})
                place[name] = getattr(self, one.name)
        found["ema"] = [profile.description for profile in self.ema]
        found["start"] = None if self.start is None else str(self.start)
        found["hooks"] = [hook.describe() for hook in self.hooks]
        found["skip"] = None if self.skip is None else self.skip.describe()
        return found

    def optimizer_factory(self) -> Callable[..., Any]:
        """What makes the optimizer."""
        from memfast.training.optimizer import adamw

        return self.optimizer or adamw(self.betas, self.weight_decay)


def options_documented() -> str:
    """The options as the ``Args`` of a docstring."""
    return "\n".join(f"        {one.name}: {one.metadata['text']}" for one in fields(TrainingConfig))


def signature_with_options(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function that takes ``**options``, with the options of ``TrainingConfig`` in their place."""
    own = [one for one in inspect.signature(function).parameters.values() if one.kind is not one.VAR_KEYWORD]
    options = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
        for one in fields(TrainingConfig)
    ]
    return inspect.Signature([*own, *options], return_annotation=None)


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"{type(value).__name__} {value!r}"[:80]
