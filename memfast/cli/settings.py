"""The TOML file of ``memfast train``: read strictly, so that a misspelt key is an error and never a silent default.

The table ``[training]`` is made from ``memfast.training.TrainingConfig``. The other tables hold what the file says; the
rest is left to the class that the table describes, so that no default is written twice. ``documented`` makes the table
of all entries in docs/training.md.
"""

import difflib
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, make_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from memfast.foundation.errors import InputError
from memfast.training.config import DEFAULT_SCHEDULE, TrainingConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")
DEFAULT_STEPS = 10_000
# A flag for one of these leaves out the file's value for the other.
ALTERNATIVES = {"training.steps": "training.epochs", "training.epochs": "training.steps"}


def entry(
    default: Any,
    text: str,
    *,
    flag: str | None = None,
    of: str | None = None,
    make: Any = MISSING,
    least: int | None = None,
) -> Any:
    """An entry of a table.

    Args:
        default: its default; None leaves it to the class that ``of`` names.
        text: what it means.
        flag: the name of the command's flag for it, or None.
        of: whose argument it is, for example ``"memfast.training:Monitor.samples"``.
        make: makes a default that is no plain value.
        least: the least value of its flag.
    """
    metadata = {"text": text, "flag": flag, "of": of, "least": least}
    if make is not MISSING:
        return field(default_factory=make, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class DataSettings:
    """Table ``[data]``: what to train on."""

    path: str = entry("", "What to train on: a folder, npy, zip, parquet, ...", flag="data")
    held_out: str | None = entry(None, "Data not trained on: the monitor's floor.", flag="held_out")
    canaries: str | None = entry(None, "Known items to add to the data, to see them come back.", flag="canaries")
    canary_repeats: int | list[int] | None = entry(
        None, "How often each canary is added: one number, or one for each.",
        flag="canary_repeats", of="memfast.data.canaries:Canaries.repeats", least=1,
    )  # fmt: skip
    limit: int | None = entry(None, "Train on the first so many items.", flag="limit", least=1)
    image_size: int | None = entry(
        None, "Side in pixels to bring images to; without it, mixed sizes are refused.", flag="image_size"
    )
    mode: str | None = entry(
        None, "How images are read: auto, L or RGB.", flag="mode", of="memfast.data:open_source.mode"
    )
    skip_bad: bool = entry(False, "Leave unreadable images out instead of refusing the data.", flag="skip_bad")
    use_labels: bool = entry(False, "Train with the data's labels.", flag="use_labels")


@dataclass
class ObjectiveSettings:
    """Table ``[objective]``: where along the trajectory the model learns, and what it predicts.

    ``schedule`` and ``timesteps`` are tables with a ``name`` and that schedule's or density's own arguments.
    """

    schedule: dict[str, Any] = entry(
        None, "The noise schedule: a table with its name and arguments.", make=lambda: dict(DEFAULT_SCHEDULE)
    )
    timesteps: dict[str, Any] = entry(
        None, "Where to learn: a table with the density's name and arguments.", make=lambda: {"name": "uniform"}
    )
    prediction_type: str | None = entry(
        None, "What the network predicts.", of="memfast.objective:DenoisingObjective.prediction_type"
    )
    loss_weight: str | dict[str, Any] | None = entry(
        None, "How much each timestep counts: a name, or a table with a name and arguments.",
        of="memfast.objective:DenoisingObjective.loss_weight",
    )  # fmt: skip
    ambient: dict[str, Any] | None = entry(None, "Ambient targets: a table with `timestep` or `sigma`.")
    stratified: bool | None = entry(
        None, "Draw the timesteps of a batch from equal parts of the density.",
        of="memfast.objective:DenoisingObjective.stratified",
    )  # fmt: skip
    sigma_data: float | None = entry(
        None, "The data's standard deviation, for EDM.", of="memfast.objective:DenoisingObjective.sigma_data"
    )


def _default_steps(self: Any) -> None:
    if self.steps is None and self.epochs is None:
        self.steps = DEFAULT_STEPS


TrainingSettings = make_dataclass(
    "TrainingSettings",
    [
        (one.name, one.metadata["toml"], field(default=one.default, metadata={**one.metadata, "of": None}))
        for one in fields(TrainingConfig)
        if one.metadata["toml"] is not None
    ],
    namespace={"__post_init__": _default_steps, "__module__": __name__},
)
TrainingSettings.__doc__ = "Table ``[training]``: the options of ``TrainingConfig`` that a file can say."

_CONTROL, _MONITOR, _SKIP = (f"memfast.training:{name}." for name in ("Control", "Monitor", "LossGate"))


@dataclass
class ControlSettings:
    """Table ``[monitor.control]``: hold the memorized fraction at a target."""

    target: float = field(metadata={"text": "The wanted fraction.", "flag": None, "of": None})
    stride: float | None = entry(None, "The largest move, as a share of the schedule.", of=f"{_CONTROL}stride")
    least: float | None = entry(None, "The earliest mean, as a share of the schedule.", of=f"{_CONTROL}least")
    greatest: float | None = entry(None, "The latest mean, as a share of the schedule.", of=f"{_CONTROL}greatest")
    lead: float | None = entry(None, "How many audits ahead the fraction is carried on.", of=f"{_CONTROL}lead")
    caution: float | None = entry(
        None, "The largest move to earlier timesteps, as a share of `stride`.", of=f"{_CONTROL}caution"
    )


@dataclass
class MonitorSettings:
    """Table ``[monitor]``: audits during training."""

    enabled: bool = entry(True, "Audit samples while training.")
    every: int | None = entry(
        None, "Steps between audits; without it, as often as costs about 3 % of the training.", of=f"{_MONITOR}every"
    )
    samples: int | None = entry(None, "Samples per audit.", of=f"{_MONITOR}samples")
    sampling_steps: int | None = entry(None, "DDIM steps per sample.", of=f"{_MONITOR}steps")
    criterion: str = entry("nn_ratio", "What counts as memorized: nn_ratio, absolute or calibrated.")
    threshold: float | None = entry(None, "The criterion's threshold; without it, the criterion's own.")
    stop_when_memorized: float | None = entry(
        None, "End the run when a larger share is copied.", of=f"{_MONITOR}stop_when_memorized"
    )
    control: ControlSettings | None = entry(None, "Table `[monitor.control]`.")


@dataclass
class SkipSettings:
    """Table ``[skip]``: leave out samples of abnormally low loss."""

    ratio: float | None = entry(None, "Skip below this share of the running mean.", of=f"{_SKIP}ratio")
    bins: int | None = entry(None, "Groups of timesteps with a running mean each.", of=f"{_SKIP}bins")
    decay: float | None = entry(None, "Of the running means.", of=f"{_SKIP}decay")
    warmup: int | None = entry(None, "Steps before anything is skipped.", of=f"{_SKIP}warmup")


@dataclass
class Settings:
    """The whole file. ``model`` holds ``kind`` and that network's own options; empty chooses one for the data."""

    data: DataSettings = field(default_factory=DataSettings)
    model: dict[str, Any] = field(default_factory=dict)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)  # type: ignore[valid-type]
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
        except RecursionError as error:
            raise InputError(str(path), expected="a TOML file", received="tables nested too deeply") from error
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


def given(settings: Any, **renamed: str) -> dict[str, Any]:
    """The entries of a table that were given, by the names of their arguments; the others keep their defaults.

    Args:
        settings: a table.
        renamed: entry -> argument, where the names differ.
    """
    return {renamed.get(name, name): value for name, value in asdict(settings).items() if value is not None}


@dataclass(frozen=True)
class Flag:
    """A flag of the command that sets an entry of the file.

    Attributes:
        name: as a Python argument: ``held_out`` is ``--held-out``.
        setting: the entry, for example ``"data.held_out"``.
        kind: its type.
        text: what it means.
        least: the least number it takes, or None.
    """

    name: str
    setting: str
    kind: Any
    text: str
    least: int | None


def flags() -> Iterator[Flag]:
    """The flags that entries of ``[data]`` and ``[training]`` have."""
    for table, cls in (("data", DataSettings), ("training", TrainingSettings)):
        hints = get_type_hints(cls)
        for one in fields(cls):
            name = one.metadata["flag"]
            if name:
                kind = next(kind for kind in _kinds(hints[one.name]) if kind is not type(None))
                text = one.metadata["text"].replace("`", "")
                name = one.name if name is True else name
                yield Flag(name, f"{table}.{one.name}", kind, text, one.metadata["least"])


def documented() -> str:
    """All entries of the file as a Markdown table."""
    rows = ["| entry | type | default | meaning |", "|---|---|---|---|"]
    for table, cls in (
        ("data", DataSettings), ("objective", ObjectiveSettings), ("training", TrainingSettings),
        ("monitor", MonitorSettings), ("monitor.control", ControlSettings), ("skip", SkipSettings),
    ):  # fmt: skip
        hints = get_type_hints(cls)
        for one in fields(cls):
            if isinstance(one.type, type(None)) or "Table `[" in one.metadata["text"]:
                continue
            text = one.metadata["text"].replace("``", "`").replace("|", "\\|")
            rows.append(f"| `{table}.{one.name}` | {_words(hints[one.name])} | {_default(table, one)} | {text} |")
    return "\n".join(rows) + "\n"


def _default(table: str, one: Field) -> str:
    if table == "training" and one.name == "steps":
        return f"{DEFAULT_STEPS}, without `epochs`"
    if one.metadata["of"] is not None:
        module, _, path = one.metadata["of"].partition(":")
        owner, _, argument = path.partition(".")
        return _shown(inspect.signature(getattr(importlib.import_module(module), owner)).parameters[argument].default)
    if one.default is not MISSING:
        return _shown(one.default)
    return _shown(one.default_factory()) if one.default_factory is not MISSING else "required"


def _shown(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, dict):
        return "`{" + ", ".join(f'{name} = "{part}"' for name, part in value.items()) + "}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{list(value) if isinstance(value, tuple) else value}`"


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
    allowed = _kinds(hint)
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
    raise InputError(f"setting {name!r}", expected=_words(hint), received=repr(value))


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _words(hint: Any) -> str:
    kinds = [kind for kind in _kinds(hint) if kind is not type(None)]
    return " or ".join(_WORDS.get(get_origin(kind) or kind, "a table") for kind in kinds)


_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list"}
