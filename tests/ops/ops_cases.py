"""Random problems for the tests of the ops, and the instruction sets to run them on."""

from dataclasses import dataclass

import torch

from memfast import ops
from memfast.ops.registry import why_unavailable

if why_unavailable("cpu") is None:
    import memfast._C

    INSTRUCTION_SETS = list(memfast._C.isa_names())
else:
    INSTRUCTION_SETS = []

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(1, 1), (3, 2), (2, 63), (2, 64), (3, 65), (2, 500), (2, 1000), (3, 3, 17, 19), (1, 40003), (5, 128)]


def use_instruction_set(name):
    """Run the C++ kernels of one instruction set from now on."""
    memfast._C.set_isa(name)


@dataclass
class Problem:
    """A random batch with large ids and a random table."""

    x0: torch.Tensor
    table: torch.Tensor
    timesteps: torch.Tensor
    sample_ids: torch.Tensor
    fixed_ids: torch.Tensor | None
    key: torch.Tensor

    def noise(self, backend="auto", **changes):
        a = {**vars(self), **changes}
        return ops.noise(
            a["x0"], a["table"], a["timesteps"], a["sample_ids"], a["key"], a["fixed_ids"], backend=backend
        )

    def loss(self, prediction, reduction="mean", backend="auto", **changes):
        a = {**vars(self), **changes}
        return ops.loss(
            prediction, a["x0"], a["table"], a["timesteps"], a["sample_ids"], a["key"], a["fixed_ids"],
            reduction=reduction, backend=backend,
        )  # fmt: skip

    def target(self):
        """k_x * x0 + k_f * fixed + k_n * noise in float64, from the op's own noise."""
        rows = self.table[self.timesteps].double().view(len(self.x0), 7, *[1] * (self.x0.ndim - 1))
        numel = self.x0[0].numel()
        fresh = ops.standard_normal(self.sample_ids, numel, self.key).view(self.x0.shape).double()
        value = rows[:, 4] * self.x0.double() + rows[:, 6] * fresh
        if self.fixed_ids is not None:
            first = torch.stack((self.key[0], torch.zeros_like(self.key[0])))
            fixed = ops.standard_normal(self.fixed_ids, numel, first, "fixed").view(self.x0.shape).double()
            value = value + rows[:, 5] * fixed
        return rows[:, 3], value


def make_problem(shape=(4, 3, 8, 8), dtype=torch.float32, fixed=True, seed=0):
    """A :class:`Problem` of one shape and dtype."""
    generator = torch.Generator().manual_seed(seed)
    batch = shape[0]
    return Problem(
        torch.randn(shape, generator=generator).to(dtype),
        torch.randn(20, 7, generator=generator),
        torch.randint(0, 20, (batch,), generator=generator),
        torch.randint(0, 2**56, (batch,), generator=generator),
        torch.randint(0, 2**56, (batch,), generator=generator) if fixed else None,
        ops.key(seed=-3, step=2**32 - 1),
    )
