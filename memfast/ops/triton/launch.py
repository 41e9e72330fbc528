"""The Triton backend's ops (``memfast.ops.contract``): shapes to grids, and the launches.

A program serves up to ``QUADS`` groups of four elements of one sample. Nothing here reads a value from the device, so
every op can be captured in a CUDA graph.
"""

import struct
from contextlib import nullcontext
from typing import Any

import torch
import triton

from memfast.ops.checks import check_range, check_values
from memfast.ops.triton.loss_kernels import finish_kernel, loss_kernel
from memfast.ops.triton.noise_kernels import draw_timesteps_kernel, noise_kernel, philox_kernel, standard_normal_kernel

QUADS = 256
ROWS = 128
SUM_BLOCK = 1024
# The noise's bits need every product rounded by itself.
EXACT: dict[str, Any] = {"enable_fp_fusion": False}


def philox(counter: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Words int64 ``[N, 4]``."""
    out = torch.empty_like(counter)
    if len(counter):
        with on(counter):
            philox_kernel[(triton.cdiv(len(counter), ROWS),)](out, counter, key, len(counter), ROWS, **EXACT)
    return out


def standard_normal(sample_ids: torch.Tensor, numel: int, key: torch.Tensor, stream: int, offset: int) -> torch.Tensor:
    """float32 ``[B, numel]``."""
    _check(key, sample_ids=sample_ids)
    out = torch.empty(len(sample_ids), numel, dtype=torch.float32, device=sample_ids.device)
    if out.numel():
        shift = offset % 4
        quads, chunks = tiles(numel + shift)
        with on(out):
            standard_normal_kernel[(len(sample_ids) * chunks,)](
                out, sample_ids, key, numel, offset // 4, shift, chunks, stream, quads, **options(quads)
            )
    return out


def draw_timesteps(
    thresholds: torch.Tensor,
    sample_ids: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor | None,
    total: int,
) -> torch.Tensor:
    """int64 ``[B]``."""
    _check(key, sample_ids=sample_ids)
    _check_positions(positions, total)
    out = torch.empty_like(sample_ids)
    if len(out):
        with on(out):
            draw_timesteps_kernel[(triton.cdiv(len(out), ROWS),)](
                out, thresholds, sample_ids, key, sample_ids if positions is None else positions, len(out),
                len(thresholds), total, positions is not None, len(thresholds).bit_length(), ROWS, **EXACT,
            )  # fmt: skip
    return out


def noise(
    x0: torch.Tensor,
    table: torch.Tensor,
    timesteps: torch.Tensor,
    sample_ids: torch.Tensor,
    fixed_ids: torch.Tensor | None,
    key: torch.Tensor,
) -> torch.Tensor:
    """x_in ``[B, D]`` in x0's dtype."""
    _check(key, table, timesteps, sample_ids, fixed_ids)
    out = torch.empty_like(x0)
    _noise(out, x0, None, table, timesteps, None, sample_ids, fixed_ids, key, 0, None, 1)
    return out


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
    """(x_in ``[B, D]`` in ``dtype``, timesteps int64 ``[B]``) in one launch."""
    _check(key, table, timesteps, sample_ids, fixed_ids)
    _check_indices(indices, dataset)
    _check_positions(positions, total)
    out = torch.empty(len(indices), dataset.shape[1], dtype=dtype, device=dataset.device)
    if timesteps is not None:
        _noise(out, dataset, indices, table, timesteps, None, sample_ids, fixed_ids, key, width, None, 1)
        return out, timesteps
    assert thresholds is not None
    timesteps = torch.empty_like(sample_ids)
    _noise(out, dataset, indices, table, timesteps, thresholds, sample_ids, fixed_ids, key, width, positions, total)
    return out, timesteps


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
    """(loss float32 ``[B]`` or scalar, gradient or None)."""
    return _loss(prediction, x0, None, table, timesteps, sample_ids, fixed_ids, key, 0, mean, gradient_scale)


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
    """As ``loss``, with x0 read from the data set."""
    _check_indices(indices, dataset)
    return _loss(
        prediction, dataset, indices, table, timesteps, sample_ids, fixed_ids, key, width, mean, gradient_scale
    )


def tiles(numel: int) -> tuple[int, int]:
    """(groups of four elements per program, programs per sample) for samples of ``numel`` elements."""
    quads = max(2, min(QUADS, triton.next_power_of_2(triton.cdiv(numel, 4))))
    return quads, triton.cdiv(numel, 4 * quads)


def options(quads: int) -> dict[str, Any]:
    """Launch options: two groups of four elements per thread where the sample is that long."""
    return {"num_warps": max(1, min(4, quads // 64)), **EXACT}


def on(tensor: torch.Tensor) -> Any:
    """The context in which kernels run on the tensor's device."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _noise(out, x0, indices, table, timesteps, thresholds, sample_ids, fixed_ids, key, width, positions, total):
    if not out.numel():
        return
    batch, numel = out.shape
    quads, chunks = tiles(numel)
    count = 0 if thresholds is None else len(thresholds)
    with on(out):
        noise_kernel[(batch * chunks,)](
            out, x0, sample_ids if indices is None else indices, table, timesteps, sample_ids,
            sample_ids if fixed_ids is None else fixed_ids, key, sample_ids if thresholds is None else thresholds,
            sample_ids if positions is None else positions, numel, chunks, len(x0), len(table), count, total,
            fixed_ids is not None, indices is not None, width, thresholds is not None, positions is not None,
            count.bit_length(), quads, out.element_size() == 2, **options(quads),
        )  # fmt: skip


def _loss(prediction, x0, indices, table, timesteps, sample_ids, fixed_ids, key, width, mean, gradient_scale):
    _check(key, table, timesteps, sample_ids, fixed_ids)
    batch, numel = prediction.shape
    value = torch.zeros((1 if mean else batch,), dtype=torch.float32, device=prediction.device)
    gradient = None if gradient_scale is None else torch.empty_like(prediction)
    if prediction.numel():
        quads, chunks = tiles(numel)
        partial = torch.empty(batch * chunks, dtype=torch.float32, device=prediction.device)
        with on(prediction):
            loss_kernel[(batch * chunks,)](
                partial, prediction if gradient is None else gradient, prediction, x0,
                sample_ids if indices is None else indices, table, timesteps, sample_ids,
                sample_ids if fixed_ids is None else fixed_ids, key, numel, chunks, len(x0), len(table),
                _bits(gradient_scale or 1.0), fixed_ids is not None, indices is not None, width,
                gradient is not None, quads, prediction.element_size() == 2, **options(quads),
            )  # fmt: skip
            count, divisor = (batch * chunks, batch * numel) if mean else (chunks, numel)
            block = min(SUM_BLOCK, triton.next_power_of_2(count))
            finish_kernel[(len(value),)](value, partial, count, divisor, block, **EXACT)
    return (value.reshape(()) if mean else value), gradient


def _bits(value: float) -> int:
    return struct.unpack("<q", struct.pack("<d", value))[0]


def _check(key, table=None, timesteps=None, sample_ids=None, fixed_ids=None):
    # Only the interpreter runs on CPU tensors; on a GPU nothing may wait for the device.
    if key.device.type == "cpu":
        check_values(key, table, timesteps, sample_ids, fixed_ids)


def _check_indices(indices, dataset):
    if indices.device.type == "cpu" and len(indices):
        check_range("indices", indices, len(dataset) - 1)


def _check_positions(positions, total):
    if positions is not None and positions.device.type == "cpu" and len(positions):
        check_range("positions", positions, total - 1)
