"""Moving averages of weights: one pass over the parameters beside torch._foreach_lerp_."""

import torch

from benchmarks.gpu.timing import copy_bandwidth, replay_ms
from memfast import ops

DECAYS = (0.999, 0.9999)
SETS = {"200 tensors of 1M": [1 << 20] * 200, "2,000 tensors of 10k": [10_000] * 2000}


def run(record) -> int:
    bandwidth = copy_bandwidth()
    for name, sizes in SETS.items():
        for count in (1, 2):
            record.attempt(f"{name}, {count} averages", lambda sizes=sizes, count=count: _row(sizes, count, bandwidth))
    return record.exit_code()


def _row(sizes, count, bandwidth):
    parameters = [torch.randn(size, device="cuda") for size in sizes]
    averages = [[torch.randn(size, device="cuda") for size in sizes] for _ in range(count)]

    def theirs():
        for tensors, decay in zip(averages, DECAYS, strict=False):
            torch._foreach_lerp_(tensors, parameters, 1 - decay)

    ours = replay_ms([lambda: ops.ema(parameters, averages, DECAYS[:count], backend="triton")])
    peer = replay_ms([theirs])
    floor = sum(sizes) * (4 + 8 * count) / bandwidth * 1e3
    return {"memfast_ms": ours, "foreach_lerp_ms": peer, "ratio": peer / ours, "of_floor": floor / ours}
