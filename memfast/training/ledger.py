"""The losses of a run: read from the device in groups, checked, averaged between log entries."""

import math
from collections.abc import Sequence

import torch

from memfast.runtime.distributed import Ranks

# On a GPU the losses are read back in groups, so that the device is not waited for at every step.
STEPS_PER_READING = 20


class Ledger:
    """Losses and gradient norms, in the order of the steps.

    Attributes:
        since_log: the losses since the last log entry; a checkpoint keeps them.
        norm: the last gradient norm.
    """

    def __init__(self, world: Ranks, *, on_cpu: bool) -> None:
        self._world = world
        self._every = 1 if on_cpu and world.size == 1 else STEPS_PER_READING
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
        values: Sequence[tuple[float, float]] = (self._world.sum(numbers) / self._world.size).tolist()
        pending, self._pending = self._pending, []
        for (step, _, _), (loss, norm) in zip(pending, values, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                return step, loss
            self.since_log.append(loss)
            self.norm = norm
        return None

    @property
    def mean(self) -> float | None:
        """The mean loss since the last log entry, or up to it where none came since; None before the first step."""
        return sum(self.since_log) / len(self.since_log) if self.since_log else self._logged

    def close_interval(self) -> None:
        """A log entry was written."""
        self._logged, self.since_log = self.mean, []

    @property
    def note(self) -> str:
        """What the progress bar shows."""
        return f"loss {self.since_log[-1]:.4g}" if self.since_log else ""
