"""Study 5: at which noise levels a network holds its training set, and which levels make its samples copies."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.papers import data
from benchmarks.papers.study import Result, Size, Study
from benchmarks.papers.training import distances, generate, memorized_fraction, objective, to_network, train, workspace
from benchmarks.papers.where_judgement import RULE, figure, judge
from memfast import objective as objectives
from memfast import schedules
from memfast.models import Run, load_run
from memfast.objective import Ambient
from memfast.sampling import ddim
from memfast.timesteps import density_from_dict

PREDICTION = "sample"
BANDS = ("low", "middle", "high")


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: in results and tables.
        timesteps: a density's dictionary, or None for uniform.
        ambient: sigma_n, or None.
        general: learn from many other images instead of the few.
    """

    name: str
    timesteps: dict[str, Any] | None = None
    ambient: float | None = None
    general: bool = False

    def objective(self) -> objectives.DenoisingObjective:
        """What it learns."""
        density = None if self.timesteps is None else density_from_dict(self.timesteps)
        return objective(density, PREDICTION, ambient=None if self.ambient is None else Ambient(sigma=self.ambient))


@dataclass(frozen=True)
class WhereSize(Size):
    """How large the study is.

    Attributes:
        side: of the images, in pixels.
        images: in the training set.
        many: in the general network's training set.
        held_out: images that no network learns from.
        model: the network.
        steps: of every training.
        lr: its learning rate.
        ema: decay of the averaged weights, which are sampled from.
        samples: per measurement.
        sampler_steps: of DDIM.
        levels: noise levels of the curves.
        edges: where the middle band begins and ends, in sigma / alpha: thirds of the schedule's range of log sigma.
        arms: the trainings; the first and the general one are swapped.
    """

    side: int
    images: int
    many: int
    held_out: int
    model: dict[str, Any]
    steps: int
    lr: float
    ema: float
    samples: int
    sampler_steps: int
    levels: int
    edges: tuple[float, float]
    arms: tuple[Arm, ...]


class Swapped(nn.Module):
    """One network inside a band of noise levels, another elsewhere."""

    def __init__(self, inside: nn.Module, outside: nn.Module, rows: range) -> None:
        super().__init__()
        self.inside, self.outside, self.rows = inside, outside, rows

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """The prediction of whichever network has this level; a batch has one level, as samplers ask."""
        chosen = self.inside if int(timesteps[0]) in self.rows else self.outside
        return chosen(x, timesteps, labels)


def run(size: WhereSize, seed: int) -> Result:
    """Train every arm, measure its curves and copies, and swap denoisers between the first and the general one."""
    images, held_out = data.fashion(size.side)
    training, others = data.subset(images, size.images, seed)
    many, _ = data.subset(others, size.many, seed)
    held_out, _ = data.subset(held_out, size.held_out, seed)
    arms: dict[str, Result] = {}
    runs: dict[str, Run] = {}
    with workspace() as folder:
        for arm in size.arms:
            out = train(
                many if arm.general else training, out=folder / arm.name, model=size.model, objective=arm.objective(),
                steps=size.steps, seed=seed, lr=size.lr, ema=size.ema,
            )  # fmt: skip
            samples = generate(out, size.samples, seed=seed, steps=size.sampler_steps)
            runs[arm.name] = load_run(out)
            arms[arm.name] = {
                "copies": memorized_fraction(samples, training),
                "sliced": float(distances(samples, held_out)["sliced"]),
                **_curves(runs[arm.name].model, arm.objective(), training, held_out, size.levels, seed),
            }
    few = runs[size.arms[0].name]
    general = next(runs[arm.name] for arm in size.arms if arm.general)
    swaps = {
        name: {
            "general inside": _swapped(size, general, few, rows, training, seed),
            "memorizer inside": _swapped(size, few, general, rows, training, seed),
        }
        for name, rows in zip(BANDS, bands(size.edges), strict=True)
    }
    names = {"memorizer": size.arms[0].name, "general": next(arm.name for arm in size.arms if arm.general)}
    return {"arms": arms, "swaps": swaps, "edges": list(size.edges), **names}


def bands(edges: tuple[float, float]) -> tuple[range, range, range]:
    """The schedule's rows below, between and above two levels of sigma / alpha."""
    schedule = schedules.linear()
    first, second = (int(row) for row in np.searchsorted(schedule.sigma / schedule.alpha, edges))
    return range(first), range(first, second), range(second, len(schedule))


def _curves(
    model: nn.Module, learned: Any, training: np.ndarray, held_out: np.ndarray, levels: int, seed: int
) -> Result:
    here, outside = to_network(training), to_network(held_out)
    device = next(model.parameters()).device
    model.to("cpu")
    gap = objectives.ideal_gap(model, here, learned, levels=levels, seed=seed)
    loss = objectives.denoising_loss_curve(model, here, outside, learned, levels=levels, seed=seed)
    model.to(device)
    return {
        "sigma": gap.sigma, "gap": gap.gap, "ideal_loss": gap.ideal_loss, "max_weight": gap.max_weight,
        "train": loss.train, "held_out": loss.held_out,
    }  # fmt: skip


def _swapped(size: WhereSize, inside: Run, outside: Run, rows: range, training: np.ndarray, seed: int) -> float:
    values = ddim(
        Swapped(inside.model, outside.model, rows), inside.schedule, shape=inside.item_shape, count=size.samples,
        steps=size.sampler_steps, seed=seed, prediction_type=PREDICTION, clip=inside.value_range,
    )  # fmt: skip
    return memorized_fraction(inside.to_data(values), training)


def _interval(mean: float, width: float) -> dict[str, Any]:
    low, high = mean - width / 2, mean + width / 2
    return {"name": "confidence_interval", "low": low, "high": high, "uniform_floor": 0.1}


ARMS = (
    Arm("uniform"),
    Arm("interval at low noise", _interval(200, 300)),
    Arm("interval at high noise", _interval(800, 300)),
    Arm("ambient", ambient=0.4),
    Arm("many images", general=True),
)
EDGES = (0.25, 6.3)

SIZES = (
    WhereSize(
        "quick", side=14, images=60, many=10_000, held_out=500, model={"kind": "mlp", "width": 256, "blocks": 3},
        steps=2000, lr=2e-3, ema=0.995, samples=250, sampler_steps=50, levels=18, edges=EDGES, arms=ARMS,
    ),
    WhereSize(
        "full", side=28, images=1000, many=50_000, held_out=2000,
        model={"kind": "unet2d", "widths": [64, 128, 128], "layers": 2}, steps=200_000, lr=2e-4, ema=0.9999,
        samples=5000, sampler_steps=100, levels=18, edges=EDGES, arms=ARMS,
    ),
    WhereSize(
        "tiny", side=7, images=6, many=20, held_out=50, model={"kind": "mlp", "width": 8, "blocks": 1}, steps=3,
        lr=2e-3, ema=0.5, samples=60, sampler_steps=3, levels=3, edges=EDGES, arms=ARMS,
    ),
)  # fmt: skip

STUDY = Study(
    number=5,
    slug="where",
    title="At which noise levels memorization sits",
    claim="Memorization is made at medium noise levels: there small data sets endanger, while both small and large "
    "noise resist; swapping only the denoisers of the middle levels between a memorizing and a generalizing network "
    "moves the share of memorized samples between 92.2 % and 0 % (Dodson et al.). Two other papers look elsewhere: "
    "learning more at high noise is said to reduce memorization (Vu et al.), and noisy targets at high noise to "
    "remove it (Shah et al.).",
    source="Dodson et al. 2026, arXiv 2602.17846 (abstract and a secondary source for the 92.2 %); Vu et al. 2026, "
    "arXiv 2601.21348; Shah et al. 2025, arXiv 2502.21278.",
    setup="{images} Fashion-MNIST images of {side} x {side} pixels; a network predicts the clean image, {steps} steps "
    "each: uniformly, with an interval at low noise (mean 200, width 300, a tenth uniform), at high noise (mean 800), "
    "with Ambient targets (sigma_n 0.4), and uniformly on {many} other images. At each of {levels} noise levels: the "
    "error on training and held-out images, and the distance to the ideal memorizer, the denoiser that knows the "
    "{images} images by heart. Then {samples} samples are drawn with the denoisers of one band of levels taken from "
    "the other network; the bands are thirds of the schedule's range of log sigma, with the middle from {edges[0]} to "
    "{edges[1]} (noise to signal).",
    rule=RULE,
    differences="Dodson's definition of the medium levels was not available; thirds of the log range are ours. Small "
    "networks without convolutions, small images, prediction of the clean image (a small network that predicts noise "
    "does not memorize within minutes).",
    caption="left, how much worse held-out images are denoised than training images; middle, distance of each network "
    "to the ideal memorizer (0: it knows its training set by heart); right, the share of the copies that goes when "
    "the general network replaces one band, and that comes when the memorizing network is put into one band of the "
    "general one. Grey: the middle band.",
    sizes=SIZES,
    run=run,
    judge=judge,
    figure=figure,
)
