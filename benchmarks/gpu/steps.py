"""A whole training step of a small network, data set resident: memfast in one CUDA graph beside the compiled loop.

Both use fused AdamW and an average of the weights. The peer is a loop as people write it, at its best: data on the GPU,
batches by a permutation made on the GPU, the network and the loss compiled; and the same with CUDA graphs
(``mode="reduce-overhead"``).
"""

import time

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.gpu.problem import TIMESTEPS, epsilon_table, uniform_thresholds
from benchmarks.gpu.timing import captured
from memfast import ops

STEPS, WARM_UP, BATCH, ITEMS = 200, 20, 256, 20_000
DECAY = 0.999
SHAPES = {"1-D, 1x256": (1, 256), "images, 3x32x32": (3, 32, 32)}


class Network(nn.Module):
    """A small residual convolution network for signals or images."""

    def __init__(self, shape, width=64, blocks=4):
        super().__init__()
        conv = nn.Conv1d if len(shape) == 2 else nn.Conv2d
        self.time = nn.Sequential(nn.Embedding(TIMESTEPS, width), nn.Linear(width, width), nn.SiLU())
        self.first, self.last = conv(shape[0], width, 3, padding=1), conv(width, shape[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), conv(width, width, 3, padding=1)) for _ in range(blocks)
        )

    def forward(self, x, timesteps):
        h = self.first(x)
        embedded = self.time(timesteps).view(len(x), -1, *[1] * (x.ndim - 2))
        for block in self.blocks:
            h = h + block(h + embedded)
        return self.last(h)


def run(record) -> int:
    for name, shape in SHAPES.items():
        ours = _measured(record, name, "memfast, one CUDA graph", lambda shape=shape: _memfast(shape))
        for peer, mode in (("torch.compile", None), ("torch.compile, CUDA graphs", "reduce-overhead")):
            theirs = _measured(record, name, peer, lambda shape=shape, mode=mode: _plain(shape, mode))
            if ours and theirs:
                record.row(name=f"{name}: memfast against {peer}", ratio=theirs / ours)
    return record.exit_code()


def _measured(record, name, contestant, build):
    found = {}

    def measure():
        torch._dynamo.reset()
        step = build()
        for _ in range(WARM_UP):
            step()
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
        found["ms"] = (time.perf_counter() - began) / STEPS * 1e3
        return {"ms_per_step": found["ms"]}

    record.attempt(f"{name}: {contestant}", measure)
    return found.get("ms")


def _setting(shape):
    torch.manual_seed(0)
    dataset = torch.randint(0, 256, (ITEMS, *shape), dtype=torch.uint8, device="cuda")
    network = Network(shape).cuda()
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True, capturable=True)
    averages = [parameter.detach().clone() for parameter in parameters]
    return dataset, network, parameters, optimizer, averages


def _memfast(shape):
    dataset, network, parameters, optimizer, averages = _setting(shape)
    table, density = epsilon_table(), ops.Draw(uniform_thresholds())
    key, place = ops.key(0, 0).cuda(), torch.arange(BATCH, device="cuda")
    order = torch.randperm(ITEMS, device="cuda")
    compiled = torch.compile(network, dynamic=False)
    next_step = torch.tensor([0, 1], device="cuda")

    def step():
        sample_ids = key[1] * BATCH + place
        indices = order[sample_ids % ITEMS]
        x_in, timesteps = ops.gather_noise(dataset, indices, table, density, sample_ids, key, flip=True)
        optimizer.zero_grad(set_to_none=True)
        prediction = compiled(x_in, timesteps)
        value = ops.gather_loss(prediction, dataset, indices, table, timesteps, sample_ids, key, flip=True)
        value.backward()
        optimizer.step()
        ops.ema([p.detach() for p in parameters], [averages], [DECAY])
        key.add_(next_step)
        return value.detach()

    return captured(step)


def _plain(shape, mode):
    dataset, network, parameters, optimizer, averages = _setting(shape)
    table = epsilon_table()
    alpha, sigma = table[:, 0].contiguous(), table[:, 2].contiguous()
    broad = (-1, *[1] * len(shape))

    def forward(batch, timesteps):
        x0 = batch.float() * (2 / 255) - 1
        flipped = (torch.rand(BATCH, device="cuda") < 0.5).view(broad)
        x0 = torch.where(flipped, x0.flip(-1), x0)
        eps = torch.randn_like(x0)
        x_t = alpha[timesteps].view(broad) * x0 + sigma[timesteps].view(broad) * eps
        return F.mse_loss(network(x_t, timesteps), eps)

    compiled = torch.compile(forward, mode=mode, dynamic=False)
    state = {"order": torch.randperm(ITEMS, device="cuda"), "place": 0}

    def step():
        if state["place"] + BATCH > ITEMS:
            state.update(order=torch.randperm(ITEMS, device="cuda"), place=0)
        indices = state["order"][state["place"] : state["place"] + BATCH]
        state["place"] += BATCH
        timesteps = torch.randint(0, TIMESTEPS, (BATCH,), device="cuda")
        optimizer.zero_grad(set_to_none=True)
        if mode:
            torch.compiler.cudagraph_mark_step_begin()
        compiled(dataset[indices], timesteps).backward()
        optimizer.step()
        torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1 - DECAY)

    return step
