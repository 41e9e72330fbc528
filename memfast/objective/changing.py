"""An objective whose density changes while it trains: its tensors are rewritten in place, on every device."""

import numpy as np
import torch
from torch import Tensor

from memfast.objective.levels import Tables
from memfast.timesteps import thresholds

HIGHEST = 2**63 - 1


def padded_thresholds(probabilities: np.ndarray) -> Tensor:
    """T - 1 thresholds whatever the density, so that compiled and captured steps keep their tensors. The surplus ones
    lie at the last word of 2^64."""
    made = thresholds(probabilities)
    padded = np.full(len(probabilities) - 1, HIGHEST, dtype=np.int64)
    padded[: len(made)] = made
    return torch.from_numpy(padded)


def rewrite(tables: dict[torch.device, Tables], made: Tables) -> None:
    """Copy new thresholds and a new table into the tensors of every device."""
    for kept in tables.values():
        kept.thresholds.copy_(made.thresholds)
        if kept.table is not None and made.table is not None:
            kept.table.copy_(made.table)


def gathered(timesteps: Tensor, losses: Tensor, sample_ids: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(timesteps, losses) of all ranks in the order of their sample ids: the same on every rank, whatever their number.

    Batches may differ in length between ranks. Without ``torch.distributed`` it is this process' own.
    """
    columns = torch.stack([timesteps.double(), losses.detach().double(), sample_ids.double()], 1)
    parts = [columns]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        world = torch.distributed.get_world_size()
        length = torch.tensor([len(columns)], device=columns.device)
        lengths = [torch.zeros_like(length) for _ in range(world)]
        torch.distributed.all_gather(lengths, length)
        longest = max(int(one) for one in lengths)
        padded = torch.nn.functional.pad(columns, (0, 0, 0, longest - len(columns)))
        parts = [torch.zeros_like(padded) for _ in range(world)]
        torch.distributed.all_gather(parts, padded)
        parts = [part[: int(one)] for part, one in zip(parts, lengths, strict=True)]
    together = torch.cat(parts).cpu().numpy()
    order = np.argsort(together[:, 2], kind="stable")
    return together[order, 0].astype(np.int64), together[order, 1]
