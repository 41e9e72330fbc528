"""What study 5's numbers say: the effect of each band, the peaks of the curves, table and figure."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.papers import figures
from benchmarks.papers.spread import Spread
from benchmarks.papers.study import Judgement, Result, Table

MOST = 2 / 3
LITTLE = 1 / 3
# Below this difference of copies between the two networks a share of it means nothing.
LEAST_DIFFERENCE = 0.1
WAYS = {"general inside": "copies removed", "memorizer inside": "copies brought"}

RULE = (
    "the effect of a band is the share of the copies that goes (comes) when its denoisers are swapped. *Holds* if "
    "both effects of the middle band are two thirds or more and those of the other bands a third or less (means over "
    "seeds); *holds in part* if the middle band's effects are together the greatest; otherwise *not here*, also if "
    "the two networks differ by less than 10 percentage points of copies."
)


def effect(run: Result, band: str, way: str) -> float:
    """The share of the copies that one swap removes (``general inside``) or brings (``memorizer inside``): 0 none, 1
    all; it can lie outside."""
    most, least = run["arms"][run["memorizer"]]["copies"], run["arms"][run["general"]]["copies"]
    swapped = run["swaps"][band][way]
    return ((most - swapped) if way == "general inside" else (swapped - least)) / max(most - least, LEAST_DIFFERENCE)


def verdict(runs: list[Result]) -> str:
    """By ``RULE``."""
    effects = {band: [_over(runs, band, way).mean for way in WAYS] for band in runs[0]["swaps"]}
    difference = Spread.of(_copies(run, run["memorizer"]) - _copies(run, run["general"]) for run in runs).mean
    if difference < LEAST_DIFFERENCE:
        return "not here"
    others = [value for band, values in effects.items() if band != "middle" for value in values]
    if min(effects["middle"]) >= MOST and max(others) <= LITTLE:
        return "holds"
    return "holds in part" if max(effects, key=lambda band: sum(effects[band])) == "middle" else "not here"


def judge(runs: list[Result]) -> Judgement:
    """The judgement."""
    middle = [_over(runs, "middle", way).mean for way in WAYS]
    named = {arm: Spread.of(100 * _copies(run, arm) for run in runs).mean for arm in runs[0]["arms"]}
    listed = ", ".join(f"{arm} {share:.0f} %" for arm, share in named.items())
    peak = Spread.of(_peak(run, run["memorizer"]) for run in runs)
    return Judgement(
        verdict(runs),
        f"Swapping the denoisers of the middle noise levels removes {middle[0]:.0%} of the copies and brings "
        f"{middle[1]:.0%} of them; the advantage on training images is greatest at a noise-to-signal ratio of "
        f"{peak.mean:.1f}. Copies by training: {listed}.",
        tables=[_swap_table(runs), _arm_table(runs)],
    )


def figure(runs: list[Result], path: Path) -> None:
    """Held-out minus training error, distance to the ideal memorizer, effects of the swaps."""
    drawing, axes = figures.axes(1, 3)
    low, high = runs[0]["edges"]
    for color, arm in zip(figures.COLORS, runs[0]["arms"], strict=False):
        sigma = np.array(runs[0]["arms"][arm]["sigma"])
        lost = np.array([np.subtract(run["arms"][arm]["held_out"], run["arms"][arm]["train"]) for run in runs])
        gap = np.array([run["arms"][arm]["gap"] for run in runs])
        for axis, values in ((axes[0, 0], lost), (axes[0, 1], gap)):
            axis.plot(sigma, values.mean(0), "o-", ms=2.5, color=color, label=arm)
            axis.fill_between(sigma, values.min(0), values.max(0), color=color, alpha=0.15, lw=0)
    for axis, label in zip(
        axes[0], ("held-out error - training error", "distance to the ideal memorizer"), strict=False
    ):
        axis.axvspan(low, high, color="black", alpha=0.06, lw=0)
        axis.set(xscale="log", xlabel="noise / signal", ylabel=label)
    _bars(axes[0, 2], runs)
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=5)
    figures.save(drawing, path)


def _bars(axis: figures.Any, runs: list[Result]) -> None:
    names = list(runs[0]["swaps"])
    for shift, (way, told), color in zip((-0.2, 0.2), WAYS.items(), figures.COLORS, strict=False):
        spreads = [_over(runs, band, way) for band in names]
        places = np.arange(len(names)) + shift
        axis.bar(places, [100 * s.mean for s in spreads], 0.38, color=color, label=told, alpha=0.85)
        axis.vlines(places, [100 * s.low for s in spreads], [100 * s.high for s in spreads], color="black", lw=1)
    axis.set(
        xticks=range(len(names)), xticklabels=names, xlabel="noise levels swapped", ylabel="share of the copies (%)"
    )
    axis.legend()


def _over(runs: list[Result], band: str, way: str) -> Spread:
    return Spread.of(effect(run, band, way) for run in runs)


def _copies(run: Result, arm: str) -> float:
    return run["arms"][arm]["copies"]


def _peak(run: Result, arm: str) -> float:
    """sigma / alpha where held-out images lose most against training images."""
    curves = run["arms"][arm]
    return curves["sigma"][int(np.argmax(np.subtract(curves["held_out"], curves["train"])))]


def _nearest_memorizer(run: Result, arm: str) -> float:
    """The share of the way from the held-out error to the ideal memorizer's that the network has gone on training
    images, summed over the levels: 1 is a perfect memorizer, 0 is no better than on held-out images."""
    curves = run["arms"][arm]
    outside, here, ideal = (np.sum(curves[name]) for name in ("held_out", "train", "ideal_loss"))
    return float((outside - here) / (outside - ideal))


def _swap_table(runs: list[Result]) -> Table:
    rows = []
    for band in runs[0]["swaps"]:
        cells = [Spread.of(100 * run["swaps"][band][way] for run in runs).text(".0f") for way in WAYS]
        effects = [Spread.of(100 * effect(run, band, way) for run in runs).text(".0f") for way in WAYS]
        rows.append((band, cells[0], effects[0], cells[1], effects[1]))
    header = (
        "levels swapped", "copies with the general network there (%)", "copies removed (%)",
        "copies with the memorizing network there alone (%)", "copies brought (%)",
    )  # fmt: skip
    return Table("Denoisers swapped between the memorizing (uniform) and the general network:", header, rows)


def _arm_table(runs: list[Result]) -> Table:
    def cell(value: Callable[[Result], float], form: str) -> str:
        return Spread.of(value(run) for run in runs).text(form)

    rows = [
        (
            arm,
            cell(lambda run, a=arm: 100 * _copies(run, a), ".1f"),  # type: ignore[misc]
            cell(lambda run, a=arm: run["arms"][a]["sliced"], ".3f"),  # type: ignore[misc]
            cell(lambda run, a=arm: _peak(run, a), ".2f"),  # type: ignore[misc]
            cell(lambda run, a=arm: 100 * _nearest_memorizer(run, a), ".0f"),  # type: ignore[misc]
        )
        for arm in runs[0]["arms"]
    ]
    header = (
        "training", "copies (%)", "sliced W2 to held-out images", "noise / signal where held-out images lose most",
        "way to the ideal memorizer (%)",
    )  # fmt: skip
    return Table(
        "Every training (the last column: 100 % denoises training images as the ideal memorizer does):", header, rows
    )
