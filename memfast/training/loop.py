"""From the first step to the last: the log, checkpoints, hooks and interruptions between a Trainer's steps."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memfast.foundation.progress import Progress
from memfast.training.interruption import Interruption
from memfast.training.logs import RunLog

if TYPE_CHECKING:
    from memfast.training.trainer import Trainer


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


def run_to_the_end(trainer: "Trainer") -> TrainingResult:
    """Train to the last step, and write the final checkpoint."""
    writes = trainer.world.is_main
    trainer.model.train()
    log = RunLog(trainer.out, after=trainer.step, tensorboard=trainer.tensorboard) if writes else None
    trainer.run_log, trainer.saved_step = log, trainer.step if trainer.step else -1
    bar = Progress("training", trainer.steps - trainer.step, "steps", show=trainer.progress and writes)
    try:
        with Interruption() as interruption, bar:
            for hook in trainer.hooks:
                hook.begin(trainer)
            interval = _Interval(trainer)
            while trainer.step < trainer.steps and trainer.stopped is None:
                trainer.one_step()
                bar.advance(1, trainer.ledger.note)
                _between_steps(trainer, interval, interruption)
            trainer.read_losses()
            trainer.save()
            for hook in trainer.hooks:
                hook.end(trainer)
    finally:
        trainer.feed.close()
        if log is not None:
            log.close()
    return TrainingResult(trainer.out, trainer.step, trainer.ledger.mean, trainer.seconds, trainer.stopped or "done")


class _Interval:
    """The steps since the last log entry, or since the run began in this process."""

    def __init__(self, trainer: "Trainer") -> None:
        self._trainer = trainer
        self._begin()

    def log(self) -> None:
        """Write the entry of these steps, and begin anew."""
        trainer = self._trainer
        seconds = max(time.monotonic() - self._time, 1e-9)
        trainer.log(
            {
                "step": trainer.step,
                "epoch": trainer.epoch,
                "loss": trainer.ledger.mean,
                "lr": trainer.rate(trainer.step - 1),
                "grad_norm": trainer.ledger.norm,
                "samples_per_second": (trainer.step - self._step) * trainer.batch_size / seconds,
                **({} if trainer.skip is None else trainer.skip.entry()),
            }
        )
        self._begin()
        trainer.ledger.close_interval()

    def _begin(self) -> None:
        self._time, self._step = time.monotonic(), self._trainer.step


def _between_steps(trainer: "Trainer", interval: _Interval, interruption: Interruption) -> None:
    at_log = trainer.step % trainer.log_every == 0
    if at_log or trainer.ledger.due(trainer.step):
        trainer.read_losses()
    if at_log:
        interval.log()
    for hook in trainer.hooks:
        hook.after_step(trainer)
    if trainer.checkpoint_every is not None and trainer.step % trainer.checkpoint_every == 0:
        trainer.save()
    noted = interruption.signal is not None
    if trainer.world.size > 1:
        noted = at_log and trainer.world.any(noted)
    if noted:
        trainer.save()
        interruption.raise_if_noted()
        trainer.stopped = "interrupted in another process"
