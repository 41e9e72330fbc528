"""The Trainer: its arguments checked, the parts of a run put together, and what hooks may ask of it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memfast import ops, schedules
from memfast.data import open_source
from memfast.models import ItemFormat, load_weights
from memfast.objective import DenoisingObjective
from memfast.runtime.distributed import join
from memfast.timesteps import LossSecondMoment
from memfast.training import persistence
from memfast.training.adapting import fresh
from memfast.training.checking import (
    AFTER_FLIP,
    BEFORE_FLIP,
    check_ambient_noise,
    check_betas,
    check_classes,
    check_condition_dropout,
    check_hflip,
    check_kinds,
    check_lr_decay,
    check_numbers,
    check_precision,
    check_trainable,
)
from memfast.training.compiling import choose_compile, compiled
from memfast.training.describing import describe
from memfast.training.ema import Averages, profiles
from memfast.training.failures import not_finite
from memfast.training.hooks import Hook
from memfast.training.items import Feed, count_classes
from memfast.training.ledger import Ledger
from memfast.training.logs import RunLog
from memfast.training.loop import TrainingResult, run_to_the_end
from memfast.training.order import SampleOrder
from memfast.training.preparing import choose_config, choose_device, count_steps, make_model
from memfast.training.processes import check_batch, copy_to_all
from memfast.training.sharding import spread
from memfast.training.skipping import LossGate
from memfast.training.step import Conditions, Forward
from memfast.training.stepping import take_step
from memfast.training.update import OptimizerFactory, Update, adamw, describe_optimizer, learning_rate


class Trainer:
    """Trains a denoising network.

    Everything random follows from ``seed``: the order of the items from (seed, epoch), timesteps, noise, flips and
    dropped labels from (seed, step, draw number). So a run that is killed and resumed, or spread over processes, sees
    the same numbers; on one CPU it repeats to the last bit.

    Args:
        model: a network called as ``model(x, timesteps, labels=None)``, a configuration for ``memfast.models.build``,
            or None for that of ``start`` or, without one, a small U-Net that fits the data (with classes where
            ``labels`` is True).
        data: whatever ``memfast.data.open_source`` reads: an array, a folder, a source.
        objective: what to learn; by default noise prediction on the linear schedule.
        out: the run's folder.
        steps: how many steps; or give ``epochs``.
        epochs: how many passes over the data.
        batch_size: draws per step, over all processes and accumulated parts.
        lr: the learning rate.
        warmup: steps over which the rate rises to ``lr``.
        lr_decay: ``"none"``, or ``"cosine"`` to 0 at the last step.
        optimizer: makes an optimizer of the parameters; None is AdamW. Its groups all get the run's learning rate.
        betas: AdamW's.
        weight_decay: AdamW's, decoupled.
        grad_clip: the greatest norm of all gradients, or None.
        accumulate: parts in which a process works through its share of a batch.
        ema: a decay, a ``ConstantDecay``, a ``PowerFunction`` or its name (``"power-0.05"``), several of them, or None.
            Sampling uses the first.
        precision: ``"float32"`` or ``"bfloat16"`` (autocast; weights, noise and loss stay float32).
        compile: True, False, or ``"auto"``: see ``memfast.training.choose_compile``.
        seed: a whole number of 64 bits.
        hflip: flip half of the images from left to right.
        ambient_noise: for an ``Ambient`` objective with ``hflip``: ``"after_flip"`` adds an item's fixed noise to the
            flipped item, as the paper's code does, so that an item and its mirror image share one noise;
            ``"before_flip"`` flips it along, so that the noisy copy is one image and its mirror image.
        labels: train with the source's labels: True, False, or None for "if the model has classes".
        condition_dropout: the share of labels replaced by "no class", for guidance.
        start: weights to start from: a run's folder, a diffusers folder, a safetensors file.
        resume: continue the run in ``out`` if it holds one; without one, start.
        overwrite: replace a run in ``out``.
        checkpoint_every: steps between checkpoints; None writes one at the end only.
        keep: how many checkpoints to keep.
        log_every: steps between log entries.
        tensorboard: also write TensorBoard's files.
        device: by default the GPU if there is one.
        resident: keep the data on the device; None decides by memory.
        shard: with several processes, spread weights, gradients and optimizer state over them (FSDP2) instead of
            keeping a copy in each. Checkpoints are the same, so either continues the other.
        hooks: what runs between steps, for example ``Monitor``.
        skip: a ``LossGate``, or None.
        progress: show progress.

    Raises:
        InputError: an argument that cannot be used.
        OutputError: ``out`` holds results and neither ``resume`` nor ``overwrite`` is on.
        CheckpointError: the run in ``out`` differs from this one; the text names the field.
    """

    def __init__(
        self,
        model: nn.Module | Mapping[str, Any] | None,
        data: Any,
        objective: DenoisingObjective | None = None,
        *,
        out: str | os.PathLike[str],
        steps: int | None = None,
        epochs: float | None = None,
        batch_size: int = 64,
        lr: float = 2e-4,
        warmup: int = 0,
        lr_decay: str = "none",
        optimizer: OptimizerFactory | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        grad_clip: float | None = 1.0,
        accumulate: int = 1,
        ema: Any = 0.999,
        precision: str = "float32",
        compile: bool | str = "auto",
        seed: int = 0,
        hflip: bool = False,
        ambient_noise: str = AFTER_FLIP,
        labels: bool | None = None,
        condition_dropout: float = 0.0,
        start: str | os.PathLike[str] | None = None,
        resume: bool = False,
        overwrite: bool = False,
        checkpoint_every: int | None = 1000,
        keep: int | None = 3,
        log_every: int = 50,
        tensorboard: bool = False,
        device: str | torch.device | None = None,
        resident: bool | None = None,
        shard: bool = False,
        hooks: Sequence[Hook] = (),
        skip: LossGate | None = None,
        progress: bool = True,
    ) -> None:
        check_kinds(
            model=model, objective=objective, labels=labels, hooks=hooks, skip=skip, optimizer=optimizer
        )  # fmt: skip
        batch_size, accumulate, warmup, log_every, checkpoint_every, keep, seed = check_numbers(
            batch_size=batch_size, accumulate=accumulate, warmup=warmup, log_every=log_every,
            checkpoint_every=checkpoint_every, keep=keep, seed=seed,
        )  # fmt: skip
        lr, weight_decay, grad_clip, condition_dropout = check_numbers(
            lr=lr, weight_decay=weight_decay, grad_clip=grad_clip, condition_dropout=condition_dropout
        )
        betas = check_betas(betas)
        check_lr_decay(lr_decay)
        check_precision(precision)
        self.world = join()
        check_batch(self.world, batch_size, accumulate)
        self.device = choose_device(device, self.world.local_rank)
        self.source = open_source(data)
        self.format = ItemFormat.of(self.source.item_shape, self.source.dtype)
        check_hflip(hflip, self.format.kind)
        self.objective = fresh(objective or DenoisingObjective(schedules.linear()))
        self.steps = count_steps(steps, epochs, len(self.source), batch_size)
        self.batch_size, self.accumulate, self.seed = batch_size, accumulate, seed
        self.out = Path(out)
        self._lr: dict[str, Any] = {"base": lr, "warmup": warmup, "decay": lr_decay}
        self.checkpoint_every, self.keep, self.log_every = checkpoint_every, keep, log_every
        self.tensorboard, self.progress, self.hooks, self.skip = tensorboard, progress, list(hooks), skip

        self.sharded = shard and self.world.size > 1
        if model is None:
            known = [Path(folder) for folder in (out if resume else None, start) if folder is not None]
            classes = count_classes(self.source) if labels else None
            model = choose_config(self.format.item_shape, known, classes)
        self.model = make_model(model, self.format.item_shape, seed)
        check_trainable(self.model)
        if not self.sharded:
            self.model.to(self.device)
        config = getattr(self.model, "memfast_config", None)
        classes = (config or {}).get("num_classes")
        with_labels = classes is not None if labels is None else labels
        self.num_classes = count_classes(self.source, classes) if with_labels else None
        if with_labels:
            check_classes(config)
        check_condition_dropout(condition_dropout, labels=with_labels)
        check_ambient_noise(ambient_noise, ambient=self.objective.ambient is not None, hflip=hflip)
        order = SampleOrder(seed, len(self.source), batch_size)
        self.feed = Feed(
            self.source, order, self.device, rank=self.world.rank, world=self.world.size, labels=with_labels,
            resident=resident,
        )  # fmt: skip
        self.compiles = choose_compile(compile, self.device, self.steps)
        optimizer = optimizer or adamw(betas, weight_decay)
        self.settings = describe(
            model=config,
            objective=self.objective,
            data={
                "name": self.source.name,
                "count": len(self.source),
                "hash": self.source.content_hash() if self.feed.resident else None,
                "format": self.format.to_dict(),
                "num_classes": self.num_classes,
            },
            training={
                "seed": seed, "batch_size": batch_size, "accumulate": accumulate, "lr": dict(self._lr),
                "optimizer": describe_optimizer(optimizer), "grad_clip": grad_clip,
                "ema": [profile.description for profile in profiles(ema)], "precision": precision, "hflip": hflip,
                "ambient_noise": ambient_noise, "condition_dropout": condition_dropout,
                "start": None if start is None else str(start),
                "hooks": [hook.describe() for hook in self.hooks],
                "skip": None if skip is None else skip.describe(),
            },
        )  # fmt: skip
        self.settings |= {"compile": self.compiles, "processes": self.world.size, "sharded": self.sharded}

        for hook in self.hooks:
            self.objective = hook.prepare(self.objective)
        self.objective.to(self.device)
        self.adaptive = isinstance(self.objective.density, LossSecondMoment)
        for hook in self.hooks:
            hook.check(self)
        if self.skip is not None:
            self.skip.prepare(self.objective, self.device)
        continued, found = persistence.find(self, resume=resume, overwrite=overwrite)
        if found is not None:
            persistence.restore_model(self, found)
        elif start is not None:
            load_weights(self.model, start)
        if self.sharded:
            spread(self.model, self.world.size, self.device, compile_blocks=self.compiles)
        self.forward = Forward(
            self.model, self.objective, self.format,
            Conditions(hflip, condition_dropout, self.num_classes, ambient_noise == BEFORE_FLIP),
            autocast=precision == "bfloat16",
        )  # fmt: skip
        self.update = Update(dict(self.model.named_parameters()), optimizer, grad_clip)
        self.averages = Averages(self.model, profiles(ema))
        self.step, self.seconds = 0, 0.0
        self.ledger = Ledger(self.world, on_cpu=self.device.type == "cpu")
        self.key = ops.key(seed, 0).to(self.device)
        if found is not None:
            persistence.restore(self, found)
        self.run_forward: nn.Module = self.forward
        if not self.sharded:
            self.run_forward = copy_to_all(
                compiled(self.forward) if self.compiles else self.forward, self.world, self.device
            )
        self.run_log: RunLog | None = None
        self.saved_step = -1
        self.stopped: str | None = None
        persistence.claim(self, continued=continued)

    def run(self) -> TrainingResult:
        """Train to the last step, and write the final checkpoint.

        Raises:
            NotFiniteError: the loss or its gradient is NaN or infinite; its samples are named and saved.
            OutputError: a file could not be written; what was on disk is whole.
            KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM; a checkpoint was written first.
        """
        return run_to_the_end(self)

    def one_step(self) -> None:
        """Take one training step; ``run`` does the rest: log, checkpoints, hooks."""
        take_step(self)

    def save(self, name: str | None = None) -> None:
        """Write a checkpoint of this moment: under ``name``, or numbered (once per step)."""
        self.read_losses()
        if name is None and self.saved_step == self.step:
            return
        with self.world.fail_together(str(self.out)):
            if self.world.is_main or self.sharded:
                persistence.save(self, name)
        if name is None:
            self.saved_step = self.step

    def log(self, entry: dict[str, Any]) -> None:
        """Add an entry to the run's log; hooks use it."""
        if self.run_log is not None:
            self.run_log.write(entry)

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""
        return self.step * self.batch_size / len(self.source)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """The network with its first average, in evaluation mode; afterwards as it was."""
        training = self.model.training
        self.model.eval()
        try:
            with self.averages.applied() if self.averages.profiles else nullcontext():
                yield
        finally:
            self.model.train(training)

    def rate(self, step: int) -> float:
        """The learning rate of a 0-based step."""
        return learning_rate(step, **self._lr, total=self.steps)

    def read_losses(self) -> None:
        """Bring the losses of the last steps to the host, and stop where one or its gradient is not finite."""
        bad = self.ledger.read()
        if bad is not None:
            step, loss = bad
            key = ops.key(self.seed, step - 1).to(self.device)
            self.objective.set_step(step - 1)
            raise not_finite(self.out, step, loss, self.forward, self.feed.items(step - 1), key, self.world)
