"""Study 3c: after how many steps does memorization begin, and how does that grow with the number of images?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from memfast.training import Monitor
from studies import data, figures
from studies.spread import Spread
from studies.study import Judgement, Result, Size, Study, Table
from studies.training import objective, train, workspace

PREDICTION = "sample"
CLAIMED = 300
EXPONENT = (0.7, 1.3)
SOME_EXPONENT = 0.3

RULE = (
    f"*holds* if the onset grows as n to a power between {EXPONENT[0]} and {EXPONENT[1]} and the steps per image are "
    f"within a factor of two of {CLAIMED}; *holds in part* if the power lies there whatever the factor, or above "
    f"{SOME_EXPONENT}; otherwise *not here* (means over seeds)."
)


@dataclass(frozen=True)
class OnsetSize(Size):
    """How large the study is.

    Attributes:
        side: of the images, in pixels.
        counts: numbers of training images.
        model: the network.
        lr: its learning rate.
        ema: decay of the averaged weights.
        onset: memorization has begun when this share of the samples are copies.
        samples: of each audit.
        sampler_steps: of DDIM.
        audits_per_image: an audit every this many steps times the number of images.
        steps_per_image: the most steps, likewise.
    """

    side: int
    counts: tuple[int, ...]
    model: dict[str, Any]
    lr: float
    ema: float
    onset: float
    samples: int
    sampler_steps: int
    audits_per_image: float
    steps_per_image: int


def run(size: OnsetSize, seed: int) -> Result:
    """Train on each number of images until memorization begins, auditing on the way."""
    images, held_out = data.fashion(size.side)
    curves = {}
    with workspace() as folder:
        for count in size.counts:
            training, _ = data.subset(images, count, seed)
            monitor = Monitor(
                every=max(1, round(size.audits_per_image * count)), samples=size.samples, steps=size.sampler_steps,
                held_out=held_out[: size.samples], stop_when_memorized=size.onset, seed=seed,
            )  # fmt: skip
            train(
                training, out=folder / str(count), model=size.model, objective=objective(None, PREDICTION),
                steps=size.steps_per_image * count, seed=seed, lr=size.lr, ema=size.ema, hooks=[monitor],
            )  # fmt: skip
            curves[str(count)] = {
                "steps": [entry["step"] for entry in monitor.curve],
                "memorized": [entry["memorized"] for entry in monitor.curve],
                "onset": onset(monitor.curve, size.onset),
            }
    return {"curves": curves, "onset_share": size.onset}


def onset(curve: list[dict[str, Any]], share: float) -> float | None:
    """The step at which the memorized fraction passes ``share``, between two audits on a straight line; None: never.

    >>> onset([{"step": 10, "memorized": 0.0}, {"step": 20, "memorized": 0.1}], 0.05)
    15.0
    """
    before_step, before = 0.0, 0.0
    for entry in curve:
        if entry["memorized"] > share:
            part = (share - before) / (entry["memorized"] - before)
            return before_step + part * (entry["step"] - before_step)
        before_step, before = float(entry["step"]), entry["memorized"]
    return None


def exponent(run: Result) -> float:
    """The power of n with which the onset grows, by a straight line through the logarithms; 0 if fewer than two onsets
    were reached."""
    reached = [(int(count), curve["onset"]) for count, curve in run["curves"].items() if curve["onset"]]
    if len(reached) < 2:
        return 0.0
    counts, steps = np.log(np.array(reached, dtype=np.float64)).T
    return float(stats.linregress(counts, steps).slope)


def per_image(run: Result) -> float:
    """The geometric mean of onset / n over the numbers of images whose onset was reached; 0 if none."""
    reached = [curve["onset"] / int(count) for count, curve in run["curves"].items() if curve["onset"]]
    return float(np.exp(np.mean(np.log(reached)))) if reached else 0.0


def judge(runs: list[Result]) -> Judgement:
    """By the rule."""
    power, factor = Spread.of(exponent(run) for run in runs), Spread.of(per_image(run) for run in runs)
    linear = EXPONENT[0] <= power.mean <= EXPONENT[1]
    near = CLAIMED / 2 <= factor.mean <= 2 * CLAIMED
    verdict = "holds" if linear and near else "holds in part" if linear or power.mean > SOME_EXPONENT else "not here"
    return Judgement(
        verdict,
        f"Memorization begins after a number of steps that grows as n to the power {power.text('.2f')} (claimed: 1), "
        f"with {factor.text('.1f')} steps per image (claimed: about {CLAIMED}){_growth(runs)}.",
        tables=[_table(runs)],
        headline=f"memorization begins after {factor.mean:.1f} steps per image (claimed: about {CLAIMED}), as n to the "
        f"power {power.mean:.2f} (claimed: 1).",
    )


def _growth(runs: list[Result]) -> str:
    """Steps per image at the least and at the greatest number of images, if both were reached."""
    ends = [list(runs[0]["curves"])[place] for place in (0, -1)]
    onsets = [[run["curves"][count]["onset"] for run in runs] for count in ends]
    if not all(onset for values in onsets for onset in values):
        return ""
    few, many = (Spread.of(values).mean / int(count) for values, count in zip(onsets, ends, strict=True))
    return f", from {few:.1f} at n = {ends[0]} to {many:.1f} at n = {ends[1]}"


def figure(runs: list[Result], path: Path) -> None:
    """Onset against n, and the memorized fraction against steps per image."""
    drawing, axes = figures.axes(1, 2, inches=(3.6, 2.7))
    counts = [int(count) for count in runs[0]["curves"]]
    for run in runs:
        reached = [
            (count, run["curves"][str(count)]["onset"]) for count in counts if run["curves"][str(count)]["onset"]
        ]
        if reached:
            axes[0, 0].plot(*zip(*reached, strict=True), "o-", ms=3, color=figures.COLORS[0], alpha=0.7)
    axes[0, 0].plot(counts, [CLAIMED * count for count in counts], "k:", lw=1, label=f"{CLAIMED} n")
    axes[0, 0].set(xscale="log", yscale="log", xlabel="training images n", ylabel="steps until copies begin")
    axes[0, 0].set_xticks(counts, labels=counts)
    axes[0, 0].minorticks_off()
    axes[0, 0].legend()
    for color, count in zip(figures.COLORS, counts, strict=False):
        for run in runs:
            curve = run["curves"][str(count)]
            steps = np.array(curve["steps"]) / count
            label = f"n = {count}" if run is runs[0] else None
            axes[0, 1].plot(steps, 100 * np.array(curve["memorized"]), "-", color=color, alpha=0.8, label=label)
    axes[0, 1].axhline(100 * runs[0]["onset_share"], color="black", lw=0.8, ls=":")
    axes[0, 1].set(xlabel="steps / n", ylabel="copies (%)")
    axes[0, 1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figures.save(drawing, path)


def _table(runs: list[Result]) -> Table:
    rows = []
    for count in runs[0]["curves"]:
        reached = [run["curves"][count]["onset"] for run in runs if run["curves"][count]["onset"]]
        cells = ("not reached", "") if not reached else (
            Spread.of(reached).text(".0f"), Spread.of(step / int(count) for step in reached).text(".1f"),
        )  # fmt: skip
        rows.append((count, f"{len(reached)} of {len(runs)}", *cells))
    return Table("", ("images n", "seeds that reached it", "steps until copies begin", "steps / n"), rows)


SIZES = (
    OnsetSize(
        "quick", side=14, counts=(20, 40, 80, 160, 320), model={"kind": "mlp", "width": 256, "blocks": 3}, lr=2e-3,
        ema=0.99, onset=0.05, samples=100, sampler_steps=15, audits_per_image=1.5, steps_per_image=25,
    ),
    OnsetSize(
        "full", side=28, counts=(128, 256, 512, 1024, 2048),
        model={"kind": "unet2d", "widths": [32, 64, 128], "layers": 2}, lr=2e-4, ema=0.999, onset=0.05, samples=1000,
        sampler_steps=50, audits_per_image=10, steps_per_image=600,
    ),
    OnsetSize(
        "tiny", side=7, counts=(3, 6), model={"kind": "mlp", "width": 8, "blocks": 1}, lr=2e-3, ema=0.5, onset=0.05,
        samples=10, sampler_steps=2, audits_per_image=1, steps_per_image=1,
    ),
)  # fmt: skip

STUDY = Study(
    number=3,
    slug="onset",
    title="When memorization begins, and how that grows with the data",
    claim="Memorization begins after a number of steps proportional to the number of training images, tau_mem about "
    "300 n.",
    source="Bonnaire et al. 2025, arXiv 2505.17638 (CelebA in grey at 32 pixels, a U-Net of 4 million parameters, SGD "
    "with momentum).",
    setup="Fashion-MNIST at {side} x {side} pixels, n in {counts}, uniform timesteps. Every {audits_per_image} n steps "
    "{samples} samples are searched for copies; memorization has begun when more than {onset:.0%} are.",
    rule=RULE,
    differences="AdamW with learning rate {lr} instead of SGD, a small network without convolutions, prediction of the "
    "clean image, 14-pixel images: the factor of 300 belongs to the paper's optimizer and network, the proportionality "
    "should not.",
    caption="left, steps until copies begin, one line a seed (dotted: the claim); right, copies against steps per "
    "image, one line a seed (dotted: the share that counts as the beginning): the claim makes the curves fall "
    "together.",
    sizes=SIZES,
    run=run,
    judge=judge,
    figure=figure,
)
