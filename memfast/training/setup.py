"""From options and data to a run that can take a step: what is checked at once, and what is opened when it runs."""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from memfast import ops, schedules
from memfast.data import ArraySource, Source, open_source
from memfast.foundation.errors import CheckpointError, InputError
from memfast.models import ItemFormat, build, config_of, load_weights, suggest
from memfast.models.checkpoints import MODEL_FILE, RUN_FILE, read_run
from memfast.models.unet2d import DiffusersUNet2d
from memfast.models.weights import load_state
from memfast.objective import DenoisingObjective
from memfast.runtime.distributed import Ranks
from memfast.schedules import Schedule, schedule_from_dict
from memfast.training.checkpoint import RunFolder, describe
from memfast.training.config import BEFORE_FLIP, DEFAULT_SCHEDULE, TrainingConfig
from memfast.training.data import BatchLoader, SampleOrder, check_finite, count_classes
from memfast.training.ema import Averages
from memfast.training.forward import Conditions, Forward, choose_compile, compiled
from memfast.training.hooks import Hook
from memfast.training.log import LossTracker
from memfast.training.optimizer import OptimizerStep, describe_optimizer
from memfast.training.sharding import check_batch, replicate_model, shard_model
from memfast.training.state import RunState

# Two schedules of one name differ by rounding only; those of different names by far more.
_SAME_SCHEDULE = 1e-4


@dataclass
class PreparedRun:
    """A run whose arguments fit together; nothing outside this process was changed for it.

    Attributes:
        config: the options.
        out: the run's folder.
        source: the training data.
        format: how its items look to the network.
        objective: what is learned, before the hooks' changes.
        model: the network; None where the checkpoint that is resumed decides.
        steps: the number of the last step.
    """

    config: TrainingConfig
    out: Path
    source: Source
    format: ItemFormat
    objective: DenoisingObjective
    model: nn.Module | None
    steps: int


def prepare(
    model: nn.Module | Mapping[str, Any] | None,
    data: Any,
    objective: DenoisingObjective | None,
    out: Path,
    config: TrainingConfig,
) -> PreparedRun:
    """Check that everything fits together: options, data, objective, network, hooks. Reads the data and ``start``.

    Raises:
        InputError: something cannot be used; the text says what was expected.
        CheckpointError: the weights of ``start`` do not fit.
    """
    for name, value, kinds, words in (
        ("model", model, (nn.Module, Mapping), "an nn.Module, a configuration with a kind, or None"),
        ("objective", objective, DenoisingObjective, "a DenoisingObjective, or None"),
    ):
        if value is not None and not isinstance(value, kinds):
            raise InputError(name, expected=words, received=_kind(value))
    check_hooks(config.hooks)
    describe_optimizer(config.optimizer_factory())
    if config.device is not None:
        choose_device(config.device, 0)
    source = open_source(data)
    if isinstance(source, ArraySource) and not isinstance(source.array, np.memmap):
        check_finite(source, 0, source.array)  # data that must be read first are checked when they are
    form = ItemFormat.of(source.item_shape, source.dtype)
    if config.hflip and form.kind == "signal":
        raise InputError("hflip", expected="images", received="signals, which it would play backwards")
    objective = objective or DenoisingObjective(schedule_from_dict(DEFAULT_SCHEDULE))
    check_ambient_noise(config, ambient=objective.ambient is not None)
    steps = count_steps(config.steps, config.epochs, len(source), config.batch_size)
    prepared = PreparedRun(config, out, source, form, objective, None, steps)
    if model is not None or not config.resume:
        prepared.model = make_network(prepared, model, [])
        check_labels(prepared, prepared.model)
        if config.start is not None and not config.resume:
            load_weights(prepared.model, config.start)
            warn_of_other_objective(config.start, objective)
    prepared_objective(prepared)
    return prepared


def open_run(prepared: PreparedRun, ranks: Ranks, folder: RunFolder) -> RunState:
    """Open a prepared run: put the network on its device, load the data and the checkpoint that is resumed.

    Every rank calls; nothing is written.

    Args:
        prepared: the run.
        ranks: the processes that train together.
        folder: the run's folder.

    Raises:
        InputError: the batch does not divide over the processes, a hook cannot serve the run.
        OutputError: ``out`` holds results and neither ``resume`` nor ``overwrite`` is on.
        CheckpointError: the run in ``out`` differs from this one; the text names the field.
    """
    config = prepared.config
    check_batch(ranks, config.batch_size, config.accumulate)
    device = choose_device(config.device, ranks.local_rank)
    sharded = config.shard and ranks.size > 1
    objective = prepared_objective(prepared)
    model = prepared.model or make_network(prepared, None, [prepared.out])
    prepared.model = model
    num_classes = check_labels(prepared, model)
    compiles = choose_compile(config.compile, device, prepared.steps)
    description = _description(prepared, model, num_classes, ranks)
    description |= {"compile": compiles, "processes": ranks.size, "sharded": sharded}
    found = folder.find(description, resume=config.resume, overwrite=config.overwrite)
    if found is None and config.resume and config.start is not None:
        load_weights(model, config.start)
        warn_of_other_objective(config.start, prepared.objective)
    if not sharded:
        model.to(device)
    objective.to(device)
    if config.skip is not None:
        config.skip.prepare(objective, device)
    if found is not None:
        if found.step > prepared.steps:
            raise CheckpointError(f"{found.folder}: it is at step {found.step}, beyond steps={prepared.steps}.")
        load_state(model, found.tensors(MODEL_FILE), str(found.folder))
    run = _assemble(prepared, ranks, device, folder, description, model, objective, num_classes, compiles, sharded)
    for hook in config.hooks:
        hook.check(run)
    if found is not None:
        run.restore(found)
    return run


def _assemble(
    prepared: PreparedRun, ranks: Ranks, device: torch.device, folder: RunFolder, description: dict[str, Any],
    model: nn.Module, objective: DenoisingObjective, num_classes: int | None, compiles: bool, sharded: bool,
) -> RunState:  # fmt: skip
    config = prepared.config
    if sharded:
        shard_model(model, ranks, device, compile_blocks=compiles)
    forward = Forward(
        model, objective, prepared.format,
        Conditions(config.hflip, config.condition_dropout, num_classes, config.ambient_noise == BEFORE_FLIP),
        autocast=config.precision == "bfloat16",
    )  # fmt: skip
    optimizer = OptimizerStep(dict(model.named_parameters()), config.optimizer_factory(), config.grad_clip)
    averages = Averages(model, config.ema)
    run_forward: nn.Module = forward
    if not sharded:
        run_forward = replicate_model(
            compiled(forward) if compiles else forward, ranks, device,
            find_unused_parameters=config.find_unused_parameters,
        )  # fmt: skip
    loader = BatchLoader(
        prepared.source, SampleOrder(config.seed, len(prepared.source), config.batch_size), device,
        rank=ranks.rank, world=ranks.size, labels=num_classes is not None, resident=config.resident,
    )  # fmt: skip
    return RunState(
        config=config, folder=folder, description=description, ranks=ranks, device=device, source=prepared.source,
        format=prepared.format, objective=objective, model=model, forward=forward, run_forward=run_forward,
        loader=loader, optimizer=optimizer, averages=averages,
        losses=LossTracker(ranks, on_cpu=device.type == "cpu"), hooks=config.hooks, num_classes=num_classes,
        steps=prepared.steps, adaptive=objective.density.learns_from_losses, sharded=sharded, compiles=compiles,
        key=ops.key(config.seed, 0).to(device),
    )  # fmt: skip


def choose_device(device: Any, local_rank: int) -> torch.device:
    """The wanted device, or this process's GPU, or the CPU."""
    if device is not None:
        try:
            return torch.empty(0, device=torch.device(device)).device
        except (RuntimeError, AssertionError, TypeError) as error:
            cause = str(error).splitlines()[0]
            raise InputError(
                "device", expected="a device that PyTorch can use here", received=f"{device} ({cause})"
            ) from error
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")


def count_steps(steps: int | None, epochs: float | None, items: int, batch_size: int) -> int:
    """The number of steps: ``steps``, or as many as ``epochs`` passes over the data take.

    >>> count_steps(None, 3, items=100, batch_size=64)
    5
    >>> count_steps(None, 1.1, items=100, batch_size=10)
    11
    """
    if steps is not None:
        return steps
    # As it is written: the float nearest to 1.1 is a little more, and would cost a step.
    return math.ceil(Fraction(str(epochs)) * items / batch_size)


def make_network(
    prepared: PreparedRun, model: nn.Module | Mapping[str, Any] | None, known: Sequence[Path]
) -> nn.Module:
    """The network: the given one, that of a configuration, that of the weights to come, or a small one for the data.

    Args:
        prepared: the run.
        model: what the user gave.
        known: folders whose weights will be loaded, before ``start``: the run that is resumed.
    """
    config, shape = prepared.config, prepared.format.item_shape
    if model is None:
        folders = [*known, *([] if config.start is None else [Path(config.start)])]
        classes = count_classes(prepared.source) if config.labels else None
        model = choose_config(shape, folders, classes)
    network = build_network(model, shape, config.seed)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError("model", expected="a network with parameters to train", received="one without any")
    return network


def choose_config(item_shape: Sequence[int], weights: Sequence[Path], num_classes: int | None) -> dict[str, Any]:
    """The network's configuration where the user gave none: that of the weights to come, or else a small one.

    Args:
        item_shape: the shape of one item in front of it.
        weights: where weights will come from; the first whose network is known counts.
        num_classes: for the small one.
    """
    told = (config for config in map(config_of, weights) if config is not None)
    config = next(told, None) or suggest(item_shape, num_classes=num_classes)
    return {name: value for name, value in config.items() if name != "item_shape"}


def build_network(model: nn.Module | Mapping[str, Any], item_shape: Sequence[int], seed: int) -> nn.Module:
    """The network itself, or that of a configuration, whose initial weights follow from ``seed``.

    A ``UNet2DModel`` of diffusers is wrapped, so that it returns a tensor and the run can be read back.
    """
    if isinstance(model, nn.Module):
        if type(model).__name__ == "UNet2DModel" and type(model).__module__.startswith("diffusers."):
            return DiffusersUNet2d.around(model)
        return model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed & (2**63 - 1))
        config = {"item_shape": list(item_shape), **model}
        given = config["item_shape"]
        if not isinstance(given, list | tuple) or list(given) != list(item_shape):
            raise InputError(
                "model item_shape", expected=f"{list(item_shape)}, the data's", received=str(given),
                do="Leave it out: it follows from the data.",
            )  # fmt: skip
        if config.get("kind") == "diffusers_unet2d":
            del config["item_shape"]
            _check_channels(config.get("options"), item_shape)
        return build(config)


def check_hooks(hooks: Sequence[Any]) -> None:
    """Raise where something is no hook, or two hooks would keep their states under one name."""
    for hook in hooks:
        if not isinstance(hook, Hook):
            raise InputError("hooks", expected="instances of memfast.training.Hook", received=_kind(hook))
    names = [hook.name for hook in hooks if type(hook).state is not Hook.state]
    if len(set(names)) < len(names):
        raise InputError(
            "hooks", expected="a name of its own for each", received=", ".join(map(repr, names)),
            do="A checkpoint keeps their states by name: set hook.name.",
        )  # fmt: skip


def check_labels(prepared: PreparedRun, model: nn.Module) -> int | None:
    """The number of classes, or None without labels.

    Raises:
        InputError: labels are wanted and the data or the network have none, or they do not fit each other.
    """
    config = getattr(model, "memfast_config", None)
    own = (config or {}).get("num_classes")
    wanted = own is not None if prepared.config.labels is None else prepared.config.labels
    classes = count_classes(prepared.source, own) if wanted else None
    if wanted and config is not None and config.get("num_classes", 1) is None:
        raise InputError(
            "labels", expected="a network with classes", received="one without",
            do="Set num_classes in the model's configuration.",
        )  # fmt: skip
    if prepared.config.condition_dropout and not wanted:
        raise InputError(
            "condition_dropout", expected="0 without labels", received=str(prepared.config.condition_dropout),
            do="Train a network with classes on labelled data, or leave it out.",
        )  # fmt: skip
    return classes


def check_ambient_noise(config: TrainingConfig, *, ambient: bool) -> None:
    """Raise where ``ambient_noise`` would have no effect."""
    if config.ambient_noise == BEFORE_FLIP and not (ambient and config.hflip):
        missing = "no flips" if ambient else "an objective without"
        raise InputError("ambient_noise", expected="an Ambient objective and hflip=True", received=missing)


def prepared_objective(prepared: PreparedRun) -> DenoisingObjective:
    """The objective to train with: without a past, and as the hooks want it.

    A density that has learned from another run begins anew, so that a run follows from its seed whatever its objective
    was used for before. A resumed run gets its own state back.
    """
    objective = prepared.objective
    if any(len(tensor) > 0 for tensor in objective.state_dict().values()):
        objective = type(objective).from_dict(objective.to_dict())
    for hook in prepared.config.hooks:
        objective = hook.prepare(objective)
    if prepared.config.skip is not None:
        prepared.config.skip.prepare(objective, torch.device("cpu"))
    return objective


def warn_of_other_objective(start: Any, objective: DenoisingObjective) -> None:
    """Warn where the weights to start from were trained to predict something else, or on another schedule."""
    for what, theirs, ours in _differences(Path(start), objective):
        warnings.warn(
            f"{start}: its weights were trained with {what} {theirs}, and this run trains them with {ours}. "
            f"Give the objective the same {what}, unless the change is meant.", UserWarning, stacklevel=3,
        )  # fmt: skip


def _differences(start: Path, objective: DenoisingObjective) -> list[tuple[str, str, str]]:
    if (start / RUN_FILE).is_file():
        run = read_run(start)
        predicted, schedule = run["prediction_type"], _or_none(schedule_from_dict, run["schedule"])
    else:
        config = _scheduler_config(start)
        predicted, schedule = config.get("prediction_type"), _diffusers_schedule(config)
    found = []
    if isinstance(predicted, str) and predicted != objective.prediction_type:
        found.append(("prediction type", repr(predicted), repr(objective.prediction_type)))
    own = objective.schedule
    if isinstance(schedule, Schedule) and isinstance(own, Schedule) and not _same(schedule, own):
        found.append(("schedule", str(schedule.to_dict()), str(own.to_dict())))
    return found


def _scheduler_config(start: Path) -> dict[str, Any]:
    """The scheduler's configuration of a pipeline's folder; empty where there is none that can be read."""
    for path in (start / "scheduler", start.parent / "scheduler", start):
        try:
            content = json.loads((path / "scheduler_config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        return content if isinstance(content, dict) else {}
    return {}


def _diffusers_schedule(config: Mapping[str, Any]) -> Any:
    makers = {
        "linear": schedules.linear, "scaled_linear": schedules.scaled_linear, "squaredcos_cap_v2": schedules.cosine
    }  # fmt: skip
    make = makers.get(str(config.get("beta_schedule")))
    if make is None or config.get("trained_betas") is not None:
        return None
    options = {"T": config.get("num_train_timesteps", 1000)}
    if make is not schedules.cosine:
        options |= {name: config[name] for name in ("beta_start", "beta_end") if name in config}
    return _or_none(lambda given: make(**given), options)


def _or_none(make: Any, value: Any) -> Any:
    try:
        return make(value)
    except (InputError, TypeError, ValueError, KeyError):
        return None


def _same(one: Schedule, other: Schedule) -> bool:
    return len(one) == len(other) and np.allclose(one.alpha, other.alpha, rtol=0, atol=_SAME_SCHEDULE)


def _description(prepared: PreparedRun, model: nn.Module, num_classes: int | None, ranks: Ranks) -> dict[str, Any]:
    source = prepared.source
    data = {
        "name": source.name, "count": len(source), "format": prepared.format.to_dict(), "num_classes": num_classes,
    }  # fmt: skip
    with ranks.fail_together(source.name):
        # One process reads the data: where they lie on a disk, all of them would wait for it.
        data["hash"] = ranks.broadcast(source.content_hash() if ranks.is_main else None)
    return describe(
        model=getattr(model, "memfast_config", None), objective=prepared.objective, data=data,
        config=prepared.config,
    )  # fmt: skip


def _check_channels(options: Any, item_shape: Sequence[int]) -> None:
    channels = options.get("in_channels", item_shape[0]) if isinstance(options, Mapping) else item_shape[0]
    if len(item_shape) != 3 or channels != item_shape[0]:
        raise InputError(
            "training data", expected=f"images of {channels} channels, as the network takes",
            received=f"items {tuple(item_shape)} in front of it",
        )  # fmt: skip


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"{type(value).__name__} {value!r}"[:80]
