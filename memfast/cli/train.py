"""``memfast train``: one TOML file and flags over it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memfast.cli.printing import JsonOption, OverwriteOption, QuietOption, print_json
from memfast.cli.settings import Settings, read_settings

if TYPE_CHECKING:
    from memfast.data import Source
    from memfast.training import Trainer

NAME = "train"


def run(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG.toml]", help="Settings; flags win.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder.")] = Path("run"),
    data: Annotated[str | None, typer.Option(help="What to train on: a folder, npy, zip, parquet, ...")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Train on the first so many items.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data, in place of --steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Draws per step, over all processes.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    low: Annotated[float | None, typer.Option(help="Learn around an interval of timesteps: its lower bound.")] = None,
    high: Annotated[float | None, typer.Option(help="Its upper bound.")] = None,
    monitor: Annotated[
        bool | None, typer.Option("--monitor/--no-monitor", help="Audit samples while training; on by default.")
    ] = None,
    held_out: Annotated[str | None, typer.Option(help="Data not trained on: the monitor's floor.")] = None,
    stop_when_memorized: Annotated[
        float | None, typer.Option(help="End the run when the monitor finds a larger share copied.")
    ] = None,
    control: Annotated[
        float | None, typer.Option(help="Hold the memorized share here by moving --low and --high.")
    ] = None,
    canaries: Annotated[str | None, typer.Option(help="Known items to add to the data, to see them come back.")] = None,
    canary_repeats: Annotated[int | None, typer.Option(min=1, help="How often each canary is added.")] = None,
    shard: Annotated[
        bool | None, typer.Option("--shard", help="Under torchrun: spread the network over the processes (FSDP).")
    ] = None,
    start: Annotated[str | None, typer.Option(help="Weights to start from: a run, a diffusers folder, a file.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: the GPU if there is one.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of everything random.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out if it holds one.")] = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a diffusion model on images or signals. `memfast train --out run --data images/` is enough to start.

    Ctrl-C and SIGTERM keep a checkpoint; --resume continues to the same final result, bit for bit on one CPU.
    """
    settings = read_settings(
        config,
        {
            "data.path": data, "data.limit": limit, "training.steps": steps, "training.epochs": epochs,
            "training.batch_size": batch_size, "training.lr": lr,
            "training.start": start, "training.device": device, "training.seed": seed,
            "training.shard": shard, "data.held_out": held_out, "data.canaries": canaries,
            "data.canary_repeats": canary_repeats, "monitor.enabled": monitor,
            "monitor.stop_when_memorized": stop_when_memorized, "monitor.control.target": control,
        },
    )  # fmt: skip
    if low is not None or high is not None:
        settings.objective.timesteps = _interval(settings, low, high)
    trainer = make_trainer(settings, out, resume=resume, overwrite=overwrite, progress=not quiet)
    try:
        result = trainer.run()
    except (KeyboardInterrupt, SystemExit):
        if trainer.world.is_main:
            print(f"memfast: interrupted; {out} holds a checkpoint, and --resume continues it", file=sys.stderr)
        raise
    facts = {
        "folder": str(result.folder), "step": result.step, "loss": result.loss, "seconds": result.seconds,
        "stopped": result.stopped,
    }  # fmt: skip
    if not trainer.world.is_main:
        return
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

    weight = settings.objective.loss_weight
    objective = DenoisingObjective.from_dict(
        {**asdict(settings.objective), "loss_weight": {"name": weight} if isinstance(weight, str) else weight}
    )
    source = _open(settings, progress)
    item_shape = ItemFormat.of(source.item_shape, source.dtype).item_shape
    num_classes = int(source.labels.max()) + 1 if settings.data.use_labels and source.labels is not None else None
    # Weights to start from bring their network along.
    alone = settings.training.start is not None and not settings.model
    model = None if alone else {**suggest(item_shape, num_classes=num_classes), **settings.model}
    return Trainer(
        model, source, objective, out=out, resume=resume, overwrite=overwrite, progress=progress,
        labels=settings.data.use_labels or None, hooks=_hooks(settings),
        skip=None if settings.skip is None else LossGate(**asdict(settings.skip)), **asdict(settings.training),
    )  # fmt: skip


def _open(settings: Settings, progress: bool) -> "Source":
    from memfast.data import open_source
    from memfast.data.canaries import Canaries
    from memfast.foundation.errors import InputError

    asked = settings.data
    if not asked.path:
        raise InputError("data", expected="what to train on", received="nothing", do="Pass --data or set data.path.")
    if asked.limit is not None and asked.limit < 1:
        raise InputError("setting 'data.limit'", expected="at least 1", received=str(asked.limit))
    source = open_source(asked.path, **_reading(settings), progress=progress)
    source = source if asked.limit is None else _first(source, asked.limit)
    if asked.canaries is None:
        return source
    return Canaries(open_source(asked.canaries, **_reading(settings)), asked.canary_repeats).added_to(source)


def _first(source: "Source", limit: int) -> "Source":
    from memfast.data import ArraySource

    labels = None if source.labels is None else source.labels[:limit]
    first = source.block(0, limit)
    names = [source.item_name(index) for index in range(len(first))]
    return ArraySource(first, name=f"{source.name}, first {limit}", labels=labels, names=names)


def _reading(settings: Settings) -> dict[str, Any]:
    """How both sets are read, so that they can be compared."""
    asked = settings.data
    return {"skip_bad": asked.skip_bad, "mode": asked.mode, "image_size": asked.image_size}


def _interval(settings: Settings, low: float | None, high: float | None) -> dict[str, Any]:
    from memfast.foundation.errors import InputError

    if low is None or high is None:
        raise InputError("--low, --high", expected="both bounds of the interval", received="one")
    return {"name": "confidence_interval", "low": low, "high": high}


def _hooks(settings: Settings) -> list[Any]:
    from dataclasses import asdict

    from memfast.criteria import criterion_named
    from memfast.data import open_source
    from memfast.foundation.errors import InputError
    from memfast.training import Control, Monitor

    asked = settings.monitor
    if not asked.enabled:
        if asked.control is not None or asked.stop_when_memorized is not None:
            received = "monitor.control" if asked.control is not None else "monitor.stop_when_memorized"
            raise InputError("the monitor is off", expected="no setting that needs it", received=received)
        return []
    held_out = None if settings.data.held_out is None else open_source(settings.data.held_out, **_reading(settings))
    return [
        Monitor(
            every=asked.every, samples=asked.samples, steps=asked.sampling_steps, held_out=held_out,
            stop_when_memorized=asked.stop_when_memorized,
            criterion=criterion_named(asked.criterion, asked.threshold, what="setting 'monitor.criterion'"),
            control=None if asked.control is None else Control(**asdict(asked.control)),
        )
    ]  # fmt: skip
