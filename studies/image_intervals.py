"""Study 2: paper 1's sweep of mean and width on flowers and on Pokemon artwork."""

from dataclasses import dataclass
from pathlib import Path

from studies import data, figures
from studies.interval_grid import GridSize, Reading, of_reading, run_grid
from studies.interval_judgement import RULE, judge, panels
from studies.spread import Spread
from studies.study import VERDICTS, Judgement, Result, Study, Table

Values = tuple[float, ...]

TOLD = {
    "uniform tails": "the default: mass outside 1..T is spread over all timesteps",
    "truncated": "tails cut off: an ordinary truncated normal",
    "from scratch": "trained from random weights, not fine-tuned",
    "noise loss": "the plain squared error of the noise, from uniform training on",
}
# From the schedule's greatest SNR on, 9,999, the Min-SNR weight of a clean image's error is that of its noise.
NOISE_LOSS = 1e4
SETS = {"flowers": "Flowers-102", "pokemon": "Pokemon artwork"}


@dataclass(frozen=True)
class ImageSize(GridSize):
    """The sweep's size, and that of the images.

    Attributes:
        side: in pixels.
        images: training images of each data set, drawn by the seed.
        held_out: images of each data set that are held out, at most; drawn from the official test set, if any.
        network: in words, for the page.
        choice: why this size, likewise.
    """

    side: int = 64
    images: int = 500
    held_out: int = 6000
    network: str = ""
    choice: str = ""


def run(size: ImageSize, seed: int) -> Result:
    """The sweeps on both data sets."""
    train, test = data.flowers(size.side)
    flowers, _ = data.subset(train, min(size.images, len(train)), seed)
    pokemon, others = data.subset(data.pokemon(size.side), size.images, seed)
    sets = {"flowers": (flowers, test), "pokemon": (pokemon, others)}
    return {
        name: run_grid(size, training, data.subset(rest, min(size.held_out, len(rest)), seed)[0], seed)
        for name, (training, rest) in sets.items()
    }


def judgement(runs: list[Result]) -> Judgement:
    """Holds if it holds on both data sets, in part if it holds in part on one, by the rule of the sweeps."""
    parts = {name: judge([run[name] for run in runs], _told(runs), told) for name, told in SETS.items()}
    ranks = [VERDICTS.index(part.verdict) for part in parts.values()]
    verdict = VERDICTS[0] if max(ranks) == 0 else VERDICTS[1] if min(ranks) < 2 else VERDICTS[2]
    tables = [
        Table(f"{SETS[name]}. {table.title}", table.header, table.rows)
        for name, part in parts.items()
        for table in part.tables
    ]
    readings = [f"{SETS[name]}, {text}" for name, part in parts.items() for text in part.readings]
    readings += [_pretrained(runs, name, reading) for name in SETS for reading in runs[0][name]["starts"]]
    headline = "; ".join(part.headline.rstrip(".") for part in parts.values()) + "."
    return Judgement(verdict, " ".join(part.summary for part in parts.values()), tables, readings, headline)


def figure(runs: list[Result], path: Path) -> None:
    """One row of panels a data set."""
    drawing, axes = figures.axes(len(SETS), 3)
    for row, (name, told) in zip(axes, SETS.items(), strict=True):
        panels(row, [run[name] for run in runs], _told(runs))
        row[1].set_title(told)
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figures.save(drawing, path)


def _told(runs: list[Result]) -> dict[str, str]:
    """The readings of this size, in words."""
    return {name: told for name, told in TOLD.items() if of_reading(runs[0]["flowers"], name)}


def _pretrained(runs: list[Result], name: str, reading: str) -> str:
    """What a reading's own pretrained network copies, in a sentence."""
    starts = [run[name]["starts"][reading] for run in runs]
    copies, closer = (Spread.of(start[key] for start in starts).text(".0%") for key in ("copies", "closer"))
    return (
        f"{SETS[name]}, `{reading}` starts from a pretrained network of its own: {copies} of its samples are copies, "
        f"and {closer} is the chance of being closer to the training set than a held-out image."
    )


def _readings(means: Values, widths: Values, other_means: Values, other_widths: Values) -> tuple[Reading, ...]:
    narrow = other_widths[:1]
    return (
        Reading("uniform tails", TOLD["uniform tails"], means, widths),
        Reading("truncated", TOLD["truncated"], other_means, other_widths, tails="renormalize"),
        Reading("from scratch", TOLD["from scratch"], other_means, narrow, from_scratch=True),
    )


def _with_noise_loss(readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
    """For sizes whose first reading has another loss."""
    means, widths = readings[-1].means, readings[-1].widths
    return (*readings, Reading("noise loss", TOLD["noise loss"], means, widths, min_snr=NOISE_LOSS))


SIZES = (
    ImageSize(
        "quick", model={"kind": "mlp", "width": 256, "blocks": 3}, pretrain_steps=1500, pretrain_lr=1e-3, epochs=30,
        lr=1e-4, batch_size=16, samples=200, sampler_steps=20, scratch_steps=600, side=32, images=64,
        held_out=300, prediction_type="sample", min_snr=5.0,
        network="A multilayer perceptron that predicts the clean image, with the loss weight Min-SNR 5 (the paper's "
        "squared error of the noise, except that the least noisy 130 of the 1,000 timesteps count less),",
        choice="The quick size has few images and a perceptron, pretrained on the same images: a U-Net takes about ten "
        "times as long a step on one core, and made no copies in as many minutes even at 16 x 16 pixels. Network, "
        "prediction, loss and steps were chosen by what the uniformly pretrained network copies at seed 0, before any "
        "sweep at this size was run. With the plain squared error of the noise it made hardly any "
        "near-exact copies, so the paper's own loss is a reading here (`noise loss`).",
        readings=_with_noise_loss(_readings((100, 400, 700, 1000), (100, 300, 700), (100, 550, 1000), (100, 300))),
    ),
    ImageSize(
        "full", model={"kind": "unet2d", "widths": [128, 256, 256, 256], "layers": 2}, pretrain_steps=200_000,
        pretrain_lr=2e-4, epochs=30, lr=1e-4, batch_size=64, samples=2000, sampler_steps=100, scratch_steps=200_000,
        side=64, images=800, network="A U-Net that predicts the noise", choice="The network was pretrained on the "
        "same images.",
        readings=_readings(
            (100, 250, 400, 550, 700, 850, 1000), (100, 300, 500, 700), (100, 550, 1000), (100, 300, 700)
        ),
    ),
    ImageSize(
        "tiny", model={"kind": "mlp", "width": 8, "blocks": 1}, pretrain_steps=2, pretrain_lr=1e-3, epochs=1, lr=1e-4,
        batch_size=60, samples=60, sampler_steps=2, scratch_steps=2, side=8, images=60, prediction_type="sample",
        min_snr=5.0, network="A perceptron", choice="This size tests the code.",
        readings=_with_noise_loss(_readings((100, 1000), (100, 500), (100, 1000), (100,))),
    ),
)  # fmt: skip

STUDY = Study(
    number=2,
    slug="image_intervals",
    title="Later timesteps on images",
    claim="The same on images (Flowers-102 and Pokemon): fine-tuning on later timesteps reduces the distances to the "
    "training set, with correlations of the mean of -0.73 to -0.83.",
    source="Vu et al. 2026, arXiv 2601.21348. Its numbers are known here from summaries of the paper.",
    setup="{images} images each of Flowers-102 and of Pokemon artwork at {side} x {side} pixels. {network} learns "
    "uniformly for {pretrain_steps} steps, then {epochs} epochs at learning rate {lr} with timesteps from an interval "
    "of each mean and width. {samples} samples of each network ({sampler_steps} DDIM steps) are measured as in study "
    "1, on pixels from 0 to 1. At most {held_out} of the test images of Flowers-102 and of the other Pokemon images "
    "are held out.",
    rule=RULE + " Over both data sets: *holds* if on both, *holds in part* if at least in part on one.",
    differences="The paper gives neither image size, number of images, split nor network. {choice} Training from "
    "random weights takes {scratch_steps} steps.",
    caption="as in study 1: the paper's two distances (lower is what it calls less memorization), and the share of "
    "samples that are copies. Lines, bands and colours as there.",
    sizes=SIZES,
    run=run,
    judge=judgement,
    figure=figure,
)
