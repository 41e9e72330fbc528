"""The CUDA backend's ops (``memfast.ops.contract``): addresses in, launches on PyTorch's current stream.

Nothing here reads a value from the device, so every op can be captured in a CUDA graph.
"""

import torch

from memfast import _C_cuda

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def philox(counter: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Words int64 ``[N, 4]``."""
    out = torch.empty_like(counter)
    if len(counter):
        with torch.cuda.device(out.device):
            _C_cuda.philox(out.data_ptr(), counter.data_ptr(), key.data_ptr(), len(counter), _stream(out))
    return out


def standard_normal(sample_ids: torch.Tensor, numel: int, key: torch.Tensor, stream: int, offset: int) -> torch.Tensor:
    """float32 ``[B, numel]``."""
    out = torch.empty(len(sample_ids), numel, dtype=torch.float32, device=sample_ids.device)
    if out.numel():
        with torch.cuda.device(out.device):
            _C_cuda.standard_normal(
                out.data_ptr(),
                sample_ids.data_ptr(),
                len(sample_ids),
                numel,
                key.data_ptr(),
                stream,
                offset,
                _stream(out),
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
    out = torch.empty_like(sample_ids)
    if len(out):
        draw = _draw(thresholds, positions, total, out)
        with torch.cuda.device(out.device):
            _C_cuda.draw_timesteps(draw, sample_ids.data_ptr(), len(out), key.data_ptr(), _stream(out))
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
    out = torch.empty_like(x0)
    _noise(out, _operands(x0, None, 0, table, timesteps, sample_ids, fixed_ids, key), _draw(None, None, 1, timesteps))
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
    out = torch.empty(len(indices), dataset.shape[1], dtype=dtype, device=dataset.device)
    if timesteps is None:
        timesteps = torch.empty_like(sample_ids)
        draw = _draw(thresholds, positions, total, timesteps)
    else:
        draw = _draw(None, None, 1, timesteps)
    _noise(out, _operands(dataset, indices, width, table, timesteps, sample_ids, fixed_ids, key), draw)
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
    operands = _operands(x0, None, 0, table, timesteps, sample_ids, fixed_ids, key)
    return _loss(prediction, operands, mean, gradient_scale)


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
    operands = _operands(dataset, indices, width, table, timesteps, sample_ids, fixed_ids, key)
    return _loss(prediction, operands, mean, gradient_scale)


def _noise(out, operands, draw):
    if out.numel():
        with torch.cuda.device(out.device):
            _C_cuda.noise(out.data_ptr(), DTYPES[out.dtype], operands, draw, _stream(out))


def _loss(prediction, operands, mean, gradient_scale):
    batch, numel = prediction.shape
    value = torch.empty(() if mean else (batch,), dtype=torch.float32, device=prediction.device)
    gradient = None if gradient_scale is None else torch.empty_like(prediction)
    if not prediction.numel():
        return value.zero_(), gradient
    dtype = DTYPES[prediction.dtype]
    partial = torch.empty(batch * _C_cuda.loss_chunks(numel, dtype), dtype=torch.float32, device=prediction.device)
    with torch.cuda.device(prediction.device):
        _C_cuda.loss(
            value.data_ptr(), partial.data_ptr(), _address(gradient), prediction.data_ptr(), dtype, operands, mean,
            1.0 if gradient_scale is None else gradient_scale, _stream(prediction),
        )  # fmt: skip
    return value, gradient


def _operands(x0, indices, width, table, timesteps, sample_ids, fixed_ids, key):
    return _C_cuda.Operands(
        x0.data_ptr(), DTYPES.get(x0.dtype, 0), _address(indices), len(x0), width, table.data_ptr(), len(table),
        timesteps.data_ptr(), sample_ids.data_ptr(), _address(fixed_ids), key.data_ptr(), len(sample_ids), x0.shape[1],
    )  # fmt: skip


def _draw(thresholds, positions, total, timesteps):
    # A density of one bin has no thresholds, and an empty tensor no address: any address says "draw".
    address = 0 if thresholds is None else thresholds.data_ptr() or timesteps.data_ptr()
    count = 0 if thresholds is None else len(thresholds)
    return _C_cuda.Draw(address, count, _address(positions), total, timesteps.data_ptr())


def _address(tensor):
    return 0 if tensor is None else tensor.data_ptr()


def _stream(tensor):
    return torch.cuda.current_stream(tensor.device).cuda_stream
