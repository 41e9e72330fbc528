"""``memfast train``: one TOML file and flags over it."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memfast.cli.printing import JsonOption, OverwriteOption, QuietOption, print_json
from memfast.cli.settings import Settings, flags, given, read_settings
from memfast.foundation.errors import InputError

if TYPE_CHECKING:
    from memfast.data import Source
    from memfast.training import Trainer

NAME = "train"


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes ``**settings`` one flag for each entry of ``memfast.cli.settings.flags``."""
    own = [one for one in inspect.signature(command).parameters.values() if one.kind is not one.VAR_KEYWORD]
    made = [
        inspect.Parameter(
            flag.name, inspect.Parameter.KEYWORD_ONLY, default=None,
            annotation=Annotated[flag.kind | None, typer.Option(help=flag.text, min=flag.least, show_default=False)],
        )
        for flag in flags()
    ]  # fmt: skip
    parameters = [*own[:2], *made, *own[2:]]
    keyword = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    command.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in keyword}
    return command


@with_settings
def run(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG.toml]", help="Settings; flags win.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder.")] = Path("run"),
    low: Annotated[float | None, typer.Option(help="Learn around an interval of timesteps: its lower bound.")] = None,
    high: Annotated[float | None, typer.Option(help="Its upper bound.")] = None,
    monitor: Annotated[
        bool | None, typer.Option("--monitor/--no-monitor", help="Audit samples while training; on by default.")
    ] = None,
    stop_when_memorized: Annotated[
        float | None, typer.Option(help="End the run when the monitor finds a larger share copied.")
    ] = None,
    control: Annotated[
        float | None, typer.Option(help="Hold the memorized share here by moving --low and --high.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out if it holds one.")] = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    **settings: Any,
) -> None:
    """Train a diffusion model on images or signals. `memfast train --out run --data images/` is enough to start.

    Ctrl-C and SIGTERM keep a checkpoint; --resume continues to the same final result, bit for bit on one CPU.
    """
    from memfast.runtime.distributed import is_main, join

    overrides = {flag.setting: settings.get(flag.name) for flag in flags()}
    overrides |= {
        "monitor.enabled": monitor, "monitor.stop_when_memorized": stop_when_memorized,
        "monitor.control.target": control,
    }  # fmt: skip
    read = read_settings(config, overrides)
    if low is not None or high is not None:
        read.objective.timesteps = _interval(low, high)
    with join().fail_together("memfast train"):
        trainer = make_trainer(read, out, resume=resume, overwrite=overwrite, progress=not quiet)
    try:
        result = trainer.run()
    except (KeyboardInterrupt, SystemExit):
        if is_main():
            print(f"memfast: interrupted; {out} holds a checkpoint, and --resume continues it", file=sys.stderr)
        raise
    if not is_main():
        return
    facts = {
        "folder": str(result.folder), "step": result.step, "loss": result.loss, "seconds": result.seconds,
        "stopped": result.stopped,
    }  # fmt: skip
    if as_json:
        print_json(facts)
    else:
        loss = "" if result.loss is None else f", loss {result.loss:.4g}"
        print(f"step {result.step}{loss}, {result.seconds:.0f} s: {result.stopped}; the run is in {result.folder}")


def make_trainer(
    settings: Settings, out: Path, *, resume: bool = False, overwrite: bool = False, progress: bool = True
) -> "Trainer":
    """The Trainer that settings describe.

    Raises:
        InputError: a setting that cannot be used.
    """
    from dataclasses import asdict

    from memfast.models import ItemFormat
    from memfast.models.build import suggest
    from memfast.objective import DenoisingObjective
    from memfast.training import LossGate, Trainer

    objective = DenoisingObjective.from_dict(given(settings.objective))
    source = _open(settings, progress)
    item_shape = ItemFormat.of(source.item_shape, source.dtype).item_shape
    num_classes = int(source.labels.max()) + 1 if settings.data.use_labels and source.labels is not None else None
    # Weights to start from bring their network along.
    training = asdict(settings.training)
    alone = training["start"] is not None and not settings.model
    model = None if alone else {**suggest(item_shape, num_classes=num_classes), **settings.model}
    return Trainer(
        model, source, objective, out=out, resume=resume, overwrite=overwrite, progress=progress,
        labels=settings.data.use_labels or None, hooks=_hooks(settings),
        skip=None if settings.skip is None else LossGate(**given(settings.skip)), **training,
    )  # fmt: skip


def _open(settings: Settings, progress: bool) -> "Source":
    from memfast.data import open_source
    from memfast.data.canaries import Canaries

    asked = settings.data
    if not asked.path:
        raise InputError("data", expected="what to train on", received="nothing", do="Pass --data or set data.path.")
    if asked.limit is not None and asked.limit < 1:
        raise InputError("setting 'data.limit'", expected="at least 1", received=str(asked.limit))
    source = open_source(asked.path, **_reading(settings), progress=progress)
    source = source if asked.limit is None else _first(source, asked.limit)
    if asked.canaries is None:
        return source
    repeats = {} if asked.canary_repeats is None else {"repeats": asked.canary_repeats}
    return Canaries(open_source(asked.canaries, **_reading(settings)), **repeats).added_to(source)


def _first(source: "Source", limit: int) -> "Source":
    from memfast.data import ArraySource

    labels = None if source.labels is None else source.labels[:limit]
    first = source.block(0, limit)
    names = [source.item_name(index) for index in range(len(first))]
    return ArraySource(first, name=f"{source.name}, first {limit}", labels=labels, names=names)


def _reading(settings: Settings) -> dict[str, Any]:
    """How all sets are read, so that they can be compared."""
    asked = given(settings.data)
    return {name: asked[name] for name in ("skip_bad", "mode", "image_size") if name in asked}


def _interval(low: float | None, high: float | None) -> dict[str, Any]:
    if low is None or high is None:
        raise InputError("--low, --high", expected="both bounds of the interval", received="one")
    return {"name": "confidence_interval", "low": low, "high": high}


def _hooks(settings: Settings) -> list[Any]:
    from memfast.criteria import criterion_named
    from memfast.data import open_source
    from memfast.training import Control, Monitor

    asked = settings.monitor
    if not asked.enabled:
        if asked.control is not None or asked.stop_when_memorized is not None:
            received = "monitor.control" if asked.control is not None else "monitor.stop_when_memorized"
            raise InputError("the monitor is off", expected="no setting that needs it", received=received)
        return []
    options = given(asked, sampling_steps="steps")
    for name in ("enabled", "criterion", "threshold", "control"):
        options.pop(name, None)
    held_out = None if settings.data.held_out is None else open_source(settings.data.held_out, **_reading(settings))
    return [
        Monitor(
            held_out=held_out,
            criterion=criterion_named(asked.criterion, asked.threshold, what="setting 'monitor.criterion'"),
            control=None if asked.control is None else Control(**given(asked.control)), **options,
        )
    ]  # fmt: skip
