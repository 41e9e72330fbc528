"""Words, normals and timestep draws on CUDA. Signatures: ``memfast.ops.contract``."""

import torch

from memfast.ops.checks import check_programs
from memfast.ops.compiled import CUDA, address, addresses_struct, draw_struct, load, number_types
from memfast.ops.operands import Draw


def philox(counter: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Words int64 ``[N, 4]``."""
    out = torch.empty_like(counter)
    if len(counter):
        with torch.cuda.device(out.device):
            load(CUDA).philox(
                address(counter, "counter"), address(key, "key"), len(counter), out.data_ptr(), stream_of(out)
            )
    return out


def standard_normal(sample_ids: torch.Tensor, numel: int, key: torch.Tensor, stream: int, offset: int) -> torch.Tensor:
    """float32 ``[B, numel]``."""
    # An offset within a group of four elements may take one more group.
    check_grid("sample_ids", len(sample_ids), numel + offset % 4, torch.float32)
    out = torch.empty(len(sample_ids), numel, dtype=torch.float32, device=sample_ids.device)
    if out.numel():
        addresses = addresses_struct(CUDA, sample_ids, key, numel)
        with torch.cuda.device(out.device):
            load(CUDA).standard_normal(addresses, stream, offset, out.data_ptr(), stream_of(out))
    return out


def draw_timesteps(draw: Draw, sample_ids: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """int64 ``[B]``."""
    out = torch.empty_like(sample_ids)
    if len(out):
        addresses = addresses_struct(CUDA, sample_ids, key)
        with torch.cuda.device(out.device):
            load(CUDA).draw_timesteps(addresses, draw_struct(CUDA, draw, out), stream_of(out))
    return out


def check_grid(name: str, batch: int, numel: int, dtype: torch.dtype) -> int:
    """The blocks per sample; raise if one launch cannot have so many."""
    blocks = load(CUDA).blocks_per_sample(numel, number_types(CUDA)[dtype])
    check_programs(name, batch, blocks)
    return blocks


def stream_of(tensor: torch.Tensor) -> int:
    """The address of PyTorch's current stream on the tensor's device."""
    return torch.cuda.current_stream(tensor.device).cuda_stream
