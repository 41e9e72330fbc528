"""Study 4: paper 3's claim that Ambient targets take copies away at no cost in quality."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studies import data, figures
from studies.ambient_judgement import MAIN, RULE, copying, counts, judge, panel
from studies.ambient_runs import Arm, Measure, run_arm
from studies.study import Judgement, Result, Size, Study

NOISES = (0.2, 0.3, 0.4, 0.5)
TOLD = {
    "compensated": "The paper's implicit weight divided out (as later Ambient Omni code does)",
    "EDM form": "The form of the paper's code (alpha = 1, log-normal noise levels, EDM's weight and preconditioning)",
    "VP form": "The variance-preserving form (linear schedule, uniform timesteps) with prediction of the clean image",
    "noise prediction": "Prediction of the noise instead of the clean image",
}
SETS = {"fashion": "Fashion-MNIST", "cifar": "the CIFAR-10 subset"}


@dataclass(frozen=True)
class Reading:
    """One way to read what the claim leaves open.

    Attributes:
        name: in results.
        form: of the noise, see ``Arm``.
        prediction: what the network predicts.
        counts: numbers of training images.
        steps: training steps for each of them.
        noises: the sigma_n; plain training is always run beside them.
        compensate: see ``Arm``.
    """

    name: str
    form: str
    prediction: str
    counts: tuple[int, ...]
    steps: tuple[int, ...]
    noises: tuple[float, ...]
    compensate: bool = False

    def arms(self) -> list[Arm]:
        """Plain training, and one for each sigma_n."""
        noisy = [Arm(self.form, self.prediction, noise, self.compensate) for noise in self.noises]
        return [Arm(self.form, self.prediction), *noisy]


@dataclass(frozen=True)
class AmbientSize(Size):
    """How large the comparison is; the first reading is the one that the verdict is about.

    Attributes:
        data: ``"fashion"`` or ``"cifar"``.
        source: the same in words.
        side: of the images, in pixels.
        reference: how many images that are never trained on the Frechet distance compares with.
        model: the network.
        lr: the learning rate.
        batch_size: of training.
        ema: the average of the weights that is sampled from.
        precision: the Trainer's.
        snapshots: when to measure, as shares of the training.
        samples: for each measurement.
        sampler_steps: of Heun's sampler.
        features: of the Frechet distance, see ``Measure``.
        components: of ``"pca"``.
        readings: the comparisons.
    """

    data: str
    source: str
    side: int
    reference: int
    model: dict[str, Any]
    lr: float
    batch_size: int
    ema: float
    precision: str
    snapshots: tuple[float, ...]
    samples: int
    sampler_steps: int
    features: str
    components: int
    readings: tuple[Reading, ...]


def run(size: AmbientSize, seed: int) -> Result:
    """Every arm of every reading at one seed, and held-out images through the same measurements."""
    pool = _images(size)
    order = np.random.default_rng(seed).permutation(len(pool))
    largest = max(count for reading in size.readings for count in reading.counts)
    others = pool[order[largest:]]
    held_out, reference = others[: size.samples], others[size.samples :][: size.reference]
    measures = {
        count: Measure(pool[order[:count]], reference, features=size.features, components=size.components)
        for count in {count for reading in size.readings for count in reading.counts}
    }
    trained: dict[tuple[Arm, int, int], list[dict[str, Any]]] = {}
    found = []
    for reading in size.readings:
        for count, steps in zip(reading.counts, reading.steps, strict=True):
            for arm in reading.arms():
                key = (arm, count, steps)
                if key not in trained:
                    trained[key] = run_arm(
                        arm, measures[count], steps=steps, snapshots=size.snapshots, samples=size.samples,
                        sampler_steps=size.sampler_steps, seed=seed, model=size.model, lr=size.lr,
                        batch_size=size.batch_size, ema=size.ema, precision=size.precision,
                    )  # fmt: skip
                found.append({"reading": reading.name, "count": count, "noise": arm.noise, "curve": trained[key]})
    floors = [{"count": count} | measures[count](held_out) for count in sorted(measures)]
    return {"curves": found, "held_out": floors}


def judgement(runs: list[Result]) -> Judgement:
    """By ``RULE``."""
    return judge(runs, {name: text for name, text in TOLD.items() if _has(runs, name)})


def figure(runs: list[Result], path: Path) -> None:
    """Copies against Frechet distance: a panel for each number of images, and one for each other reading."""
    panels = [(MAIN, count, f"{count} images") for count in counts(runs)]
    for name in TOLD:
        if _has(runs, name) and copying(runs, name):
            panels.append((name, counts(runs, name)[0], f"{name}, {counts(runs, name)[0]} images"))
    rows = -(-len(panels) // 3)
    drawing, axes = figures.axes(rows, 3)
    for axis, (reading, count, title) in zip(axes.flat, panels, strict=False):
        panel(axis, runs, reading, count, title)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figures.save(drawing, path)


def _images(size: AmbientSize) -> np.ndarray:
    if size.data == "cifar":
        return data.distinct(np.concatenate(data.cifar()))
    return data.distinct(data.fashion(size.side)[0])[..., None]


def _has(runs: list[Result], reading: str) -> bool:
    return any(one["reading"] == reading for one in runs[0]["curves"])


def _sizes() -> tuple[AmbientSize, ...]:
    small: dict[str, Any] = {
        "data": "fashion", "source": "Fashion-MNIST, 28 x 28 pixels", "side": 28,
        "model": {"kind": "mlp", "width": 256, "blocks": 3}, "lr": 3e-3, "batch_size": 256, "ema": 0.99,
        "precision": "bfloat16", "sampler_steps": 18, "features": "pca",
    }  # fmt: skip
    vp, edm, eps = ("vp", "sample"), ("edm", "edm"), ("vp", "epsilon")
    return (
        AmbientSize(
            "quick", **small, reference=10_000, snapshots=(0.3, 0.45, 0.6, 0.8, 1.0), samples=300, components=50,
            readings=(
                Reading(MAIN, *vp, (300, 1000), (1050, 3500), NOISES),
                Reading("compensated", *vp, (300,), (1050,), (0.2, 0.4), compensate=True),
                Reading("EDM form", *edm, (300,), (800,), (0.4,)),
                Reading("noise prediction", *eps, (300,), (1050,), (0.4,)),
            ),
        ),
        AmbientSize(
            "full", data="cifar", source="the CIFAR-10 subset", side=32, reference=9000, model={"kind": "unet2d"},
            lr=2e-4, batch_size=128, ema=0.999, precision="float32",
            snapshots=(0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0), samples=2000, sampler_steps=18,
            features="efficientnet-lite0", components=0,
            readings=(
                Reading(MAIN, *edm, (300, 1000), (60_000, 150_000), NOISES),
                Reading("compensated", *edm, (300,), (60_000,), NOISES, compensate=True),
                Reading("VP form", *vp, (300,), (60_000,), NOISES),
                Reading("noise prediction", *eps, (300,), (60_000,), NOISES),
            ),
        ),
        AmbientSize(
            "tiny", **{**small, "model": {"kind": "mlp", "width": 16, "blocks": 1}, "sampler_steps": 3}, reference=200,
            snapshots=(0.5, 1.0), samples=20, components=5,
            readings=(
                Reading(MAIN, *vp, (20, 40), (4, 4), (0.2, 0.4)),
                Reading("compensated", *vp, (20,), (4,), (0.4,), compensate=True),
                Reading("EDM form", *edm, (20,), (4,), (0.4,)),
            ),
        ),
    )  # fmt: skip


STUDY = Study(
    number=4,
    slug="ambient",
    title="Ambient targets: fewer copies at equal quality",
    claim="Training on noisy targets above a noise level sigma_n reduces the share of memorized samples by 92 % on "
    "CIFAR-10, at equal or better FID than plain training, with 300 and 1,000 training images.",
    source="Shah et al. 2025, arXiv 2502.21278 (ICML 2025), and its code. The 92 % is from a summary of the paper; no "
    "table of it could be read.",
    setup="Networks learn images of {source}, plainly and with Ambient targets at each sigma_n (noise to signal, data "
    "in [-1, 1]), for the same number of steps: batches of {batch_size}, learning rate {lr}, {precision}. At several "
    "times of each training {samples} samples are drawn with the averaged weights (Heun, {sampler_steps} steps) from "
    "the same noise. Copies are counted by every criterion that applies; quality is the Frechet distance to "
    "{reference} images that were not trained on, on features `{features}` (`pca`: the {components} first principal "
    "components of those images).",
    rule=RULE,
    differences="The paper trains large networks on 300 to 3,000 images for about 30 million draws and measures FID on "
    "Inception features and copies by DINOv2 similarity. Here images have {side} pixels a side, the paper's 32 or 64. "
    "The quick size has the paper's numbers of images, but grey ones, a small network without convolutions, under a "
    "million draws, no augmentation, no dropout, bfloat16 instead of float32 in the network, distances between pixels, "
    "and the variance-preserving form with prediction of the clean image, because in the paper's own form this network "
    "copies nothing in minutes (it is among the readings). Network, batch size, learning rate and steps were chosen by "
    "plain training at seed 0 alone, so that within minutes it copies a measurable share of its samples at both "
    "numbers of images; then the steps at 300 images were raised, from 600, where one Ambient training had not yet "
    "reached the quality at which plain training begins to copy, to as many passes over the images as at 1,000. The "
    "other readings have 300 images only.",
    caption="copies (NN ratio) against the Frechet distance over training time, mean over seeds; large dot: the end "
    "of training. Lower and further left is better. Readings in which nothing is copied have no panel.",
    sizes=_sizes(),
    run=run,
    judge=judgement,
    figure=figure,
)  # fmt: skip
