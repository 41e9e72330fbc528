"""From the first step to the last: one training step, and the log, checkpoints, hooks and interruptions around it."""

import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import nn

from memfast.foundation.errors import InputError
from memfast.foundation.progress import Progress
from memfast.objective import Batch, DenoisingObjective
from memfast.runtime.distributed import Ranks
from memfast.training.data import LoadedBatch
from memfast.training.hooks import Hook
from memfast.training.log import PARTIAL, NotFiniteError
from memfast.training.sharding import no_gradient_sync
from memfast.training.state import RunState

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED_ELSEWHERE = "interrupted in another process"
# 2**64 divided by the golden ratio: keeps the seeds of neighbouring runs apart.
GOLDEN = 0x9E3779B97F4A7C15

Observed = list[tuple[Batch, torch.Tensor]]


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


class Interruption:
    """A context in which the first SIGINT or SIGTERM is only noted; a second one acts at once.

    Outside the main thread, where Python cannot set handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def raise_if_noted(self) -> None:
        """End as the signal asked: KeyboardInterrupt, or SystemExit with 128 + 15."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}


def run_to_the_end(run: RunState, hooks: Sequence[Hook], interruption: Interruption) -> TrainingResult:
    """Train to the last step, and write the final checkpoint; every rank calls.

    A new run takes its first step before the folder is touched. A signal ends the run after the step under way, with a
    checkpoint; what follows is the caller's to do (``interruption.raise_if_noted``).
    """
    run.model.train()
    run.saved_step = run.step if run.step else -1
    bar = Progress("training", run.steps - run.step, "steps", show=run.config.progress and run.ranks.is_main)
    interval = _LogInterval(run)
    try:
        with interruption, bar:
            if run.folder.continued:
                run.claim()
                run.open_log()
            for hook in hooks:
                hook.begin(run)
            _settle_buckets(run)
            interval.begin()
            interrupted = False
            while run.step < run.steps and run.stopped is None and not interrupted:
                take_step(run)
                bar.advance(1, run.losses.note)
                if not run.folder.claimed:
                    run.read_losses()
                    run.claim()
                if run.run_log is None:
                    run.open_log()
                interrupted = _between_steps(run, hooks, interval, interruption)
            run.read_losses()
            run.save()
            interval.log_rest()
            if not interrupted:
                for hook in hooks:
                    hook.end(run)
    except NotFiniteError:
        interval.log_rest()
        raise
    finally:
        run.close()
    return TrainingResult(run.out, run.step, run.losses.mean, run.seconds, run.stopped or "done")


def take_step(run: RunState) -> None:
    """Take one training step, and nothing of what happens between steps."""
    started = time.monotonic()
    step, ranks = run.step, run.ranks
    run.key[1] = step
    run.objective.set_step(step)
    # Dropout inside the network draws from torch's own generator; this makes it a function of seed and step too.
    seed_generator(run.device, (run.seed * GOLDEN + step * ranks.size + ranks.rank) & (2**63 - 1))
    parts = run.loader.batch(step).chunks(run.config.accumulate)
    observed: Observed = []
    total = torch.zeros((), device=run.device)
    for part in parts[:-1]:
        with no_gradient_sync(run.run_forward, run.model):
            total = total + _backward(run, part, observed)
    total = total + _backward(run, parts[-1], observed)
    norm = run.optimizer(run.rate(step))
    if run.skip is not None:
        run.skip.finish_step(ranks)
    if run.adaptive:
        observe_step(run.objective, observed, ranks)
    run.step += 1
    run.averages.update(run.step)
    run.losses.add(run.step, total, norm)
    run.seconds += time.monotonic() - started


def observe_step(objective: DenoisingObjective, parts: Sequence[tuple[Batch, torch.Tensor]], ranks: Ranks) -> None:
    """Tell the density a step's losses: all parts of the batch at once, so that none is drawn from another density.

    A loss that is not finite ends the run when the losses are next read; until then the density stays as it is.

    Args:
        objective: learns on a density that learns from the losses.
        parts: this process's (batch, losses ``[B]``) of the step, one of each accumulated part.
        ranks: the processes; every one calls.
    """
    losses = torch.cat([part for _, part in parts])
    if ranks.any(not bool(torch.isfinite(losses).all())):
        return
    batches = [batch for batch, _ in parts]
    whole = batches[0]._replace(
        timesteps=torch.cat([batch.timesteps for batch in batches]),
        sample_ids=torch.cat([batch.sample_ids for batch in batches]),
    )
    objective.observe(whole, losses)


def seed_generator(device: torch.device, seed: int) -> None:
    """Seed torch's own generators of the CPU and of ``device``.

    ``torch.manual_seed`` asks every kind of device there may be, which takes 0.1 ms: too long for every step.
    """
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


class _LogInterval:
    """The steps since the last log entry, or since the run began in this process."""

    def __init__(self, run: RunState) -> None:
        self._run = run
        self.begin()

    def begin(self) -> None:
        """Count from here."""
        self._time, self._step = time.monotonic(), self._run.step

    def log(self) -> None:
        """Write the entry of these steps, and begin anew."""
        run = self._run
        self._write({} if run.skip is None else run.skip.entry())
        self.begin()
        run.losses.close_interval()

    def log_rest(self) -> None:
        """Write an entry of the last steps where no log step followed them; a resumed run replaces it by its own."""
        if self._run.losses.since_log and (self._run.run_log is not None or not self._run.ranks.is_main):
            self._write({PARTIAL: True})

    def _write(self, more: dict[str, float | bool]) -> None:
        run = self._run
        seconds = max(time.monotonic() - self._time, 1e-9)
        run.log(
            {
                "step": run.step,
                "epoch": run.epoch,
                "loss": run.losses.mean,
                "lr": run.rate(run.step - 1),
                "grad_norm": run.losses.norm,
                "samples_per_second": (run.step - self._step) * run.batch_size / seconds,
                **more,
            }
        )


def _settle_buckets(run: RunState) -> None:
    """Take a backward pass that counts for nothing, so that a resumed run adds gradients as an undisturbed one does.

    DDP packs gradients into buckets in the order of the parameters, and after a process's first backward pass in the
    order in which they came. With three ranks and more, the place in a bucket decides in which order the ranks' numbers
    are added. So every process passes that point before its first step.
    """
    if run.ranks.size < 3 or not isinstance(run.run_forward, nn.parallel.DistributedDataParallel):
        return
    buffers = [buffer.clone() for buffer in run.model.buffers()]
    run.key[1] = run.step
    run.objective.set_step(run.step)
    seed_generator(run.device, run.seed)
    part = run.loader.batch(run.step).chunks(run.config.accumulate)[0]
    in_full = run.skip is not None or run.adaptive
    loss = _forward(run, part, "none")[0].mean() if in_full else _forward(run, part)
    loss.backward()
    run.model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, before in zip(run.model.buffers(), buffers, strict=True):
            buffer.copy_(before)


def _between_steps(run: RunState, hooks: Sequence[Hook], interval: _LogInterval, interruption: Interruption) -> bool:
    """Log, call the hooks, save; returns whether the run was interrupted, on any rank."""
    at_log = run.step % run.config.log_every == 0
    at_reading = at_log or run.losses.due(run.step)
    if at_reading:
        run.read_losses()
    if at_log:
        interval.log()
    for hook in hooks:
        hook.after_step(run)
    every = run.config.checkpoint_every
    if every is not None and run.step % every == 0:
        run.save()
    noted = interruption.signal is not None
    if run.ranks.size > 1:
        noted = at_reading and run.ranks.any(noted)
    if noted:
        run.save()
        if interruption.signal is None:
            run.stop(INTERRUPTED_ELSEWHERE)
    return noted


def _backward(run: RunState, items: LoadedBatch, observed: Observed) -> torch.Tensor:
    """Add a part's gradients to those before; returns its share of the batch's loss."""
    accumulate = run.config.accumulate
    if run.skip is None and not run.adaptive:
        loss = _forward(run, items)
    else:
        losses, batch = _forward(run, items, "none")
        loss = losses.mean() if run.skip is None else run.skip.gate(losses, batch.timesteps)
        if run.adaptive:
            observed.append((batch, losses.detach()))
    loss = loss / accumulate if accumulate > 1 else loss
    loss.backward()
    return loss.detach()


def _forward(run: RunState, items: LoadedBatch, *reduction: str) -> Any:
    try:
        return run.run_forward(items, run.key, *reduction)
    except RuntimeError as error:
        if "find_unused_parameters" not in str(error):
            raise
        raise InputError(
            "model", expected="a network whose loss depends on every parameter, as DDP asks for",
            received="one with parameters that had no gradient in the last step",
            do="Pass find_unused_parameters=True (--find-unused-parameters), or freeze them (requires_grad_(False)).",
        ) from error  # fmt: skip
