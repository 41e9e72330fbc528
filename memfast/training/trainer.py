"""The training loop: one step function, exact resume, checkpoints that are whole, a log, and hooks between steps."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memfast import ops, schedules
from memfast.data import open_source
from memfast.foundation.errors import InputError
from memfast.foundation.progress import Progress
from memfast.models import ItemFormat, load_weights
from memfast.objective import Batch, DenoisingObjective
from memfast.timesteps import LossSecondMoment
from memfast.training import persistence
from memfast.training.adapting import observe_together
from memfast.training.checking import AFTER_FLIP, BEFORE_FLIP, check_ambient_noise, check_numbers
from memfast.training.compiling import choose_compile, compiled
from memfast.training.describing import describe
from memfast.training.ema import Averages, profiles
from memfast.training.failures import not_finite
from memfast.training.hooks import Hook
from memfast.training.interruption import Interruption
from memfast.training.items import Feed, Items, count_classes
from memfast.training.ledger import Ledger
from memfast.training.logs import RunLog
from memfast.training.order import SampleOrder
from memfast.training.preparing import choose_device, count_steps, make_model, seed_generator
from memfast.training.processes import copy_to_all, join_world, without_averaging
from memfast.training.sharding import spread
from memfast.training.skipping import LossGate
from memfast.training.step import Conditions, Forward
from memfast.training.update import OptimizerFactory, Update, adamw, describe_optimizer, learning_rate

# 2**64 divided by the golden ratio: keeps the seeds of neighbouring runs apart.
GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        folder: the run's folder; ``memfast.models.load_run`` reads it.
        step: steps taken in all.
        loss: the mean loss since the last log entry.
        seconds: training time in all, over every resumption.
        stopped: ``"done"``, or why a hook ended the run early, for example ``"memorized"``.
    """

    folder: Path
    step: int
    loss: float | None
    seconds: float
    stopped: str


class Trainer:
    """Trains a denoising network.

    Everything random follows from ``seed``: the order of the items from (seed, epoch), timesteps, noise, flips and
    dropped labels from (seed, step, draw number). So a run that is killed and resumed, or spread over processes, sees
    the same numbers; on one CPU it repeats to the last bit.

    Args:
        model: a network called as ``model(x, timesteps, labels=None)``, a configuration for ``memfast.models.build``,
            or None for a small U-Net that fits the data.
        data: whatever ``memfast.data.open_source`` reads: an array, a folder, a source.
        objective: what to learn; by default noise prediction on the linear schedule.
        out: the run's folder.
        steps: how many steps; or give ``epochs``.
        epochs: how many passes over the data.
        batch_size: draws per step, over all processes and accumulated parts.
        lr: the learning rate.
        warmup: steps over which the rate rises to ``lr``.
        lr_decay: ``"none"``, or ``"cosine"`` to 0 at the last step.
        optimizer: makes an optimizer of the parameters; None is AdamW.
        betas: AdamW's.
        weight_decay: AdamW's, decoupled.
        grad_clip: the greatest norm of all gradients, or None.
        accumulate: parts in which a process works through its share of a batch.
        ema: a decay, a ``ConstantDecay`` or ``PowerFunction``, several of them, or None. Sampling uses the first.
        precision: ``"float32"`` or ``"bfloat16"`` (autocast; weights, noise and loss stay float32).
        compile: True, False, or ``"auto"``: see ``memfast.training.choose_compile``.
        seed: any integer.
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
        model: nn.Module | dict[str, Any] | None,
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
        check_numbers(
            batch_size=batch_size, lr=lr, warmup=warmup, weight_decay=weight_decay, grad_clip=grad_clip,
            accumulate=accumulate, condition_dropout=condition_dropout, checkpoint_every=checkpoint_every, keep=keep,
            log_every=log_every,
        )  # fmt: skip
        self.world = join_world()
        self.world.check_batch(batch_size, accumulate)
        self.device = choose_device(device, self.world.local_rank)
        self.source = open_source(data)
        self.format = ItemFormat.of(self.source.item_shape, self.source.dtype)
        self.objective = objective or DenoisingObjective(schedules.linear())
        self.steps = count_steps(steps, epochs, len(self.source), batch_size)
        self.batch_size, self.accumulate, self.seed = batch_size, accumulate, seed
        self.out = Path(out)
        self._lr: dict[str, Any] = {"base": lr, "warmup": warmup, "decay": lr_decay}
        learning_rate(0, **self._lr, total=self.steps)
        if precision not in ("float32", "bfloat16"):
            raise InputError("precision", expected="'float32' or 'bfloat16'", received=repr(precision))
        self.checkpoint_every, self.keep, self.log_every = checkpoint_every, keep, log_every
        self.tensorboard, self.progress, self.hooks, self.skip = tensorboard, progress, list(hooks), skip

        self.sharded = shard and self.world.size > 1
        self.model = make_model(model, self.format.item_shape, seed)
        if not self.sharded:
            self.model.to(self.device)
        config = getattr(self.model, "memfast_config", None)
        classes = (config or {}).get("num_classes")
        with_labels = classes is not None if labels is None else labels
        self.num_classes = count_classes(self.source, classes) if with_labels else None
        if condition_dropout and not with_labels:
            raise InputError(
                "condition_dropout", expected="0 without labels", received=str(condition_dropout),
                do="Train a network with classes on labelled data, or leave it out.",
            )  # fmt: skip

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
                "ema": [profile.name for profile in profiles(ema)], "precision": precision, "hflip": hflip,
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
        if start is not None:
            load_weights(self.model, start)
        found = persistence.claim(self, resume=resume, overwrite=overwrite)
        if found is not None:
            persistence.restore_model(self, found)
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
        self._key = ops.key(seed, 0).to(self.device)
        if self.skip is not None:
            self.skip.prepare(self.objective, self.device)
        if found is not None:
            persistence.restore(self, found)
        self._run_forward: nn.Module = self.forward
        if not self.sharded:
            self._run_forward = copy_to_all(
                compiled(self.forward) if self.compiles else self.forward, self.world, self.device
            )
        self.stopped: str | None = None

    def run(self) -> TrainingResult:
        """Train to the last step, and write the final checkpoint.

        Raises:
            NotFiniteError: the loss or its gradient is NaN or infinite; its samples are named and saved.
            OutputError: a file could not be written; what was on disk is whole.
            KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM; a checkpoint was written first.
        """
        self.model.train()
        log = RunLog(self.out, after=self.step, tensorboard=self.tensorboard) if self.world.writes else None
        self._log, self._saved_step = log, self.step if self.step else -1
        bar = Progress("training", self.steps - self.step, "steps", show=self.progress and self.world.writes)
        try:
            with Interruption() as interruption, bar:
                for hook in self.hooks:
                    hook.begin(self)
                self._mark = (time.monotonic(), self.step)
                while self.step < self.steps and self.stopped is None:
                    self.one_step()
                    bar.advance(1, self.ledger.note)
                    self._between_steps(interruption)
                self._read_losses()
                self.save()
                for hook in self.hooks:
                    hook.end(self)
        finally:
            self.feed.close()
            if log is not None:
                log.close()
        return TrainingResult(self.out, self.step, self.ledger.mean, self.seconds, self.stopped or "done")

    def save(self, name: str | None = None) -> None:
        """Write a checkpoint of this moment: under ``name``, or numbered (once per step)."""
        self._read_losses()
        if name is None and self._saved_step == self.step:
            return
        if self.world.writes or self.sharded:
            persistence.save(self, name)
        if name is None:
            self._saved_step = self.step
        self.world.barrier()

    def log(self, entry: dict[str, Any]) -> None:
        """Add an entry to the run's log; hooks use it."""
        if self._log is not None:
            self._log.write(entry)

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

    def one_step(self) -> None:
        """Take one training step; ``run`` does the rest: log, checkpoints, hooks."""
        started = time.monotonic()
        self._key[1] = self.step
        self.objective.set_step(self.step)
        # Dropout inside the network draws from torch's own generator; this makes it a function of seed and step too.
        seed_generator(self.device, (self.seed * GOLDEN + self.step * self.world.size + self.world.rank) & (2**63 - 1))
        parts = self.feed.items(self.step).chunks(self.accumulate)
        self._observed: list[tuple[Batch, torch.Tensor]] = []
        total = torch.zeros((), device=self.device)
        for number, part in enumerate(parts):
            if number < len(parts) - 1:
                with without_averaging(self._run_forward, self.model):
                    total = total + self._backward(part)
            else:
                total = total + self._backward(part)
        rate = learning_rate(self.step, **self._lr, total=self.steps)
        norm = self.update(rate)
        if self.skip is not None:
            self.skip.finish_step(self.world)
        if self.adaptive:
            observe_together(self.objective, self._observed, self.world)
        self.step += 1
        self.averages.update(self.step)
        self.ledger.add(self.step, total, norm)
        self.seconds += time.monotonic() - started

    def _backward(self, items: Items) -> torch.Tensor:
        if self.skip is None and not self.adaptive:
            loss = self._run_forward(items, self._key)
        else:
            losses, batch = self._run_forward(items, self._key, "none")
            loss = losses.mean() if self.skip is None else self.skip.gate(losses, batch.timesteps)
            if self.adaptive:
                self._observed.append((batch, losses.detach()))
        loss = loss / self.accumulate if self.accumulate > 1 else loss
        loss.backward()
        return loss.detach()

    def _between_steps(self, interruption: Interruption) -> None:
        at_log = self.step % self.log_every == 0
        if at_log or self.ledger.due(self.step):
            self._read_losses()
        if at_log:
            self._log_interval()
        for hook in self.hooks:
            hook.after_step(self)
        if self.checkpoint_every is not None and self.step % self.checkpoint_every == 0:
            self.save()
        noted = interruption.signal is not None
        if self.world.size > 1:
            noted = at_log and self.world.any(noted)
        if noted:
            self.save()
            interruption.raise_if_noted()
            self.stopped = "interrupted in another process"

    def _read_losses(self) -> None:
        """Bring the losses of the last steps to the host, and stop where one or its gradient is not finite."""
        bad = self.ledger.read()
        if bad is not None:
            step, loss = bad
            key = ops.key(self.seed, step - 1).to(self.device)
            self.objective.set_step(step - 1)
            raise not_finite(self.out, step, loss, self.forward, self.feed.items(step - 1), key, self.world)

    def _log_interval(self) -> None:
        now = time.monotonic()
        seconds = max(now - self._mark[0], 1e-9)
        self.log(
            {
                "step": self.step,
                "epoch": self.epoch,
                "loss": self.ledger.mean,
                "lr": learning_rate(self.step - 1, **self._lr, total=self.steps),
                "grad_norm": self.ledger.norm,
                "samples_per_second": (self.step - self._mark[1]) * self.batch_size / seconds,
                **({} if self.skip is None else self.skip.entry()),
            }
        )
        self._mark = (now, self.step)
        self.ledger.close_interval()
