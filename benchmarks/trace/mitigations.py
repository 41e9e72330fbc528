"""Detectors and mitigations on the test bed that memorizes on purpose, before and after by the same measures.

    python -m benchmarks.trace.mitigations [--beds FOLDER ...] [--seeds 3] [--samples 8] [--out mitigations.json]

Without ``--beds`` the beds of seeds 0, 1, ... are trained first (about a minute each). For every bed and guidance:

- detectors: each score's AUC and true positives at 1 % false positives, one score per sample and one per condition (the
  mean over its samples);
- mitigations: on the memorized conditions the share of copies with Wilson's interval (the nearest-neighbour ratio, and
  within an RMS of 0.05 of the repeated image) and the RMS to it; on the others the RMS to the nearest picture of the
  whole demo set, the share whose nearest picture is of the condition's class, and how far the mitigation moved them
  from the sample that the same noise gives without it.

The limits of the two optimisations are quantiles of their first loss over the conditions that are NOT memorized: what
somebody can know who has some harmless prompts. Without a limit every sample takes all iterations.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.trace import test_bed
from memfast.criteria import wilson
from memfast.data.demo_images import demo_images
from memfast.detectors import DETECTORS, detector, roc
from memfast.foundation import provenance
from memfast.models import Run, load_run
from memfast.neighbors import knn
from memfast.runtime.files import write_json
from memfast.sampling import (
    Delayed,
    DynamicTransition,
    Step,
    branch_difference,
    ddim,
    initial_noise,
    levels,
    optimise_condition,
    optimise_start,
)

STEPS, GUIDANCES, SAMPLES = 50, (1.0, 3.0), 8
# Quantile of the harmless conditions (None: no limit) and iterations.
EFFORTS = ((0.95, 10), (0.5, 10), (0.5, 40), (None, 40))
RATIO, CLOSE = 1 / 3, 0.05
# Cross-attention is not in this network.
WATCHED = [name for name, kind in DETECTORS.items() if not kind.needs_attention]


class Bed:
    """A test bed with everything that is measured against, and one start per condition and sample."""

    def __init__(self, folder: Path, samples: int, seed: int) -> None:
        self.run: Run = load_run(folder)
        listed = test_bed.read(folder)
        self.labels = np.repeat([one["label"] for one in listed.conditions], samples)
        self.memorized = np.repeat([one["memorized"] for one in listed.conditions], samples)
        self.kinds = np.repeat([one["class"] for one in listed.conditions], samples)
        self.targets = listed.targets[self.labels].astype(np.float64) / 255
        side = listed.targets.shape[1]
        demo = demo_images(side)
        self.demo, self.demo_kinds = demo.array, np.asarray(demo.labels)
        used = np.unique(np.concatenate([one["images"] for one in listed.conditions]))
        self.training = np.unique(self.demo[used], axis=0)
        self.options: dict[str, Any] = {
            "prediction_type": self.run.prediction_type, "shape": self.run.item_shape, "steps": STEPS, "seed": seed,
        }  # fmt: skip
        ids = torch.arange(len(self.labels))
        self.start = initial_noise(ids, self.run.item_shape, seed)

    def sample(self, callback: Callable[[Step], None] | None = None, **changes: Any) -> np.ndarray:
        """uint8 samples from the bed's starts."""
        options = {**self.options, "labels": torch.as_tensor(self.labels), "initial": self.start, **changes}
        values = ddim(
            self.run.model, self.run.schedule, clip=self.run.value_range, callback=callback, batch_size=10_000,
            **options,
        )  # fmt: skip
        return self.run.to_data(values)

    def neighbours(self, items: np.ndarray) -> np.ndarray:
        """Squared distances to the two nearest training images."""
        return knn(items.reshape(len(items), -1), self.training.reshape(len(self.training), -1), 2).squared_distances


class Watch:
    """Feeds the detectors from a sampling run."""

    both_branches = True

    def __init__(self, bed: Bed) -> None:
        self.bed, self.labels = bed, torch.as_tensor(bed.labels)
        self.found = {name: detector(name) for name in WATCHED}
        self.levels = levels(bed.run.schedule, STEPS)
        for one in self.found.values():
            one.begin(len(bed.labels), groups=bed.labels)

    def __call__(self, step: Step) -> None:
        level = self.levels[step.index]
        difference = branch_difference(
            self.bed.run.model, level, self.labels, prediction_type=self.bed.run.prediction_type
        )
        for one in self.found.values():
            one.step(step, difference=difference)

    def scores(self, items: np.ndarray) -> dict[str, np.ndarray]:
        squared = self.bed.neighbours(items)
        for one in self.found.values():
            if one.needs_distances:
                one.distances(squared)
        return {name: one.scores() for name, one in self.found.items()}


def detection(bed: Bed, guidance: float, samples: int) -> tuple[dict[str, Any], np.ndarray]:
    """Every detector's figures, and the samples that were watched."""
    watch = Watch(bed)
    items = bed.sample(watch, guidance=guidance)
    figures = {}
    for name, scores in watch.scores(items).items():
        per_condition = scores.reshape(-1, samples).mean(axis=1)
        figures[name] = {
            "per_sample": _figures(scores, bed.memorized),
            "per_condition": _figures(per_condition, bed.memorized.reshape(-1, samples)[:, 0]),
        }
    return figures, items


def arms(bed: Bed, guidance: float) -> dict[str, dict[str, Any]]:
    """The mitigations: what is given to the sampler in place of the plain arguments."""
    labels, others = torch.as_tensor(bed.labels), ~bed.memorized
    given = {**bed.options, "initial": bed.start, "batch_size": 10_000}
    call = (bed.run.model, bed.run.schedule, labels)
    gap = optimise_condition(*call, target_loss=None, iterations=0, **given).first_loss.numpy()
    sharp = optimise_start(*call, threshold=None, iterations=0, **given).first_loss.numpy()
    found: dict[str, dict[str, Any]] = {"none": {"guidance": guidance}}
    for until in (0.8, 0.65, 0.5, 0.35, 0.2):
        found[f"delayed until {until}"] = {"guidance": Delayed(until, guidance)}
    found["opposite -2 until 0.8"] = {"guidance": Delayed(0.8, guidance, before=-2.0)}
    found["dynamic"] = {"guidance": DynamicTransition(guidance)}
    found["dynamic, 0.5 at the latest"] = {"guidance": DynamicTransition(guidance, latest=0.5)}
    for quantile, iterations in EFFORTS:
        limits = [None if quantile is None else float(np.quantile(first[others], quantile)) for first in (gap, sharp)]
        wen = optimise_condition(*call, target_loss=limits[0], iterations=iterations, **given)
        sail = optimise_start(*call, threshold=limits[1], iterations=iterations, **given)
        effort = f"{'no limit' if quantile is None else f'limit {quantile:.0%}'}, {iterations}"
        for name, result, key in (("condition", wen, "labels"), ("start", sail, "initial")):
            found[f"{name}, {effort}"] = {
                "guidance": guidance, key: result.values, "notes": _descent_notes(result, bed.memorized),
            }  # fmt: skip
    return found


def judged(bed: Bed, items: np.ndarray, plain: np.ndarray) -> dict[str, Any]:
    """What samples of all conditions are worth."""
    flat = items.reshape(len(items), -1)
    squared = bed.neighbours(items)
    copies = squared[:, 0] < RATIO**2 * squared[:, 1]
    rms = np.sqrt((((items.reshape(bed.targets.shape) / 255) - bed.targets) ** 2).mean(axis=(1, 2)))
    nearest = knn(flat, bed.demo.reshape(len(bed.demo), -1), 1)
    moved = np.sqrt((((items.astype(np.float64) - plain) / 255) ** 2).reshape(len(items), -1).mean(axis=1))
    mine, others = bed.memorized, ~bed.memorized
    right = bed.demo_kinds[nearest.indices[:, 0]] == bed.kinds
    quality = np.sqrt(nearest.squared_distances[:, 0] / flat.shape[1]) / 255
    return {
        "memorized": {
            "copies_by_ratio": _share(copies[mine]), "copies_by_rms": _share(rms[mine] <= CLOSE),
            "rms_to_target": round(float(rms[mine].mean()), 4), "right_class": round(float(right[mine].mean()), 4),
            "rms_to_nearest_picture": round(float(quality[mine].mean()), 4),
        },
        "others": {
            "copies_by_ratio": _share(copies[others]), "moved_rms": round(float(moved[others].mean()), 4),
            "rms_to_nearest_picture": round(float(quality[others].mean()), 4),
            "right_class": round(float(right[others].mean()), 4),
        },
    }  # fmt: skip


def measure(folder: Path, samples: int, seed: int) -> dict[str, Any]:
    """Everything about one bed."""
    bed = Bed(folder, samples, seed)
    record: dict[str, Any] = {"bed": seed, "guidance": {}}
    for guidance in GUIDANCES:
        detectors, plain = detection(bed, guidance, samples)
        mitigations = {}
        for name, changes in arms(bed, guidance).items():
            notes = changes.pop("notes", None)
            mitigations[name] = judged(bed, bed.sample(**changes), plain) | ({"descent": notes} if notes else {})
        record["guidance"][str(guidance)] = {"detectors": detectors, "mitigations": mitigations}
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beds", type=Path, nargs="*", help="folders of benchmarks.trace.test_bed, seeds 0, 1, ...")
    parser.add_argument("--seeds", type=int, default=3, help="how many beds to train where none are given")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="per condition")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    record: dict[str, Any] = {
        "what": "detectors and mitigations on the trace test bed", "machine": provenance.machine(),
        "versions": provenance.versions(), "commit": provenance.commit(), "steps": STEPS,
        "samples_per_condition": arguments.samples, "beds": [],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        beds = arguments.beds or [Path(temporary) / str(seed) for seed in range(arguments.seeds)]
        for seed, folder in enumerate(beds):
            if not arguments.beds:
                test_bed.build(folder, seed)
            record["beds"].append(measure(folder, arguments.samples, seed))
            show(record["beds"][-1])
    if arguments.out is not None:
        write_json(arguments.out, record)


def show(record: dict[str, Any]) -> None:
    """Print one bed's tables."""
    for guidance, found in record["guidance"].items():
        print(f"\nbed {record['bed']}, guidance {guidance}")
        print(f"{'detector':<30}{'AUC/sample':>12}{'TPR@1%':>9}{'AUC/cond.':>12}")
        for name, figures in found["detectors"].items():
            one, other = figures["per_sample"], figures["per_condition"]
            print(f"{name:<30}{one['auc']:>12.3f}{one['tpr_at_1_percent']:>9.2f}{other['auc']:>12.3f}")
        print(
            f"{'mitigation':<30}{'copies':>8}{'RMS<.05':>9}{'RMS':>7}{'class':>7}{'| moved':>9}{'near':>7}{'class':>7}"
        )
        for name, values in found["mitigations"].items():
            mine, others = values["memorized"], values["others"]
            print(
                f"{name:<30}{mine['copies_by_ratio']['fraction']:>8.2f}{mine['copies_by_rms']['fraction']:>9.2f}"
                f"{mine['rms_to_target']:>7.3f}{mine['right_class']:>7.2f}{others['moved_rms']:>9.3f}"
                f"{others['rms_to_nearest_picture']:>7.3f}{others['right_class']:>7.2f}",
                flush=True,
            )


def _figures(scores: np.ndarray, memorized: np.ndarray) -> dict[str, Any]:
    found = roc(scores, memorized)
    tpr, interval = found.tpr_at(0.01)
    return {
        "auc": round(found.auc, 4), "auc_interval": [round(end, 4) for end in found.auc_interval],
        "tpr_at_1_percent": round(tpr, 4), "tpr_interval": [round(end, 4) for end in interval],
        "false_positives_allowed": found.false_positives_at(0.01), "positives": len(found.positive),
        "negatives": len(found.negative),
    }  # fmt: skip


def _share(flags: np.ndarray) -> dict[str, Any]:
    low, high = wilson(int(flags.sum()), len(flags))
    return {
        "count": int(flags.sum()), "total": len(flags), "fraction": round(float(flags.mean()), 4),
        "wilson": [round(low, 4), round(high, 4)],
    }  # fmt: skip


def _descent_notes(result: Any, memorized: np.ndarray) -> dict[str, Any]:
    mine = torch.as_tensor(memorized)
    return {
        kind: {
            "first_loss": round(float(result.first_loss[rows].mean()), 3),
            "loss": round(float(result.loss[rows].mean()), 3),
            "reached": round(float(result.reached[rows].double().mean()), 3),
            "iterations": round(float(result.iterations[rows].double().mean()), 2),
        }
        for kind, rows in (("memorized", mine), ("others", ~mine))
    }  # fmt: skip


if __name__ == "__main__":
    main()
