"""Where a training step's time goes, part by part, in the Trainer and in the plain eager loop.

    python -m benchmarks.training.step_profile [--steps 30] [--threads 2] [--case mlp-140 ...]

Both take the same network through the same work; they take turns step by step. Figures are median milliseconds per part
on a CPU, where every call returns when its work is done.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.training.whole_step import CASES, CLIP, DECAY, LR, build, data
from memfast import schedules
from memfast.foundation import provenance
from memfast.objective import DenoisingObjective
from memfast.training import ConstantDecay, Trainer
from memfast.training import loop as training_loop

Times = dict[str, list[float]]


def timed(call: Callable[..., Any], name: str, times: Times) -> Callable[..., Any]:
    """``call``, its seconds noted."""

    def run(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = call(*arguments, **options)
        times[name].append(time.perf_counter() - started)
        return result

    return run


def ours(case: str, times: Times) -> Iterator[None]:
    """The Trainer's step; "backward" is its forward-and-backward without the parts listed beside it."""
    config, shape, batch = CASES[case]
    trainer = Trainer(
        build(config, shape), data(shape), DenoisingObjective(schedules.linear(1000)), out=tempfile.mkdtemp(),
        steps=10**9, batch_size=batch, lr=LR, grad_clip=CLIP, ema=ConstantDecay(DECAY, ramp=False), compile=False,
        device="cpu", checkpoint_every=None, log_every=10**9, progress=False,
    )  # fmt: skip
    run = trainer.state
    run.model.train()
    for owner, method, name in (
        (run.loader, "batch", "batch"),
        (run.objective, "noise", "timesteps and noise"),
        (run.model, "forward", "network"),
        (run.objective, "loss", "loss"),
        (training_loop, "_backward", "forward and backward"),
        (run, "optimizer", "clip and AdamW"),
        (run.averages, "update", "average"),
        (trainer, "one_step", "step"),
    ):
        setattr(owner, method, timed(getattr(owner, method), name, times))
    while True:
        trainer.one_step()
        run.losses.read()
        run.losses.since_log.clear()
        inside = sum(times[name][-1] for name in ("timesteps and noise", "network", "loss"))
        times["backward"].append(times["forward and backward"][-1] - inside)
        yield


def plain(case: str, times: Times) -> Iterator[None]:
    """The loop of ``whole_step.plain``, eager, with a clock between its parts."""
    config, shape, batch = CASES[case]
    model = build(config, shape)
    average = copy.deepcopy(model)
    values = torch.from_numpy(data(shape))
    values = (values.float() / 127.5 - 1 if values.dtype == torch.uint8 else values)[:, None]
    alphas_cumprod = torch.from_numpy(schedules.linear(1000).alphas_cumprod).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    while True:
        clock = [time.perf_counter()]
        x0 = values[torch.randint(0, len(values), (batch,))]
        clock.append(time.perf_counter())
        t, noise = torch.randint(0, 1000, (len(x0),)), torch.randn_like(x0)
        level = alphas_cumprod[t].view(-1, *[1] * (x0.ndim - 1))
        x_t = level.sqrt() * x0 + (1 - level).sqrt() * noise
        clock.append(time.perf_counter())
        prediction = model(x_t, t)
        clock.append(time.perf_counter())
        loss = nn.functional.mse_loss(prediction, noise)
        clock.append(time.perf_counter())
        optimizer.zero_grad()
        loss.backward()
        clock.append(time.perf_counter())
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        clock.append(time.perf_counter())
        with torch.no_grad():
            for a, p in zip(average.parameters(), model.parameters(), strict=True):
                a.lerp_(p, 1 - DECAY)
        clock.append(time.perf_counter())
        parts = ("batch", "timesteps and noise", "network", "loss", "backward", "clip and AdamW", "average")
        for name, start, stop in zip(parts, clock, clock[1:], strict=False):
            times[name].append(stop - start)
        times["step"].append(clock[-1] - clock[0])
        yield


def measure(case: str, steps: int, warmup: int = 4) -> dict[str, dict[str, float]]:
    """Median milliseconds per part."""
    noted: dict[str, Times] = {"plain": defaultdict(list), "memfast": defaultdict(list)}
    loops = [plain(case, noted["plain"]), ours(case, noted["memfast"])]
    for _ in range(steps + warmup):
        for loop in loops:
            next(loop)
    return {
        name: {part: round(1000 * statistics.median(values[warmup:]), 3) for part, values in times.items()}
        for name, times in noted.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", action="append", choices=CASES)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        json.dumps({"machine": provenance.machine(), "versions": provenance.versions(), "commit": provenance.commit()})
    )
    for case in arguments.case or CASES:
        print(json.dumps({"case": case, **measure(case, arguments.steps)}), flush=True)


if __name__ == "__main__":
    main()
