"""Study 2: paper 1's sweep of mean and width on flowers and on Pokemon artwork."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.papers import data, figures
from benchmarks.papers.interval_grid import GridSize, Reading, run_grid
from benchmarks.papers.interval_judgement import RULE, judge, panels
from benchmarks.papers.study import VERDICTS, Judgement, Result, Study, Table

Values = tuple[float, ...]

TOLD = {
    "uniform tails": "the default: mass outside 1..T is spread over all timesteps",
    "truncated": "tails cut off: an ordinary truncated normal",
}
SETS = {"flowers": "Flowers-102", "pokemon": "Pokemon artwork"}


@dataclass(frozen=True)
class ImageSize(GridSize):
    """The sweep's size, and that of the images.

    Attributes:
        side: in pixels.
        images: training images of each data set, drawn by the seed; the rest is held out.
    """

    side: int = 64
    images: int = 500


def run(size: ImageSize, seed: int) -> Result:
    """The sweeps on both data sets."""
    train, test = data.flowers(size.side)
    flowers, _ = data.subset(train, min(size.images, len(train)), seed)
    pokemon, others = data.subset(data.pokemon(size.side), size.images, seed)
    return {"flowers": run_grid(size, flowers, test, seed), "pokemon": run_grid(size, pokemon, others, seed)}


def judgement(runs: list[Result]) -> Judgement:
    """Holds if it holds on both data sets, in part if it holds in part on one, by the rule of the sweeps."""
    parts = {name: judge([run[name] for run in runs], TOLD, told) for name, told in SETS.items()}
    ranks = [VERDICTS.index(part.verdict) for part in parts.values()]
    verdict = VERDICTS[0] if max(ranks) == 0 else VERDICTS[1] if min(ranks) < 2 else VERDICTS[2]
    tables = [
        Table(f"{SETS[name]}. {table.title}", table.header, table.rows)
        for name, part in parts.items()
        for table in part.tables
    ]
    readings = [f"{SETS[name]}, {text}" for name, part in parts.items() for text in part.readings]
    headline = "; ".join(part.headline.rstrip(".") for part in parts.values()) + "."
    return Judgement(verdict, " ".join(part.summary for part in parts.values()), tables, readings, headline)


def figure(runs: list[Result], path: Path) -> None:
    """One row of panels a data set."""
    drawing, axes = figures.axes(len(SETS), 3)
    for row, (name, told) in zip(axes, SETS.items(), strict=True):
        panels(row, [run[name] for run in runs], TOLD)
        row[1].set_title(told)
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figures.save(drawing, path)


def _readings(means: Values, widths: Values, other_widths: Values) -> tuple[Reading, ...]:
    return (
        Reading("uniform tails", TOLD["uniform tails"], means, widths),
        Reading("truncated", TOLD["truncated"], means, other_widths, tails="renormalize"),
    )


SIZES = (
    ImageSize(
        "quick", model={"kind": "unet2d", "widths": [16, 24], "attention": [False, False]}, pretrain_steps=700,
        pretrain_lr=2e-3, epochs=30, lr=1e-4, batch_size=16, samples=100, sampler_steps=20, scratch_steps=0, side=16,
        images=96,
        readings=_readings((100, 550, 1000), (100, 500), (100,)),
    ),
    ImageSize(
        "full", model={"kind": "unet2d", "widths": [128, 256, 256, 256], "layers": 2}, pretrain_steps=200_000,
        pretrain_lr=2e-4, epochs=30, lr=1e-4, batch_size=64, samples=2000, sampler_steps=100, scratch_steps=0, side=64,
        images=800, readings=_readings((100, 250, 400, 550, 700, 850, 1000), (100, 300, 500, 700), (100, 300, 700)),
    ),
    ImageSize(
        "tiny", model={"kind": "mlp", "width": 8, "blocks": 1}, pretrain_steps=2, pretrain_lr=1e-3, epochs=1, lr=1e-4,
        batch_size=60, samples=60, sampler_steps=2, scratch_steps=0, side=8, images=60,
        readings=_readings((100, 1000), (100, 500), (100,)),
    ),
)  # fmt: skip

STUDY = Study(
    number=2,
    slug="image_intervals",
    title="Later timesteps on images",
    claim="The same on images (Flowers-102 and Pokemon): fine-tuning on later timesteps reduces the distances to the "
    "training set, with correlations of the mean of -0.73 to -0.83.",
    source="Vu et al. 2026, arXiv 2601.21348. Its numbers are known here from summaries of the paper.",
    setup="{images} images each of Flowers-102 and of Pokemon artwork at {side} x {side} pixels. A small U-Net learns "
    "noise prediction uniformly for {pretrain_steps} steps, then {epochs} epochs at learning rate {lr} with timesteps "
    "from an interval of each mean and width. {samples} samples of each network ({sampler_steps} DDIM steps) are "
    "measured as in study 1, on pixels.",
    rule=RULE + " Over both data sets: *holds* if on both, *holds in part* if at least in part on one.",
    differences="The paper gives neither image size, number of images, split nor network. The quick size has small "
    "images, few of them, and a network that was pretrained briefly on the same images.",
    caption="as in study 1: the paper's two distances (lower is what it calls less memorization), and how often a "
    "sample is closer to the training set than a held-out image is.",
    sizes=SIZES,
    run=run,
    judge=judgement,
    figure=figure,
)
