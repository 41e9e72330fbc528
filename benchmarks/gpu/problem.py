"""One batch to noise and to judge, with the tables of the linear DDPM schedule."""

from dataclasses import dataclass

import torch

from memfast import ops

TIMESTEPS = 1000


@dataclass
class Problem:
    """Inputs of one noise and loss call on the GPU."""

    x0: torch.Tensor
    prediction: torch.Tensor
    eps: torch.Tensor
    table: torch.Tensor
    alpha: torch.Tensor
    sigma: torch.Tensor
    timesteps: torch.Tensor
    sample_ids: torch.Tensor
    key: torch.Tensor
    broad: tuple

    @classmethod
    def make(cls, shape, dtype, seed):
        generator = torch.Generator("cuda").manual_seed(seed)
        draw = lambda: torch.randn(shape, device="cuda", generator=generator).to(dtype)  # noqa: E731
        table = epsilon_table()
        batch = shape[0]
        return cls(
            draw(), draw(), draw(), table, table[:, 0].contiguous(), table[:, 2].contiguous(),
            torch.randint(0, TIMESTEPS, (batch,), device="cuda", generator=generator),
            torch.arange(batch, device="cuda"), ops.key(seed, 1).cuda(), (-1, *[1] * (len(shape) - 1)),
        )  # fmt: skip


def epsilon_table(device="cuda"):
    """float32 ``[T, 7]`` of epsilon prediction on the linear schedule."""
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, TIMESTEPS, dtype=torch.float64), 0)
    table = torch.zeros(TIMESTEPS, 7, dtype=torch.float64)
    table[:, 0], table[:, 2] = kept.sqrt(), (1 - kept).sqrt()
    table[:, 3], table[:, 6] = 1, 1
    return table.float().to(device)


def uniform_thresholds(device="cuda"):
    """int64 thresholds of the uniform density."""
    return torch.tensor([(j << 64) // TIMESTEPS - 2**63 for j in range(1, TIMESTEPS)], dtype=torch.int64, device=device)
