"""An objective whose density changes while it trains: its tensors are rewritten in place, on every device."""

import numpy as np
import torch
from torch import Tensor

from memfast.objective.levels import ObjectiveTables
from memfast.runtime.distributed import Ranks
from memfast.timesteps import thresholds

HIGHEST = 2**63 - 1


def padded_thresholds(probabilities: np.ndarray) -> Tensor:
    """T - 1 thresholds whatever the density, so that compiled and captured steps keep their tensors. The surplus ones
    lie at the last word of 2^64."""
    made = thresholds(probabilities)
    padded = np.full(len(probabilities) - 1, HIGHEST, dtype=np.int64)
    padded[: len(made)] = made
    return torch.from_numpy(padded)


def rewrite(tables: dict[torch.device, ObjectiveTables], made: ObjectiveTables) -> None:
    """Copy new thresholds and a new table into the tensors of every device."""
    for kept in tables.values():
        kept.thresholds.copy_(made.thresholds)
        if kept.table is not None and made.table is not None:
            kept.table.copy_(made.table)


def gathered(timesteps: Tensor, losses: Tensor, sample_ids: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(timesteps, losses) of all ranks in the order of their sample ids: the same on every rank, whatever their number.

    Batches may differ in length between ranks. Without ``torch.distributed`` it is this process's own.
    """
    ranks = Ranks.current()
    whole = ranks.concatenate(torch.stack([timesteps.long(), sample_ids.long()], 1).cpu().numpy())
    order = np.argsort(whole[:, 1], kind="stable")
    values = ranks.concatenate(losses.detach().double().cpu().numpy())
    return whole[order, 0], values[order]
