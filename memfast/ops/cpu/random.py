"""Words, normals and timestep draws by the C++ kernels. Signatures: ``memfast.ops.contract``."""

import torch

from memfast.ops.checks import check_addresses, check_draw_values
from memfast.ops.compiled import CPU, address, addresses_struct, draw_struct, load
from memfast.ops.operands import Draw


def philox(counter: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Words int64 ``[N, 4]``."""
    words = torch.empty_like(counter)
    load(CPU).philox(address(counter, "counter"), address(key, "key"), len(counter), words.data_ptr())
    return words


def standard_normal(sample_ids: torch.Tensor, numel: int, key: torch.Tensor, stream: int, offset: int) -> torch.Tensor:
    """float32 ``[B, numel]``."""
    out = torch.empty((sample_ids.shape[0], numel), dtype=torch.float32, device="cpu")
    addresses = addresses_struct(CPU, sample_ids, key, numel)
    if load(CPU).standard_normal(addresses, stream, offset, out.data_ptr(), torch.get_num_threads()):
        check_addresses(key, sample_ids=sample_ids)
    return out


def draw_timesteps(draw: Draw, sample_ids: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """int64 ``[B]``."""
    out = torch.empty_like(sample_ids)
    if load(CPU).draw_timesteps(addresses_struct(CPU, sample_ids, key), draw_struct(CPU, draw, out)):
        check_draw_values(draw, sample_ids, key)
    return out
