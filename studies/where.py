"""Study 5: at which noise levels a network holds its training set, and which levels make its samples copies."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from memfast import objective as objectives
from memfast import schedules
from memfast.models import Run, load_run
from memfast.objective import Ambient
from memfast.sampling import ddim
from memfast.timesteps import density_from_dict
from studies import data
from studies.study import Result, Size, Study
from studies.training import distances, generate, memorized_fraction, objective, to_network, train, workspace
from studies.where_judgement import RULE, figure, judge

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

    def objective(self, prediction_type: str) -> objectives.DenoisingObjective:
        """What it learns."""
        density = None if self.timesteps is None else density_from_dict(self.timesteps)
        ambient = None if self.ambient is None else Ambient(sigma=self.ambient)
        return objective(density, prediction_type, ambient=ambient)


@dataclass(frozen=True)
class Form:
    """What networks predict, and for how long on how many images they then memorize.

    Attributes:
        name: in tables.
        prediction_type: of the objective.
        images: in the training set.
        steps: of every training.
        arms: the trainings; the first and the general one are swapped.
    """

    name: str
    prediction_type: str
    images: int
    steps: int
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class WhereSize(Size):
    """How large the study is.

    Attributes:
        side: of the images, in pixels.
        many: images in the general network's training set.
        held_out: images that no network learns from.
        model: the network.
        lr: its learning rate.
        ema: decay of the averaged weights, which are sampled from.
        samples: per measurement.
        sampler_steps: of DDIM.
        levels: noise levels of the curves.
        edges: where the middle band begins and ends, in sigma / alpha: thirds of the schedule's range of log sigma.
        forms: what is predicted; the curves are those of the first.
    """

    side: int
    many: int
    held_out: int
    model: dict[str, Any]
    lr: float
    ema: float
    samples: int
    sampler_steps: int
    levels: int
    edges: tuple[float, float]
    forms: tuple[Form, ...]


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
    """Train every arm of every form, measure curves and copies, and swap denoisers within each form."""
    return {
        "forms": {form.name: _run_form(size, form, seed, curves=form is size.forms[0]) for form in size.forms},
        "edges": list(size.edges),
    }


def bands(edges: tuple[float, float]) -> tuple[range, range, range]:
    """The schedule's rows below, between and above two levels of sigma / alpha."""
    schedule = schedules.linear()
    first, second = (int(row) for row in np.searchsorted(schedule.sigma / schedule.alpha, edges))
    return range(first), range(first, second), range(second, len(schedule))


def _run_form(size: WhereSize, form: Form, seed: int, *, curves: bool) -> Result:
    images, held_out = data.fashion(size.side)
    training, others = data.subset(images, form.images, seed)
    many, _ = data.subset(others, size.many, seed)
    held_out, _ = data.subset(held_out, size.held_out, seed)
    arms: dict[str, Result] = {}
    runs: dict[str, Run] = {}
    with workspace() as folder:
        for arm in form.arms:
            learned = arm.objective(form.prediction_type)
            out = train(
                many if arm.general else training, out=folder / arm.name, model=size.model, objective=learned,
                steps=form.steps, seed=seed, lr=size.lr, ema=size.ema,
            )  # fmt: skip
            samples = generate(out, size.samples, seed=seed, steps=size.sampler_steps)
            runs[arm.name] = load_run(out)
            arms[arm.name] = {
                "copies": memorized_fraction(samples, training),
                "sliced": float(distances(samples, held_out)["sliced"]),
                **(_curves(runs[arm.name].model, learned, training, held_out, size.levels, seed) if curves else {}),
            }
    memorizer, general = form.arms[0].name, next(arm.name for arm in form.arms if arm.general)
    swaps = {
        band: {
            "general inside": _swapped(size, runs[general], runs[memorizer], rows, training, seed),
            "memorizer inside": _swapped(size, runs[memorizer], runs[general], rows, training, seed),
        }
        for band, rows in zip(BANDS, bands(size.edges), strict=True)
    }
    return {"arms": arms, "swaps": swaps, "memorizer": memorizer, "general": general}


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
        steps=size.sampler_steps, seed=seed, prediction_type=inside.prediction_type, clip=inside.value_range,
    )  # fmt: skip
    return memorized_fraction(inside.to_data(values), training)


def _interval(mean: float, width: float) -> dict[str, Any]:
    low, high = mean - width / 2, mean + width / 2
    return {"name": "confidence_interval", "low": low, "high": high, "uniform_floor": 0.1}


PLAIN = (Arm("uniform"), Arm("many images", general=True))
ARMS = (
    Arm("uniform"),
    Arm("interval at low noise", _interval(200, 300)),
    Arm("interval at high noise", _interval(800, 300)),
    Arm("ambient", ambient=0.4),
    Arm("many images", general=True),
)
IMAGE, PRECONDITIONED = "clean image", "preconditioned (EDM)"
EDGES = (0.25, 6.3)


def _forms(images: tuple[int, int], steps: tuple[int, int]) -> tuple[Form, ...]:
    return (
        Form(IMAGE, "sample", images[0], steps[0], ARMS),
        Form(PRECONDITIONED, "edm", images[1], steps[1], PLAIN),
    )


SIZES = (
    WhereSize(
        "quick", side=14, many=10_000, held_out=500, model={"kind": "mlp", "width": 256, "blocks": 3}, lr=2e-3,
        ema=0.99, samples=250, sampler_steps=50, levels=18, edges=EDGES, forms=_forms((40, 20), (1500, 3000)),
    ),
    WhereSize(
        "full", side=28, many=50_000, held_out=2000, model={"kind": "unet2d", "widths": [64, 128, 128], "layers": 2},
        lr=2e-4, ema=0.9999, samples=5000, sampler_steps=100, levels=18, edges=EDGES,
        forms=_forms((1000, 1000), (200_000, 400_000)),
    ),
    WhereSize(
        "tiny", side=7, many=20, held_out=50, model={"kind": "mlp", "width": 8, "blocks": 1}, lr=2e-3, ema=0.5,
        samples=60, sampler_steps=3, levels=3, edges=EDGES, forms=_forms((6, 5), (3, 2)),
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
    setup="{forms[0][images]} Fashion-MNIST images of {side} x {side} pixels; a network predicts the clean image, "
    "{forms[0][steps]} steps each: uniformly, with an interval at low noise (mean 200, width 300, a tenth uniform), "
    "at high noise (mean 800), with Ambient targets (from noise to signal 0.44 on), and uniformly on {many} other "
    "images. At each of {levels} noise levels: the error on training and held-out images, and the distance to the "
    "ideal memorizer, the denoiser that knows the training images by heart. Then {samples} samples are drawn with the "
    "denoisers of one band of levels taken from the other network; the bands are thirds of the schedule's range of "
    "log sigma, the middle one from {edges[0]} to {edges[1]} (noise to signal). The swap is repeated with EDM's "
    "preconditioning, where the network's input is handed through at low noise ({forms[1][images]} images, "
    "{forms[1][steps]} steps, because this form memorizes later).",
    rule=RULE,
    differences="Dodson's definition of the medium levels was not available; thirds of the log range are ours. Small "
    "networks without convolutions and small images. A network that predicts the clean image draws every pixel anew "
    "at the last step, so its lowest levels decide whether a sample is exact enough to count as a copy; a "
    "preconditioned one does not.",
    caption="left, how much worse held-out images are denoised than training images; middle, distance of each network "
    "to the ideal memorizer (0: it knows its training set by heart); right, the share of the copies that goes when "
    "the general network replaces one band, and that comes when the memorizing network is put into one band of the "
    "general one. Grey: the middle band.",
    sizes=SIZES,
    run=run,
    judge=judge,
    figure=figure,
)
