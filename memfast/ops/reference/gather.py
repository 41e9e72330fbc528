"""Noise and loss straight from a uint8 data set."""

import torch

from memfast.ops.addresses import STREAMS
from memfast.ops.checks import check_range
from memfast.ops.reference.loss import loss
from memfast.ops.reference.noise import noise
from memfast.ops.reference.random import draw_timesteps, words


def gather_noise(
    dataset: torch.Tensor,
    indices: torch.Tensor,
    table: torch.Tensor,
    timesteps: torch.Tensor | None,
    thresholds: torch.Tensor | None,
    sample_ids: torch.Tensor,
    fixed_ids: torch.Tensor | None,
    key: torch.Tensor,
    width: int,
    dtype: torch.dtype,
    positions: torch.Tensor | None,
    total: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_in ``[B, D]`` in ``dtype``, timesteps int64 ``[B]``)."""
    if timesteps is None:
        assert thresholds is not None
        timesteps = draw_timesteps(thresholds, sample_ids, key, positions, total)
    x0 = gather(dataset, indices, sample_ids, key, width)
    return noise(x0, table, timesteps, sample_ids, fixed_ids, key).to(dtype), timesteps


def gather_loss(
    prediction: torch.Tensor,
    dataset: torch.Tensor,
    indices: torch.Tensor,
    table: torch.Tensor,
    timesteps: torch.Tensor,
    sample_ids: torch.Tensor,
    fixed_ids: torch.Tensor | None,
    key: torch.Tensor,
    width: int,
    mean: bool,
    gradient_scale: float | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As ``loss``, x0 read from the data set."""
    x0 = gather(dataset, indices, sample_ids, key, width)
    return loss(prediction, x0, table, timesteps, sample_ids, fixed_ids, key, mean, gradient_scale)


def gather(
    dataset: torch.Tensor, indices: torch.Tensor, sample_ids: torch.Tensor, key: torch.Tensor, width: int
) -> torch.Tensor:
    """x0 float32 ``[B, D]``: (2 * byte - 255) * float32(1 / 255), flipped where the augmentation word is odd."""
    if dataset.device.type == "cpu" and indices.numel():
        check_range("indices", indices, len(dataset) - 1)
    rows = dataset[indices]
    if width:
        word = words(sample_ids, sample_ids.new_zeros(1), key, STREAMS["augmentation"])[:, 0, 0]
        mirrored = rows.view(len(rows), -1, width).flip(-1).reshape(rows.shape)
        rows = torch.where((word & 1 == 1)[:, None], mirrored, rows)
    return (rows.to(torch.float32) * 2 - 255) * torch.tensor(1 / 255, dtype=torch.float32, device=rows.device)
