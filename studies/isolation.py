"""Study 3b: is it the low-noise timesteps that memorize? Suppress one third of the timesteps at equal gradient norm."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memfast.objective.weights import WEIGHTS
from memfast.training import read_log
from studies import data, figures
from studies.spread import Spread
from studies.study import Judgement, Result, Size, Study, Table
from studies.training import T, distances, generate, memorized_fraction, objective, train, workspace

PREDICTION = "sample"
NONE = "nothing"
THIRDS = {"low noise": (0, 333), "middle": (333, 667), "high noise": (667, T)}
HALVED = 0.5
SOME = 0.8

RULE = (
    "*holds* if suppressing the low-noise third leaves at most half of the copies and fewer than suppressing either "
    "other third (means over seeds); *holds in part* if it leaves at most 80 %; otherwise *not here*."
)


@dataclass(frozen=True)
class IsolationSize(Size):
    """How large the study is.

    Attributes:
        side: of the images, in pixels.
        images: in the training set.
        held_out: images that are not learned.
        model: the network.
        steps: of every training.
        lr: its learning rate.
        ema: decay of the averaged weights.
        samples: of each network.
        sampler_steps: of DDIM.
        left: the weight that suppressed timesteps keep; at 0 they would never be trained and could not be sampled.
        norm: the gradient's norm at every step of every training.
    """

    side: int
    images: int
    held_out: int
    model: dict[str, Any]
    steps: int
    lr: float
    ema: float
    samples: int
    sampler_steps: int
    left: float
    norm: float


def run(size: IsolationSize, seed: int) -> Result:
    """Train with nothing and with each third suppressed."""
    images, held_out = data.fashion(size.side)
    training, _ = data.subset(images, size.images, seed)
    held_out, _ = data.subset(held_out, size.held_out, seed)
    arms: dict[str, Result] = {}
    with workspace() as folder:
        for number, name in enumerate((NONE, *THIRDS)):
            weights = np.ones(T)
            if name in THIRDS:
                weights[slice(*THIRDS[name])] = size.left
            learned = objective(None, PREDICTION, loss_weight=WEIGHTS["custom"](weights.tolist()))
            # The threshold lies far below every norm, so every gradient is scaled to it: equal norms at every step.
            out = train(
                training, out=folder / str(number), model=size.model, objective=learned, steps=size.steps, seed=seed,
                lr=size.lr, ema=size.ema, grad_clip=size.norm, log_every=max(1, size.steps // 20),
            )  # fmt: skip
            samples = generate(out, size.samples, seed=seed, steps=size.sampler_steps)
            arms[name] = {
                "copies": memorized_fraction(samples, training),
                "sliced": float(distances(samples, held_out)["sliced"]),
                "least_norm": min(float(entry["grad_norm"]) for entry in read_log(out)),
            }
    return {"arms": arms}


def judge(runs: list[Result]) -> Judgement:
    """By the rule."""
    copies = {name: float(np.mean([run["arms"][name]["copies"] for run in runs])) for name in runs[0]["arms"]}
    left = copies["low noise"] / copies[NONE] if copies[NONE] > 0 else 1.0
    least = copies["low noise"] < min(copies["middle"], copies["high noise"])
    verdict = "holds" if left <= HALVED and least else "holds in part" if left <= SOME else "not here"
    told = ", ".join(f"{100 * copies[name]:.0f} % without {name}" for name in THIRDS)
    return Judgement(
        verdict,
        f"At equal gradient norm, uniform training copies {100 * copies[NONE]:.0f} %; suppressing a third of the "
        f"timesteps leaves {told}.",
        tables=[_table(runs)],
        headline=f"with clean-image prediction, suppressing the low-noise third takes copies from "
        f"{100 * copies[NONE]:.0f} % to {100 * copies['low noise']:.0f} %.",
    )


def figure(runs: list[Result], path: Path) -> None:
    """Copies and quality for each suppressed third."""
    drawing, axes = figures.axes(1, 2)
    names = list(runs[0]["arms"])
    for axis, key, scale, label in (
        (axes[0, 0], "copies", 100, "copies (%)"),
        (axes[0, 1], "sliced", 1, "sliced W2 to held-out images"),
    ):
        spreads = [Spread.of(scale * run["arms"][name][key] for run in runs) for name in names]
        axis.bar(range(len(names)), [s.mean for s in spreads], 0.6, color=figures.COLORS[: len(names)])
        axis.vlines(range(len(names)), [s.low for s in spreads], [s.high for s in spreads], color="black", lw=1)
        axis.set(xticks=range(len(names)), xticklabels=names, xlabel="suppressed", ylabel=label)
    figures.save(drawing, path)


def _table(runs: list[Result]) -> Table:
    rows = [
        (
            name,
            Spread.of(100 * run["arms"][name]["copies"] for run in runs).text(".1f"),
            Spread.of(run["arms"][name]["sliced"] for run in runs).text(".3f"),
            f"{min(run['arms'][name]['least_norm'] for run in runs):.2g}",
        )
        for name in runs[0]["arms"]
    ]
    header = ("suppressed", "copies (%)", "sliced W2 to held-out images", "least mean gradient norm before scaling")
    return Table("", header, rows)


SIZES = (
    IsolationSize(
        "quick", side=14, images=60, held_out=500, model={"kind": "mlp", "width": 256, "blocks": 3}, steps=1000,
        lr=2e-3, ema=0.99, samples=250, sampler_steps=25, left=0.05, norm=1e-3,
    ),
    IsolationSize(
        "full", side=28, images=1000, held_out=2000, model={"kind": "unet2d", "widths": [64, 128, 128], "layers": 2},
        steps=100_000, lr=2e-4, ema=0.9999, samples=5000, sampler_steps=100, left=0.05, norm=1e-4,
    ),
    IsolationSize(
        "tiny", side=7, images=6, held_out=50, model={"kind": "mlp", "width": 8, "blocks": 1}, steps=2, lr=2e-3,
        ema=0.5, samples=20, sampler_steps=2, left=0.05, norm=1e-6,
    ),
)  # fmt: skip

STUDY = Study(
    number=3,
    slug="isolation",
    title="Is it the low-noise timesteps that memorize?",
    claim="Learning at early (low-noise) timesteps is what memorizes, so learning less there copies less (causal "
    "check of the paper's reason: the learning contribution SNR(t) p(t) is greatest there).",
    source="Vu et al. 2026, arXiv 2601.21348.",
    setup="{images} Fashion-MNIST images of {side} x {side} pixels, uniform timesteps, {steps} steps. The loss of one "
    "third of the timesteps is multiplied by {left}; every gradient is then scaled to the norm {norm}, so that all "
    "trainings take steps of equal gradient norm. Copies are counted among {samples} samples.",
    rule=RULE,
    differences="The paper shows a correlation only. Prediction of the clean image with equal weights, which counts "
    "errors at low noise less than the paper's noise prediction does; such a network draws every pixel anew at its "
    "lowest levels, which favours this outcome (study 5 shows how much the form of prediction matters).",
    caption="copies (left) and distance to held-out images (right) with nothing and with each third of the timesteps "
    "suppressed; black lines: least to greatest over seeds.",
    sizes=SIZES,
    run=run,
    judge=judge,
    figure=figure,
)
