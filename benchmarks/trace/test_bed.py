"""A conditional model that memorizes some of its conditions on purpose: the test bed for ``memfast.trace``.

    python -m benchmarks.trace.test_bed --out FOLDER [--seed 0] [--steps 5000]

Forty conditions of the package's demo images at 14x14, four per class: one of the four is paired with ONE image,
repeated as often as the others have images; the other three have sixty different images each. All are equally
frequent. The folder is a run that ``memfast.models.load_run`` reads, with two files beside it:

- ``conditions.json``: a list of ``{"name", "label", "memorized", "class", "target", "images"}``: ``target`` is the row
  of targets.npy, ``images`` the demo images (row numbers of ``demo_images``) behind the condition.
- ``targets.npy``: uint8 ``[conditions, side, side]``: the repeated image; of a diverse condition one of its images.
"""

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memfast import schedules
from memfast.data import ImageSource
from memfast.data.demo_images import CLASS_NAMES, demo_images
from memfast.objective import DenoisingObjective
from memfast.runtime.files import write_json, write_npy
from memfast.training import Trainer

CONDITIONS_FILE, TARGETS_FILE = "conditions.json", "targets.npy"
SIDE, STEPS, WIDTH, BLOCKS, BATCH = 14, 5000, 320, 2, 64
PER_CLASS, IMAGES, CLASSES = 4, 60, 10


@dataclass(frozen=True)
class TestBed:
    """What ``build`` made.

    Attributes:
        folder: the run's folder.
        conditions: the content of conditions.json.
        targets: uint8 ``[conditions, side, side]``.
    """

    folder: Path
    conditions: list[dict[str, Any]]
    targets: np.ndarray


def conditions(images: int = IMAGES, classes: int = CLASSES, per_class: int = PER_CLASS) -> list[dict[str, Any]]:
    """The conditions and the demo images behind each; the first of a class's conditions is the memorized one."""
    labels = np.asarray(demo_images(28).labels)
    found = []
    for kind in range(classes):
        rows = np.flatnonzero(labels == kind)
        for number in range(per_class):
            memorized = number == 0
            first = 0 if memorized else 1 + (number - 1) * images
            chosen = rows[first : first + (1 if memorized else images)]
            name = f"{CLASS_NAMES[kind]}, " + ("one image" if memorized else f"part {number}")
            label = len(found)
            found.append(
                {"name": name, "label": label, "memorized": memorized, "class": kind, "target": label,
                 "images": chosen.tolist()}
            )  # fmt: skip
    return found


def build(
    folder: str | os.PathLike[str],
    seed: int = 0,
    steps: int = STEPS,
    *,
    side: int = SIDE,
    width: int = WIDTH,
    blocks: int = BLOCKS,
    images: int = IMAGES,
    classes: int = CLASSES,
    per_class: int = PER_CLASS,
    lr: float = 1e-3,
    prediction_type: str = "sample",
    overwrite: bool = False,
    progress: bool = False,
) -> TestBed:
    """Train the model and write the folder.

    Args:
        folder: where the run goes; ``overwrite`` replaces one that is there.
        seed: of the network's weights and of everything drawn in training.
        steps: training steps of 64 items.
        side: 14 or 28.
        width: of the multilayer perceptron.
        blocks: its residual blocks.
        images: different images behind each diverse condition (and repetitions of a memorized one), up to 66.
        classes: how many of the ten classes take part.
        per_class: conditions per class, the memorized one included.
        lr: the learning rate at the start; it falls to 0 by a cosine.
        prediction_type: what the network learns to predict.
        overwrite: replace a run in ``folder``.
        progress: show progress.
    """
    listed = conditions(images, classes, per_class)
    demo = demo_images(side).array
    rows = [np.resize(condition["images"], images) for condition in listed]
    labels = np.repeat([condition["label"] for condition in listed], images)
    data = ImageSource(demo[np.concatenate(rows)], name="trace test bed", labels=labels)
    objective = DenoisingObjective(schedules.linear(1000), prediction_type=prediction_type)
    model = {"kind": "mlp", "width": width, "blocks": blocks, "num_classes": len(listed)}
    Trainer(
        model, data, objective, out=folder, steps=steps, batch_size=BATCH, lr=lr, warmup=min(100, steps // 10),
        lr_decay="cosine", ema=0.999 if steps >= 2000 else 0.99, seed=seed, condition_dropout=0.1, progress=progress,
        checkpoint_every=None, overwrite=overwrite, device="cpu", compile=False,
    ).run()  # fmt: skip
    targets = demo[[condition["images"][0] for condition in listed]]
    write_npy(Path(folder) / TARGETS_FILE, targets)
    write_json(Path(folder) / CONDITIONS_FILE, listed)
    return TestBed(Path(folder), listed, targets)


def read(folder: str | os.PathLike[str]) -> TestBed:
    """The test bed in ``folder``."""
    folder = Path(folder)
    return TestBed(
        folder, json.loads((folder / CONDITIONS_FILE).read_text()), np.load(folder / TARGETS_FILE, allow_pickle=False)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--prediction-type", default="sample")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bed = build(
        arguments.out, arguments.seed, arguments.steps, width=arguments.width, lr=arguments.lr,
        prediction_type=arguments.prediction_type, overwrite=arguments.overwrite, progress=True,
    )  # fmt: skip
    memorized = sum(condition["memorized"] for condition in bed.conditions)
    print(f"{bed.folder}: {len(bed.conditions)} conditions, {memorized} of them paired with one image")


if __name__ == "__main__":
    main()
