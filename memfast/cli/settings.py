"""The TOML file of ``memfast train``: read strictly, so that a misspelt key is an error and never a silent default."""

import difflib
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from memfast.foundation.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")
DEFAULT_STEPS = 10_000
# A flag for one of these leaves out the file's value for the other.
ALTERNATIVES = {"training.steps": "training.epochs", "training.epochs": "training.steps"}


@dataclass
class DataSettings:
    """Table ``[data]``: what to train on."""

    path: str = ""
    held_out: str | None = None
    canaries: str | None = None
    canary_repeats: int | list[int] = 10
    limit: int | None = None
    image_size: int | None = None
    mode: str = "auto"
    skip_bad: bool = False
    use_labels: bool = False


@dataclass
class ObjectiveSettings:
    """Table ``[objective]``: where along the trajectory the model learns, and what it predicts.

    ``schedule`` and ``timesteps`` are tables with a ``name`` and that schedule's or density's own arguments.
    """

    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "linear", "T": 1000})
    timesteps: dict[str, Any] = field(default_factory=lambda: {"name": "uniform"})
    prediction_type: str = "epsilon"
    loss_weight: str | dict[str, Any] = "none"
    ambient: dict[str, Any] | None = None
    stratified: bool = False
    sigma_data: float = 0.5


@dataclass
class TrainingSettings:
    """Table ``[training]``: the loop; the arguments of ``Trainer``. Without ``epochs``, ``steps`` is 10,000."""

    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 64
    lr: float = 2e-4
    warmup: int = 0
    lr_decay: str = "none"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = 0.0
    grad_clip: float | None = 1.0
    accumulate: int = 1
    ema: float | str | list[float | str] | None = 0.999
    precision: str = "float32"
    compile: str | bool = "auto"
    seed: int = 0
    hflip: bool = False
    ambient_noise: str = "after_flip"
    condition_dropout: float = 0.0
    start: str | None = None
    checkpoint_every: int | None = 1000
    keep: int | None = 3
    log_every: int = 50
    tensorboard: bool = False
    device: str | None = None
    shard: bool = False

    def __post_init__(self) -> None:
        if self.steps is None and self.epochs is None:
            self.steps = DEFAULT_STEPS


@dataclass
class ControlSettings:
    """Table ``[monitor.control]``: hold the memorized fraction at a target; the arguments of ``Control``."""

    target: float
    stride: float = 0.1
    least: float | None = None
    greatest: float | None = None
    lead: float = 3.0
    caution: float = 0.25


@dataclass
class MonitorSettings:
    """Table ``[monitor]``: audits during training, by default as often as costs about 3 % of it."""

    enabled: bool = True
    every: int | None = None
    samples: int = 200
    sampling_steps: int = 20
    criterion: str = "nn_ratio"
    threshold: float | None = None
    stop_when_memorized: float | None = None
    control: ControlSettings | None = None


@dataclass
class SkipSettings:
    """Table ``[skip]``: leave out samples of abnormally low loss; the arguments of ``LossGate``."""

    ratio: float = 0.5
    bins: int = 50
    decay: float = 0.99
    warmup: int = 1000


@dataclass
class Settings:
    """The whole file. ``model`` holds ``kind`` and that network's own options; empty chooses one for the data."""

    data: DataSettings = field(default_factory=DataSettings)
    model: dict[str, Any] = field(default_factory=dict)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    skip: SkipSettings | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def read_settings(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read a TOML file and lay the command line's values over it.

    Args:
        path: the file, or None for all defaults.
        overrides: values by dotted name, for example ``{"training.lr": 1e-4}``; None values are left out.

    Raises:
        InputError: no such file, no TOML, an unknown table or key (with the nearest right one), or a wrong type.
    """
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(str(path), expected="a TOML file", received="nothing there") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
            raise InputError(str(path), expected="a TOML file", received=str(error)) from error
    for name, value in (overrides or {}).items():
        if value is not None:
            *tables, key = name.split(".")
            place = content
            for depth, table in enumerate(tables):
                place = place.setdefault(table, {})
                if not isinstance(place, dict):
                    where = ".".join(tables[: depth + 1])
                    raise InputError(f"setting {where!r}", expected="a table", received=repr(place))
            place[key] = value
            other = ALTERNATIVES.get(name)
            if other is not None and (overrides or {}).get(other) is None:
                place.pop(other.split(".")[-1], None)
    return _build(Settings, content, where="")


def _build(cls: type[T], content: Mapping[str, Any], where: str) -> T:
    hints = get_type_hints(cls)
    known: dict[str, Field] = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{where}{key}"
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise InputError(
                f"setting {name!r}", expected="one of " + ", ".join(known), received="an unknown key",
                do=f"Did you mean {where}{close[0]}?" if close else "",
            )  # fmt: skip
        values[key] = _value(hints[key], value, name)
    for key, item in known.items():
        if key not in values and item.default is MISSING and item.default_factory is MISSING:
            raise InputError(f"setting {where}{key}", expected="a value", received="none")
    return cls(**values)


def _value(hint: Any, value: Any, name: str) -> Any:
    allowed = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for kind in allowed:
        plain = get_origin(kind) or kind
        if hasattr(kind, "__dataclass_fields__"):
            if isinstance(value, dict):
                return _build(kind, value, f"{name}.")
            continue
        if plain is list and isinstance(value, list):
            return [_value(get_args(kind)[0], one, f"{name}[{place}]") for place, one in enumerate(value)]
        if plain is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, plain) and not (isinstance(value, bool) and bool not in allowed):
            return value
    words = " or ".join(_WORDS.get(get_origin(kind) or kind, "a table") for kind in allowed if kind is not type(None))
    raise InputError(f"setting {name!r}", expected=words, received=repr(value))


_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list"}
