"""The Trainer: a run by its options, and the names that people use in scripts and notebooks."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import nn

from memfast.data import Source
from memfast.foundation.deprecated import warn_deprecated
from memfast.models import ItemFormat
from memfast.objective import DenoisingObjective
from memfast.runtime.distributed import join
from memfast.training.checkpoint import RunFolder
from memfast.training.config import TrainingConfig, options_documented, signature_with_options
from memfast.training.loop import Interruption, TrainingResult, run_to_the_end, take_step
from memfast.training.setup import open_run, prepare
from memfast.training.state import RENAMED, RunState


class Trainer:
    """Trains a denoising network.

    Everything random follows from ``seed``: the order of the items from (seed, epoch), timesteps, noise, flips and
    dropped labels from (seed, step, draw number). So a run that is killed and resumed, or trained by several processes,
    sees the same numbers; on one CPU it repeats to the last bit.

    Making a Trainer checks its arguments and reads the data and ``start``; it changes nothing outside this process.
    ``run`` joins the processes that ``torchrun`` started, reads the checkpoint that is resumed, takes the first step,
    and only then makes the folder its own. So a run that cannot start leaves the one that it would have replaced whole.

    Args:
        model: a network called as ``model(x, timesteps, labels=None)``, a configuration for ``memfast.models.build``,
            or None for that of ``start`` or, without one, a small U-Net that fits the data (with classes where
            ``labels`` is True).
        data: whatever ``memfast.data.open_source`` reads: an array, a folder, a source.
        objective: what to learn; by default noise prediction on the linear schedule.
        out: the run's folder.
        config: the options below as one ``TrainingConfig``, in their place.
        {options}

    Raises:
        InputError: an argument that cannot be used.
        CheckpointError: the weights of ``start`` do not fit the network.
    """

    def __init__(
        self,
        model: nn.Module | Mapping[str, Any] | None,
        data: Any,
        objective: DenoisingObjective | None = None,
        *,
        out: str | os.PathLike[str],
        config: TrainingConfig | None = None,
        **options: Any,
    ) -> None:
        if config is not None and options:
            raise TypeError(f"Trainer() got config= and {', '.join(options)}: give one or the other.")
        self.config = TrainingConfig.from_arguments(options) if config is None else config
        self.out = Path(out)
        self._prepared = prepare(model, data, objective, self.out, self.config)
        self._state: RunState | None = None

    def run(self) -> TrainingResult:
        """Train to the last step, and write the final checkpoint.

        Raises:
            OutputError: ``out`` holds results and neither ``resume`` nor ``overwrite`` is on, another run writes there,
                or a file could not be written; what was on disk is whole.
            CheckpointError: the run in ``out`` differs from this one; the text names the field.
            NotFiniteError: the loss or its gradient is NaN or infinite; its samples are named and saved.
            RankError: another process failed; the text holds its error.
            KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM; a checkpoint was written first.
        """
        ranks, interruption = join(), Interruption()
        with ranks.fail_together(str(self.out)):
            folder = RunFolder(self.out, ranks) if self._state is None else self._state.folder
            try:
                # Before the checkpoint is read: another run must not write a newer one meanwhile.
                folder.hold()
                if self._state is None:
                    self._state = open_run(self._prepared, ranks, folder)
                result = run_to_the_end(self._state, self.config.hooks, interruption)
            finally:
                folder.release()
        interruption.raise_if_noted()
        return result

    @property
    def state(self) -> RunState:
        """The run, opened: what hooks receive. The first use joins the processes and reads the checkpoint to resume."""
        if self._state is None:
            ranks = join()
            self._state = open_run(self._prepared, ranks, RunFolder(self.out, ranks))
        return self._state

    def one_step(self) -> None:
        """Take one training step; ``run`` does the rest: log, checkpoints, hooks."""
        take_step(self.state)

    def save(self, name: str | None = None) -> None:
        """Write a checkpoint of this moment: under ``name``, or numbered (once per step)."""
        self.state.save(name)

    def averaged_weights(self) -> AbstractContextManager[None]:
        """The network with its first average, in evaluation mode; afterwards as it was."""
        return self.state.averaged_weights()

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self._prepared.model or self.state.model

    @property
    def source(self) -> Source:
        """The training data."""
        return self._prepared.source

    @property
    def format(self) -> ItemFormat:
        """How items of the data look to the network."""
        return self._prepared.format

    @property
    def steps(self) -> int:
        """The number of the last step."""
        return self._prepared.steps

    @property
    def hooks(self) -> tuple[Any, ...]:
        """What runs between steps."""
        return tuple(self.config.hooks)

    def __getattr__(self, name: str) -> Any:
        # What the Trainer does not have is the opened run's: objective, step, losses, loader, averages, ...
        if name.startswith("_") or name in ("config", "out"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        if name in RENAMED:
            warn_deprecated(f"trainer.{name}", f"trainer.{RENAMED[name]}", stacklevel=2)
            name = RENAMED[name]
        return getattr(self.state, name)


Trainer.__doc__ = (Trainer.__doc__ or "").replace("        {options}", options_documented())
Trainer.__init__.__signature__ = signature_with_options(Trainer.__init__)  # type: ignore[attr-defined]
