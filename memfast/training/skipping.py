"""Skipping samples whose loss is abnormally low: what is already memorized is not learned again."""

from typing import Any

import torch

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.objective import DenoisingObjective
from memfast.runtime.distributed import Ranks
from memfast.schedules import Schedule


class LossGate:
    """Leaves out the samples whose loss is below ``ratio`` times the running mean at their noise level.

    The anti-gradient control of IET-AGC (Liu et al. 2024, arXiv 2407.15328), with its memory bank of mean losses kept
    per group of timesteps as an exponential average. A skipped sample counts as 0 in the mean over the batch.

    Args:
        ratio: the threshold; higher skips more. 0 skips nothing.
        bins: groups of neighbouring timesteps with a running mean each.
        decay: of the running means, per step that touches the group.
        warmup: steps before anything is skipped.
    """

    name = "loss_gate"

    def __init__(self, ratio: float = 0.5, *, bins: int = 50, decay: float = 0.99, warmup: int = 1000) -> None:
        self.ratio = finite_number("ratio", ratio, least=0)
        self.bins = whole_number("bins", bins, least=1)
        self.decay = finite_number("decay", decay, least=0, below=1)
        self.warmup = whole_number("warmup", warmup, least=0)
        self._rows = 0

    def describe(self) -> dict[str, Any]:
        """Its settings, for ``run.json``."""
        return {"ratio": self.ratio, "bins": self.bins, "decay": self.decay, "warmup": self.warmup}

    def prepare(self, objective: DenoisingObjective, device: torch.device) -> None:
        """Start empty.

        Raises:
            InputError: the objective has no timesteps to group by.
        """
        if not isinstance(objective.schedule, Schedule):
            raise InputError("skip", expected="a schedule of timesteps", received="a continuous schedule")
        self._rows = len(objective.schedule)
        self._means, self._filled = torch.zeros(self.bins, device=device), torch.zeros(self.bins, device=device)
        self._counts = torch.zeros(2, device=device)
        self._sums = torch.zeros(3, self.bins, device=device)
        self._steps = 0

    def gate(self, losses: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The mean over the part of a batch with skipped samples at 0, by the running means before this step."""
        group = timesteps * self.bins // self._rows
        detached = losses.detach()
        low = (detached < self.ratio * self._means[group]) & (self._filled[group] > 0)
        keep = ~low if self._steps >= self.warmup else torch.ones_like(low)
        columns = torch.stack([detached.float(), torch.ones_like(detached.float()), (~keep).float()])
        self._sums.index_add_(1, group, columns)
        return torch.where(keep, losses, torch.zeros_like(losses)).mean()

    def finish_step(self, world: Ranks) -> None:
        """Update the running means and the counts with all parts and processes of the step."""
        sums = world.sum(self._sums)
        self._counts += torch.stack([sums[2].sum(), sums[1].sum()])
        mean, seen = sums[0] / sums[1].clamp(min=1), sums[1] > 0
        blended = torch.where(self._filled > 0, self.decay * self._means + (1 - self.decay) * mean, mean)
        self._means = torch.where(seen, blended, self._means)
        self._filled = torch.where(seen, torch.ones_like(self._filled), self._filled)
        self._sums = torch.zeros_like(self._sums)
        self._steps += 1

    def entry(self) -> dict[str, float]:
        """The share of samples skipped since the last call, over all processes, for the log."""
        skipped, total = self._counts.tolist()
        self._counts.zero_()
        return {"skipped": skipped / max(total, 1.0)}

    def state(self) -> dict[str, Any]:
        """The running means, as plain values."""
        return {
            "means": self._means.tolist(),
            "filled": self._filled.tolist(),
            "counts": self._counts.tolist(),
            "steps": self._steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take back ``state``."""
        device = self._means.device
        self._means, self._filled = (torch.tensor(state[name], device=device) for name in ("means", "filled"))
        self._counts, self._steps = torch.tensor(state["counts"], device=device), int(state["steps"])
