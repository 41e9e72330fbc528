"""Where the noise levels of a batch come from: the rows of a schedule's table, or a continuum of levels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from memfast import ops
from memfast.foundation.errors import InputError
from memfast.schedules import ContinuousSchedule
from memfast.timesteps import Density, thresholds

# A continuous density is drawn as one of these cells, exactly, and evenly within it; the outer 4e-11 are left out.
CELLS = 65536
CELL_RANGE = 6.5
TIME_SCALE = 1000.0


@dataclass
class ObjectiveTables:
    """The tensors of an objective on one device.

    Attributes:
        thresholds: int64 ``[n]``, for ``memfast.ops.draw_timesteps``.
        table: float32 ``[T, 7]``; None for a continuous schedule.
        time: float32 ``[T]``, what the network is told of each row's noise; None: the row number itself.
        nodes: float64 ``[CELLS + 1]``, borders of the cells of a continuous density; None for a schedule of rows.
    """

    thresholds: Tensor
    table: Tensor | None = None
    time: Tensor | None = None
    nodes: Tensor | None = None

    def to(self, device: torch.device) -> "ObjectiveTables":
        """The same on another device."""
        return ObjectiveTables(
            *(
                None if tensor is None else tensor.to(device)
                for tensor in (self.thresholds, self.table, self.time, self.nodes)
            )  # type: ignore[arg-type]
        )


def continuous_tables(density: Density) -> ObjectiveTables:
    """The cells of a density over a continuum: finer where q is near 0 or 1, so that both tails are followed."""
    q = ndtr(np.linspace(-CELL_RANGE, CELL_RANGE, CELLS + 1))
    nodes = density.quantile(q)
    if not np.isfinite(nodes).all():
        raise InputError("timesteps", expected="a density with finite quantiles", received=repr(density))
    return ObjectiveTables(thresholds=torch.from_numpy(thresholds(np.diff(q))), nodes=torch.from_numpy(nodes))


def draw_levels(
    tables: ObjectiveTables,
    schedule: ContinuousSchedule,
    variable: str,
    sample_ids: Tensor,
    key: Tensor,
    positions: Tensor | None,
    total: int | None,
    density_T: int,
) -> tuple[Tensor, Tensor]:
    """(alpha, sigma), float64 ``[B]``, drawn from the cells of ``continuous_tables``."""
    assert tables.nodes is not None
    cell = ops.draw_timesteps(tables.thresholds, sample_ids, key, positions=positions, total=total)
    low, high = tables.nodes[cell], tables.nodes[cell + 1]
    x = low + (high - low) * within_cell(sample_ids, key)
    if variable == "log_snr":
        return schedule.at_log_snr(x)
    if variable == "sigma":
        return schedule.at_log_snr(-2 * torch.log(x))
    return schedule.at_time((x - 0.5) / density_T if variable == "timestep" else x)


def within_cell(sample_ids: Tensor, key: Tensor) -> Tensor:
    """A fraction in (0, 1) per sample, float64, from the words behind those that draw the cell (elements 2 and 3)."""
    normal = ops.standard_normal(sample_ids, 1, key, stream="timestep", offset=2)[:, 0]
    return torch.special.ndtr(normal.double())


def network_time(family: str, alpha: Any, sigma: Any) -> Any:
    """What a network is told of a noise level: ln(sigma) / 4 (EDM's c_noise), or 1000 times the time in (0, 1)."""
    if family == "ve":
        return (torch.log(sigma) / 4).float()
    if family == "flow":
        return (TIME_SCALE * sigma / (alpha + sigma)).float()
    return (TIME_SCALE * 2 / torch.pi * torch.atan2(sigma, alpha)).float()


def level_of_time(family: str, time: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha, sigma), float64, of what ``network_time`` told."""
    told = time.double()
    if family == "ve":
        return torch.ones_like(told), torch.exp(4 * told)
    share = told / TIME_SCALE
    if family == "flow":
        return 1 - share, share
    return torch.cos(torch.pi / 2 * share), torch.sin(torch.pi / 2 * share)
