"""Noise and loss by the C++ kernels, from tensors or a uint8 data set. Signatures: ``memfast.ops.contract``."""

import torch

from memfast.ops.checks import check_range, check_values
from memfast.ops.cpu.module import NUMBERS, kernels
from memfast.ops.cpu.random import draw_timesteps

NO_DATA_SET = (0, 0, 0)


def noise(
    x0: torch.Tensor,
    table: torch.Tensor,
    timesteps: torch.Tensor,
    sample_ids: torch.Tensor,
    fixed_ids: torch.Tensor | None,
    key: torch.Tensor,
) -> torch.Tensor:
    """x_in ``[B, D]`` in x0's dtype."""
    out = torch.empty_like(x0)
    number = NUMBERS[x0.dtype]
    bad = kernels().noise(
        *x0.shape, *_addresses(table, timesteps, sample_ids, fixed_ids, key), x0.data_ptr(), number, *NO_DATA_SET,
        number, out.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    if bad:
        check_values(key, table, timesteps, sample_ids, fixed_ids)
    return out


def loss(
    prediction: torch.Tensor,
    x0: torch.Tensor,
    table: torch.Tensor,
    timesteps: torch.Tensor,
    sample_ids: torch.Tensor,
    fixed_ids: torch.Tensor | None,
    key: torch.Tensor,
    mean: bool,
    gradient_scale: float | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(loss float32 ``[B]`` or scalar, gradient ``[B, D]`` in prediction's dtype or None)."""
    value, gradient, bad = _loss(
        prediction, (x0.data_ptr(), NUMBERS[x0.dtype], *NO_DATA_SET),
        _addresses(table, timesteps, sample_ids, fixed_ids, key), mean, gradient_scale,
    )  # fmt: skip
    if bad:
        check_values(key, table, timesteps, sample_ids, fixed_ids)
    return value, gradient


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
    out = torch.empty((len(indices), dataset.shape[1]), dtype=dtype, device="cpu")
    bad = kernels().noise(
        *out.shape, *_addresses(table, timesteps, sample_ids, fixed_ids, key), *_data_set(dataset, indices, width),
        NUMBERS[dtype], out.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    if bad:
        _explain(dataset, indices, table, timesteps, sample_ids, fixed_ids, key)
    return out, timesteps


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
    value, gradient, bad = _loss(
        prediction, _data_set(dataset, indices, width), _addresses(table, timesteps, sample_ids, fixed_ids, key), mean,
        gradient_scale,
    )  # fmt: skip
    if bad:
        _explain(dataset, indices, table, timesteps, sample_ids, fixed_ids, key)
    return value, gradient


def _loss(
    prediction: torch.Tensor, data: tuple, addresses: tuple, mean: bool, gradient_scale: float | None
) -> tuple[torch.Tensor, torch.Tensor | None, int]:
    gradient = None if gradient_scale is None else torch.empty_like(prediction)
    value = torch.empty(() if mean else (prediction.shape[0],), dtype=torch.float32, device="cpu")
    bad = kernels().loss(
        *prediction.shape, *addresses, *data, prediction.data_ptr(), NUMBERS[prediction.dtype], mean,
        gradient_scale or 0.0, 0 if gradient is None else gradient.data_ptr(), value.data_ptr(),
        torch.get_num_threads(),
    )  # fmt: skip
    return value, gradient, bad


def _addresses(
    table: torch.Tensor,
    timesteps: torch.Tensor,
    sample_ids: torch.Tensor,
    fixed_ids: torch.Tensor | None,
    key: torch.Tensor,
) -> tuple[int, ...]:
    fixed = 0 if fixed_ids is None else fixed_ids.data_ptr()
    return table.data_ptr(), table.shape[0], timesteps.data_ptr(), sample_ids.data_ptr(), fixed, key.data_ptr()


def _data_set(dataset: torch.Tensor, indices: torch.Tensor, width: int) -> tuple[int, ...]:
    return dataset.data_ptr(), NUMBERS[torch.uint8], indices.data_ptr(), dataset.shape[0], width


def _explain(
    dataset: torch.Tensor,
    indices: torch.Tensor,
    table: torch.Tensor,
    timesteps: torch.Tensor,
    sample_ids: torch.Tensor,
    fixed_ids: torch.Tensor | None,
    key: torch.Tensor,
) -> None:
    check_values(key, table, timesteps, sample_ids, fixed_ids)
    check_range("indices", indices, len(dataset) - 1)
