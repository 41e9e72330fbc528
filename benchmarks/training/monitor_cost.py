"""What the monitor costs at its default interval: one audit beside the training steps between two audits.

    python -m benchmarks.training.monitor_cost [--rounds 3] [--threads 2] [--case mlp-140 ...]

Steps and audits take turns; a figure is median audit time over (default interval x median step time), and beside it the
share of the network's evaluations that the interval is made for.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.training.whole_step import CASES, CLIP, DECAY, LR, build, data
from memfast import schedules
from memfast.foundation import provenance
from memfast.objective import DenoisingObjective
from memfast.training import ConstantDecay, Monitor, Trainer

STEPS_PER_ROUND = 20


def measure(case: str, rounds: int) -> dict[str, float | str]:
    """Seconds of an audit and of a step, and the share."""
    config, shape, batch = CASES[case]
    monitor = Monitor()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            build(config, shape), data(shape), DenoisingObjective(schedules.linear(1000)), out=Path(folder) / "run",
            steps=1, batch_size=batch, lr=LR, grad_clip=CLIP, ema=ConstantDecay(DECAY), device="cpu",
            checkpoint_every=None, progress=False, hooks=[monitor],
        )  # fmt: skip
        trainer.run()
        audits, steps = [], []
        for number in range(rounds + 1):
            trainer.model.train()
            started = time.perf_counter()
            for _ in range(STEPS_PER_ROUND):
                trainer.one_step()
            middle = time.perf_counter()
            monitor._judge(monitor.draw(trainer.state))
            ended = time.perf_counter()
            if number:
                steps.append((middle - started) / STEPS_PER_ROUND)
                audits.append(ended - middle)
    step, audit = statistics.median(steps), statistics.median(audits)
    assert monitor.every is not None
    evaluations = monitor.samples * monitor.steps / (3 * batch * monitor.every)
    return {
        "case": case, "batch": batch, "interval": monitor.every, "step ms": round(1000 * step, 3),
        "audit ms": round(1000 * audit, 2), "share of evaluations": round(evaluations, 4),
        "share of training time": round(audit / (monitor.every * step), 4),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", action="append", choices=CASES)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        json.dumps({"machine": provenance.machine(), "versions": provenance.versions(), "commit": provenance.commit()})
    )
    for case in arguments.case or CASES:
        print(json.dumps(measure(case, arguments.rounds)), flush=True)


if __name__ == "__main__":
    main()
