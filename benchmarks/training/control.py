"""What ``Monitor(control=)`` does to the memorized fraction in a real run: where it holds the target and where not.

    python -m benchmarks.training.control [--out control.json] [--seed 0 --seed 1] [--steps 3000] [--threads 1]

A width-256 MLP learns 150 of the package's demo images at 14x14 with x0 prediction, from two places: a late interval
(800..1000 of 1,000), where it memorizes little, and an early one (200..400), where it memorizes more. Each place runs
free and under targets. Every line is one run: the fraction at each audit, its confidence interval at the last one, and
where the interval's mean went. The same seed gives the same start to all runs of a place.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from memfast import schedules
from memfast.data.demo_images import demo_images
from memfast.foundation import provenance
from memfast.objective import DenoisingObjective
from memfast.timesteps import ConfidenceInterval
from memfast.training import Control, Monitor, Trainer

IMAGES, SIDE, WIDTH, BATCH, SAMPLES, EVERY = 150, 14, 256, 64, 300, 100
STARTS = {"late": (800, 1000), "early": (200, 400)}
TARGETS: dict[str, tuple[float | None, ...]] = {"late": (None, 0.1), "early": (None, 0.1, 0.02)}
SEEDS = (0, 1)


def train(start: str, target: float | None, seed: int, steps: int) -> dict[str, Any]:
    """One run's curve."""
    low, high = STARTS[start]
    objective = DenoisingObjective(
        schedules.linear(1000), timesteps=ConfidenceInterval(low=low, high=high), prediction_type="sample"
    )
    control = None if target is None else Control(target=target)
    monitor = Monitor(every=EVERY, samples=SAMPLES, control=control, seed=seed)
    data = demo_images(SIDE).take(range(IMAGES))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        trainer = Trainer(
            {"kind": "mlp", "width": WIDTH}, data, objective, out=Path(folder) / "run", steps=steps, batch_size=BATCH,
            lr=1e-3, ema=0.99, seed=seed, hooks=[monitor], checkpoint_every=None, progress=False, device="cpu",
        )  # fmt: skip
        trainer.run()
        seconds = time.perf_counter() - began
    last = monitor.curve[-1]
    return {
        "start": start, "target": target, "seed": seed, "seconds": round(seconds, 1),
        "training_seconds": round(trainer.seconds, 1), "steps": [entry["step"] for entry in monitor.curve],
        "memorized": [round(entry["memorized"], 4) for entry in monitor.curve],
        "mean": [round(entry["control_mean"]) if target is not None else (low + high) // 2 for entry in monitor.curve],
        "last_interval": [round(last["memorized_low"], 4), round(last["memorized_high"], 4)],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the runs there as JSON, behind those it holds")
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", action="append", choices=STARTS)
    parser.add_argument("--controlled", action="store_true", help="leave the free runs out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    record: dict[str, Any] = {
        "what": "memorized fraction with and without control", "machine": provenance.machine(),
        "versions": provenance.versions(), "commit": provenance.commit(), "threads": arguments.threads,
        "images": IMAGES, "side": SIDE, "width": WIDTH, "batch": BATCH, "samples": SAMPLES, "every": EVERY, "runs": [],
    }  # fmt: skip
    if arguments.out is not None and arguments.out.exists():
        record["runs"] = json.loads(arguments.out.read_text())["runs"]
    for seed in arguments.seed or SEEDS:
        for start in arguments.start or STARTS:
            for target in TARGETS[start][1 if arguments.controlled else 0 :]:
                run = train(start, target, seed, arguments.steps)
                record["runs"].append(run)
                print(json.dumps(run), flush=True)
                if arguments.out is not None:
                    arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
