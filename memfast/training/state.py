"""The state of a run between two steps: what the loop, the checkpoints and the hooks share."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from memfast import ops
from memfast.data import Source
from memfast.foundation.deprecated import warn_deprecated
from memfast.foundation.errors import CheckpointError, MemfastError
from memfast.models import ItemFormat
from memfast.models.checkpoints import MODEL_FILE, OBJECTIVE_FILE, OPTIMIZER_FILE, Checkpoint, ema_file
from memfast.objective import DenoisingObjective
from memfast.runtime.distributed import Ranks
from memfast.sampling import ddim
from memfast.training.checkpoint import RunFolder
from memfast.training.config import TrainingConfig
from memfast.training.data import BatchLoader
from memfast.training.ema import Averages
from memfast.training.forward import Forward
from memfast.training.log import LossTracker, RunLog, not_finite
from memfast.training.optimizer import OptimizerStep, learning_rate
from memfast.training.sharding import full_tensors, reshard
from memfast.training.skipping import LossGate

# Attributes of earlier versions, and what they are called now.
RENAMED = {"world": "ranks", "feed": "loader", "update": "optimizer", "ledger": "losses", "settings": "description"}


class Stateful(Protocol):
    """What the state knows of a hook: a checkpoint holds ``state()`` under ``name``, and ``load`` takes it back."""

    name: str

    def state(self) -> dict[str, Any]:
        """Plain values."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Take them back."""
        ...

    def on_log(self, entry: dict[str, Any]) -> None:
        """See an entry of the log."""
        ...


@dataclass
class RunState:
    """A run, opened. Hooks receive it; what they may use is documented here.

    Attributes:
        config: the run's options.
        folder: its folder; ``out`` is the path.
        description: the content of ``run.json``.
        ranks: the processes that train together.
        device: where this process trains.
        source: the training data.
        format: how items of the data look to the network.
        objective: what is learned; after ``to(device)`` and the hooks' ``prepare``.
        model: the network.
        forward: from a batch to its loss.
        run_forward: ``forward``, compiled and wrapped for several processes.
        loader: gives each step its batch.
        optimizer: turns gradients into new weights.
        averages: the averages of the weights.
        losses: the losses of the steps.
        hooks: what runs between steps.
        num_classes: the number of classes, or None.
        steps: the number of the last step.
        adaptive: whether the objective's density learns from the losses.
        sharded: whether the network is sharded over the processes.
        compiles: whether the forward pass is compiled.
        key: int64 ``[2]`` on the device: the seed and the step under way.
        step: steps taken.
        seconds: training time, over every resumption.
        stopped: why the run ends before its last step, or None.
    """

    config: TrainingConfig
    folder: RunFolder
    description: dict[str, Any]
    ranks: Ranks
    device: torch.device
    source: Source
    format: ItemFormat
    objective: DenoisingObjective
    model: nn.Module
    forward: Forward
    run_forward: nn.Module
    loader: BatchLoader
    optimizer: OptimizerStep
    averages: Averages
    losses: LossTracker
    hooks: Sequence[Stateful]
    num_classes: int | None
    steps: int
    adaptive: bool
    sharded: bool
    compiles: bool
    key: torch.Tensor
    step: int = 0
    seconds: float = 0.0
    stopped: str | None = None
    run_log: RunLog | None = None
    saved_step: int = -1
    _early: list[dict[str, Any]] = field(default_factory=list)
    _log_opened: bool = False

    @property
    def out(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def seed(self) -> int:
        """The seed of everything random."""
        return self.config.seed

    @property
    def batch_size(self) -> int:
        """Draws per step, over all processes."""
        return self.config.batch_size

    @property
    def skip(self) -> LossGate | None:
        """What skips samples of abnormally low loss."""
        return self.config.skip

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""
        return self.step * self.batch_size / len(self.source)

    def stop(self, reason: str) -> None:
        """End the run after this step; ``reason`` becomes the result's ``stopped``."""
        self.stopped = reason

    def log(self, entry: dict[str, Any]) -> None:
        """Add an entry to the run's log; it has ``step``. On other processes than rank 0 nothing happens.

        Raises:
            OutputError: it cannot be written, or the folder is no longer this run's.
        """
        if not self.ranks.is_main:
            return
        for hook in self.hooks:
            hook.on_log(entry)
        if self.run_log is None:
            self._early.append(entry)
            return
        self.folder.check_owned()
        self.run_log.write(entry)

    def open_log(self) -> None:
        """Open the log, and write what was logged before there was a folder for it."""
        if not self.ranks.is_main:
            return
        after = self.step if self.folder.continued or self._log_opened else None
        self._log_opened = True
        self.run_log = RunLog(
            self.out, after=after, run_id=self.folder.run_id, tensorboard=self.config.tensorboard
        )  # fmt: skip
        early, self._early = self._early, []
        for entry in early:
            self.run_log.write(entry)

    def close(self) -> None:
        """Stop reading ahead, and close the log."""
        self.loader.close()
        if self.run_log is not None:
            self.run_log.close()
            self.run_log = None

    def rate(self, step: int) -> float:
        """The learning rate of a 0-based step."""
        config = self.config
        return learning_rate(step, base=config.lr, warmup=config.warmup, decay=config.lr_decay, total=self.steps)

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

    def sample(self, count: int, *, steps: int, seed: int = 0) -> np.ndarray:
        """DDIM samples of the averaged weights, as items like the training data.

        The same seed gives samples from the same noise, whenever it is called. Classes take turns where there are any.
        A sharded network runs on all ranks: then every rank must call.

        Args:
            count: how many samples.
            steps: network evaluations per sample.
            seed: of their noise.

        Returns:
            ``[count, *item_shape]`` in the data's dtype.
        """
        labels = None if self.num_classes is None else torch.arange(count) % self.num_classes
        with self.averaged_weights():
            values = ddim(
                self.model, self.objective.schedule, shape=self.format.item_shape, count=count, steps=steps, seed=seed,
                prediction_type=self.objective.prediction_type, sigma_data=self.objective.sigma_data, labels=labels,
                clip=self.format.value_range, device=self.device,
            )  # fmt: skip
        return self.format.to_data(values)

    def read_losses(self) -> None:
        """Bring the losses of the last steps to the host.

        Raises:
            NotFiniteError: a loss or its gradient is not finite.
        """
        bad = self.losses.read()
        if bad is not None:
            step, loss = bad
            key = ops.key(self.seed, step - 1).to(self.device)
            self.objective.set_step(step - 1)
            batch = self.loader.batch(step - 1)
            raise not_finite(self.folder.failure_folder(), step, loss, self.forward, batch, key, self.ranks)

    def claim(self) -> None:
        """Make the folder this run's, if it is not yet; every rank calls."""
        self.folder.claim(self.description, self.source)

    def save(self, name: str | None = None) -> None:
        """Write a checkpoint of this moment: under ``name``, or numbered (once per step). Every rank calls.

        Raises:
            OutputError: it cannot be written; the earlier checkpoints are whole.
        """
        self.read_losses()
        if name is None and self.saved_step == self.step:
            return
        self.claim()
        with self.ranks.fail_together(str(self.out)):
            if self.ranks.is_main or self.sharded:
                files, state = self._snapshot()
                if self.ranks.is_main:
                    self.folder.write_checkpoint(files, state, name=name, keep=self.config.keep)
        if name is None:
            self.saved_step = self.step

    def restore(self, found: Checkpoint) -> None:
        """Put everything of a checkpoint back but the weights.

        Raises:
            CheckpointError: something is not in it, or of another run.
        """
        try:
            self._restore(found)
        except CheckpointError:
            raise
        except (MemfastError, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise CheckpointError(f"{found.folder}: damaged, or of another run ({error!r}).") from error

    def _snapshot(self) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
        """The tensors of a checkpoint by file, and what its ``state.json`` says.

        The tensors are full ones whether the network is sharded or not, so that either can go on from them.
        """
        optimizer, others = self.optimizer.state()
        names = [profile.name for profile in self.averages.profiles]
        reshard(self.model)
        tensors: dict[str, Mapping[str, torch.Tensor]] = {
            MODEL_FILE: self.model.state_dict(), OPTIMIZER_FILE: optimizer,
            **{ema_file(ema): self.averages.state(ema) for ema in names},
        }  # fmt: skip
        files = {file: full_tensors(one, keep=self.ranks.is_main) for file, one in tensors.items()}
        if self.adaptive:
            files[OBJECTIVE_FILE] = self.objective.state_dict()
        state = {
            "step": self.step,
            "epoch": self.epoch,
            "ema": names,
            "optimizer": others,
            "losses_since_log": self.losses.since_log,
            "seconds": self.seconds,
            "hooks": {hook.name: hook.state() for hook in self.hooks},
            "skip": None if self.skip is None else self.skip.state(),
            "versions": self.description["versions"],
        }
        return files, state

    def _restore(self, found: Checkpoint) -> None:
        self.optimizer.load(found.tensors(OPTIMIZER_FILE), found.state["optimizer"])
        for profile in self.averages.profiles:
            self.averages.load(profile.name, found.tensors(ema_file(profile.name)))
        self.step, self.seconds = found.step, float(found.state["seconds"])
        self.losses.since_log = [float(loss) for loss in found.state["losses_since_log"]]
        for hook in self.hooks:
            hook.load(found.state["hooks"][hook.name])
        if self.skip is not None:
            self.skip.load(found.state["skip"])
        if self.adaptive:
            self.objective.load_state_dict(found.tensors(OBJECTIVE_FILE))

    def __getattr__(self, name: str) -> Any:
        # Only names that are not found otherwise come here: those of earlier versions.
        if name not in RENAMED:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        warn_deprecated(f"run.{name}", f"run.{RENAMED[name]}", stacklevel=2)
        return getattr(self, RENAMED[name])
