"""The whole training step against the loop people write, and against torch.compile of that loop.

    python -m benchmarks.training.whole_step [--seconds 6] [--threads 2] [--device cpu] [--case mlp-140] [--out FILE]

Every contender does the same work: draw a batch, timesteps and noise, the network forward and backward, clip, AdamW, an
average of the weights. They take turns in short rounds; a figure is the ratio of median step times over the rounds. One
JSON line per case, at the end of FILE too. "First step" is what came before the second step: building, and compiling,
which TORCHINDUCTOR_FORCE_DISABLE_CACHES=1 in front of the command lets start from nothing.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from memfast import models, schedules
from memfast.foundation import provenance
from memfast.objective import DenoisingObjective
from memfast.training import ConstantDecay, Trainer

CASES = {
    "mlp-140": ({"kind": "mlp", "width": 256}, (4096, 140), 256),
    "unet1d-140": ({"kind": "unet1d", "widths": [16, 32, 48]}, (4096, 140), 256),
    "unet2d-28": ({"kind": "unet2d", "widths": [16, 32, 32], "attention": [False, False, False]}, (4096, 28, 28), 32),
}
DECAY, LR, CLIP = 0.999, 2e-4, 1.0
WARMUP, LONGEST_TURN, TURN_SECONDS = 3, 10, 0.3


def data(shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.default_rng(0)
    if len(shape) == 2:
        return generator.normal(size=shape).astype(np.float32)
    return generator.integers(0, 256, shape, dtype=np.uint8)


def build(config: dict, shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    return models.build({**config, "item_shape": [1, *shape[1:]]})


def plain(config: dict, shape: tuple[int, ...], batch: int, device: str, compiled: bool) -> Iterator[None]:
    """The loop as its users write it; compiled: torch.compile of everything between the batch and the loss."""
    import copy

    model = build(config, shape).to(device)
    average = copy.deepcopy(model)
    values = torch.from_numpy(data(shape)).to(device)
    values = (values.float() / 127.5 - 1 if values.dtype == torch.uint8 else values)[:, None]
    alphas_cumprod = torch.from_numpy(schedules.linear(1000).alphas_cumprod).float().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)

    def forward(x0: torch.Tensor) -> torch.Tensor:
        t = torch.randint(0, 1000, (len(x0),), device=device)
        noise = torch.randn_like(x0)
        level = alphas_cumprod[t].view(-1, *[1] * (x0.ndim - 1))
        return nn.functional.mse_loss(model(level.sqrt() * x0 + (1 - level).sqrt() * noise, t), noise)

    run = torch.compile(forward) if compiled else forward
    while True:
        loss = run(values[torch.randint(0, len(values), (batch,), device=device)])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        with torch.no_grad():
            for a, p in zip(average.parameters(), model.parameters(), strict=True):
                a.lerp_(p, 1 - DECAY)
        yield


def ours(config: dict, shape: tuple[int, ...], batch: int, device: str, compiled: bool) -> Iterator[None]:
    """The Trainer's own step."""
    trainer = Trainer(
        build(config, shape), data(shape), DenoisingObjective(schedules.linear(1000)), out=tempfile.mkdtemp(),
        steps=10**9, batch_size=batch, lr=LR, grad_clip=CLIP, ema=ConstantDecay(DECAY, ramp=False), compile=compiled,
        device=device, checkpoint_every=None, log_every=10**9, progress=False,
    )  # fmt: skip
    run = trainer.state
    run.model.train()
    while True:
        trainer.one_step()
        if run.losses.due(run.step):
            run.losses.read()
            run.losses.since_log.clear()
        yield


CONTENDERS: dict[str, tuple[Callable[..., Iterator[None]], bool]] = {
    "plain": (plain, False),
    "plain compiled": (plain, True),
    "memfast": (ours, False),
    "memfast compiled": (ours, True),
}


def measure(case: str, device: str, seconds: float, eager: bool) -> dict[str, float]:
    """Median milliseconds per step of each contender, in interleaved rounds."""
    config, shape, batch = CASES[case]
    steps, first = {}, {}
    for name, (make, compiled) in CONTENDERS.items():
        if eager and compiled:
            continue
        started = time.perf_counter()
        steps[name] = make(config, shape, batch, device, compiled)
        next(steps[name])
        first[name] = time.perf_counter() - started
        for _ in range(WARMUP):
            next(steps[name])
    synchronize(device)
    started = time.perf_counter()
    next(steps["memfast"])
    synchronize(device)
    turn = max(1, min(LONGEST_TURN, round(TURN_SECONDS / (time.perf_counter() - started))))
    times: dict[str, list[float]] = {name: [] for name in steps}
    deadline = time.perf_counter() + seconds * len(steps)
    while True:
        for name, step in steps.items():
            synchronize(device)
            started = time.perf_counter()
            for _ in range(turn):
                next(step)
            synchronize(device)
            times[name].append((time.perf_counter() - started) / turn)
        if time.perf_counter() > deadline:
            break
    result: dict[str, float] = {"rounds": len(times["memfast"]), "steps per round": turn}
    result |= {f"{name} ms": 1000 * statistics.median(values) for name, values in times.items()}
    result |= {f"{name} first step s": value for name, value in first.items()}
    if not eager:
        best_peer = min(result["plain ms"], result["plain compiled ms"])
        result["ratio over the better peer"] = best_peer / min(result["memfast ms"], result["memfast compiled ms"])
    result["eager over eager"] = result["plain ms"] / result["memfast ms"]
    return result


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="per contender and case")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--eager", action="store_true", help="leave the compiled contenders out")
    parser.add_argument("--out", type=Path, help="write the lines behind those of this file too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    about = {
        "machine": provenance.machine(), "versions": provenance.versions(), "commit": provenance.commit(),
        "threads": arguments.threads, "device": arguments.device,
    }  # fmt: skip
    for case in arguments.case or CASES:
        result = measure(case, arguments.device, arguments.seconds, arguments.eager)
        line = json.dumps({"case": case, **{name: round(value, 4) for name, value in result.items()}, **about})
        print(line, flush=True)
        if arguments.out is not None:
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
