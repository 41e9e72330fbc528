"""Words, normals and timestep draws by the C++ kernels. Signatures: ``memfast.ops.contract``."""

import torch

from memfast.ops.checks import check_range, check_values
from memfast.ops.cpu.module import kernels


def philox(counter: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Words int64 ``[N, 4]``."""
    words = torch.empty_like(counter)
    kernels().philox(counter.data_ptr(), key.data_ptr(), len(counter), words.data_ptr())
    return words


def standard_normal(sample_ids: torch.Tensor, numel: int, key: torch.Tensor, stream: int, offset: int) -> torch.Tensor:
    """float32 ``[B, numel]``."""
    out = torch.empty((sample_ids.shape[0], numel), dtype=torch.float32, device="cpu")
    bad = kernels().standard_normal(
        sample_ids.shape[0], numel, sample_ids.data_ptr(), key.data_ptr(), stream, offset, out.data_ptr(),
        torch.get_num_threads(),
    )  # fmt: skip
    if bad:
        check_values(key, sample_ids=sample_ids)
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
    bad = kernels().draw_timesteps(
        sample_ids.shape[0], thresholds.data_ptr(), thresholds.shape[0], sample_ids.data_ptr(), key.data_ptr(),
        0 if positions is None else positions.data_ptr(), total, out.data_ptr(),
    )  # fmt: skip
    if bad:
        check_values(key, sample_ids=sample_ids)
        if positions is not None:
            check_range("positions", positions, total - 1)
    return out
