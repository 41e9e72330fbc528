"""What a run says of itself: its losses, its log, and the samples behind a loss that is not finite."""

import json
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from memfast.foundation.errors import MemfastError, MissingPackageError, OutputError
from memfast.models.checkpoints import LOG_FILE, run_id_of
from memfast.runtime.distributed import Ranks
from memfast.runtime.files import write_json, write_text
from memfast.training.data import LoadedBatch
from memfast.training.forward import Forward

NOT_FINITE_FILE = "not-finite.json"
# Marks the entry of a run's last steps where the run ended between two log steps.
PARTIAL = "partial"
# On a GPU the losses are read back in groups, so that the device is not waited for at every step.
STEPS_PER_READING = 20
_NAMED = 8


def read_log(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The entries of a run's log, in the order in which they were written.

    A line that cannot be read, or that another run wrote, is left out with a warning. A last line that a kill cut short
    is left out silently.

    Args:
        folder: the run's folder.

    Returns:
        One dictionary per entry; each has ``step``. An empty list where there is no log.
    """
    path = Path(folder) / LOG_FILE
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines, run = text.split("\n"), run_id_of(folder)
    entries, damaged, foreign = [], [], []
    # What follows the last line feed is a line cut short, or nothing.
    for number, line in enumerate(lines[:-1], 1):
        entry = _entry(line)
        if entry is None:
            damaged.append(number)
        elif entry.pop("run", run) != run and run is not None:
            foreign.append(number)
        else:
            entries.append(entry)
    last = _entry(lines[-1])
    if last is not None and (last.pop("run", run) == run or run is None):
        entries.append(last)
    for numbers, why in ((damaged, "damaged"), (foreign, "of another run")):
        if numbers:
            named = ", ".join(map(str, numbers[:_NAMED])) + (", ..." if len(numbers) > _NAMED else "")
            warnings.warn(
                f"{path}: {len(numbers)} lines are {why} and left out (line {named}).", RuntimeWarning, stacklevel=2
            )
    return entries


class RunLog:
    """Appends to ``log.jsonl``, one JSON object a line.

    A resumed run first drops what was logged after its checkpoint, so that its log equals that of a run that was never
    interrupted, but for the rates.

    Args:
        folder: the run's folder.
        after: keep the entries up to this step; None starts anew.
        run_id: the run's id, which every line carries; None for a run of an earlier version.
        tensorboard: also write TensorBoard's event files to ``folder/tensorboard``.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        after: int | None,
        run_id: str | None = None,
        tensorboard: bool = False,
    ) -> None:
        self.path, self._run_id = Path(folder) / LOG_FILE, run_id
        entries = [] if after is None else read_log(folder)
        kept = [entry for entry in entries if entry["step"] <= (after or 0) and not entry.get(PARTIAL)]
        write_text(self.path, "".join(self._line(entry) for entry in kept))
        self._file = self.path.open("a", encoding="utf-8")
        self._board = _board(Path(folder) / "tensorboard", after) if tensorboard else None

    def write(self, entry: dict[str, Any]) -> None:
        """Append one entry; it has ``step``.

        Raises:
            OutputError: the disk is full.
        """
        try:
            self._file.write(self._line(entry))
            self._file.flush()
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}.") from error
        if self._board is not None:
            for name, value in entry.items():
                if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                    self._board.add_scalar(name, value, entry["step"])

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def _line(self, entry: dict[str, Any]) -> str:
        return json.dumps(entry if self._run_id is None else {**entry, "run": self._run_id}, allow_nan=False) + "\n"


class LossTracker:
    """Losses and gradient norms in the order of the steps: read from the device in groups, checked, averaged.

    Attributes:
        since_log: the losses since the last log entry; a checkpoint keeps them.
        norm: the last gradient norm.
    """

    def __init__(self, ranks: Ranks, *, on_cpu: bool) -> None:
        self._ranks = ranks
        self._every = 1 if on_cpu and ranks.size == 1 else STEPS_PER_READING
        self._pending: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        self.since_log: list[float] = []
        self.norm: float | None = None
        self._logged: float | None = None

    def add(self, step: int, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """Take in a step's loss and norm, still on the device."""
        self._pending.append((step, loss, norm))

    def due(self, step: int) -> bool:
        """Whether to read after this step."""
        return step % self._every == 0

    def read(self) -> tuple[int, float] | None:
        """Bring the losses to the host, averaged over all processes.

        Returns:
            The first (step, loss) whose loss or gradient norm is not finite, or None.
        """
        if not self._pending:
            return None
        numbers = torch.stack([torch.stack([loss.float(), norm.float()]) for _, loss, norm in self._pending])
        values: Sequence[tuple[float, float]] = (self._ranks.sum(numbers) / self._ranks.size).tolist()
        pending, self._pending = self._pending, []
        for (step, _, _), (loss, norm) in zip(pending, values, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                return step, loss
            self.since_log.append(loss)
            self.norm = norm
        return None

    @property
    def mean(self) -> float | None:
        """The mean loss since the last log entry, or that entry's where no step followed; None before the first."""
        return sum(self.since_log) / len(self.since_log) if self.since_log else self._logged

    def close_interval(self) -> None:
        """Begin a new mean: a log entry was written."""
        self._logged, self.since_log = self.mean, []

    @property
    def note(self) -> str:
        """What the progress bar shows."""
        return f"loss {self.since_log[-1]:.4g}" if self.since_log else ""


class NotFiniteError(MemfastError, ArithmeticError):
    """The loss or its gradient became NaN or infinite; the text names the step, sample ids and timesteps."""


@torch.no_grad()
def not_finite(
    folder: Path | None, step: int, loss: float, forward: Forward, items: LoadedBatch, key: torch.Tensor, ranks: Ranks
) -> NotFiniteError:
    """Find the samples behind a loss that is not finite and save them with the run; every process calls.

    Nothing of the step needs to have been kept: its samples, timesteps and noise follow from its key. The process
    whose part of the batch holds them writes; if they are in no part, process 0.

    Args:
        folder: the run's folder; None where it is not this run's yet, and nothing is saved.
        step: the 1-based step.
        loss: its loss.
        forward: the forward pass.
        items: this process's part of the step's batch.
        key: the step's key.
        ranks: the processes.
    """
    batch, prediction = forward.predict(items, key)
    losses = forward.objective.loss(prediction, batch, reduction="none").float().cpu()
    bad = torch.nonzero(~torch.isfinite(losses)).flatten()
    elsewhere = ranks.any(len(bad) > 0) and len(bad) == 0
    # Several steps may lie between the fault and its discovery on a GPU; then the weights, not a sample, are to blame.
    chosen = bad if len(bad) > 0 else torch.arange(len(losses))
    timesteps = batch.timesteps.cpu()
    record = {
        "step": step,
        "loss": str(loss),
        "seed": int(key[0]),
        "sample_ids": items.sample_ids.cpu()[chosen].tolist(),
        "data_indices": items.indices.cpu()[chosen].tolist(),
        "timesteps": timesteps[chosen].tolist(),
        "losses": [str(float(value)) for value in losses[chosen]],
        "all_samples_of_the_step": len(bad) == 0,
    }
    if elsewhere:
        return NotFiniteError(f"step {step}: the loss is {loss}; another process names its samples.")
    saved = ""
    if folder is not None and (ranks.is_main or len(bad) > 0):
        write_json(folder / NOT_FINITE_FILE, {**record, "run": run_id_of(folder)})
        saved = f"; saved in {folder / NOT_FINITE_FILE}"
    what = f"the loss is {loss}" + (", its gradient is not finite" if math.isfinite(loss) else "")
    first = [
        f"sample id {sample} (item {index}, timestep {timestep})"
        for sample, index, timestep in zip(
            record["sample_ids"], record["data_indices"], record["timesteps"], strict=True
        )
    ][:_NAMED]
    more = f" and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else ""
    before = " The last checkpoint is from before." if step > 1 else ""
    return NotFiniteError(
        f"step {step}: {what}. Samples: {', '.join(first)}{more}{saved}.{before} "
        "Try a lower lr, grad_clip=1.0, or look at these items."
    )


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    valid = isinstance(entry, dict) and isinstance(entry.get("step"), int) and not isinstance(entry["step"], bool)
    return entry if valid else None


def _board(folder: Path, after: int | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingPackageError("tensorboard", purpose="the TensorBoard log", extra="test") from error
    return SummaryWriter(str(folder), purge_step=None if after is None else after + 1)
