"""What study 5's numbers say: the effect of each band, the peaks of the curves, table and figure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from studies import figures
from studies.spread import Spread
from studies.study import Judgement, Result, Table

MOST = 2 / 3
LITTLE = 1 / 3
# Below this difference of copies between the two networks a share of it means nothing.
LEAST_DIFFERENCE = 0.1
WAYS = {"general inside": "copies removed", "memorizer inside": "copies brought"}

RULE = (
    "the effect of a band is the share of the copies that goes (comes) when its denoisers are swapped. A form of "
    "prediction agrees if both effects of the middle band are two thirds or more and those of the other bands a third "
    "or less, and agrees in part if the middle band's effects are together the greatest (means over seeds); it counts "
    "only if the two networks differ by at least 10 percentage points of copies. *Holds* if every form agrees; *holds "
    "in part* if any agrees at least in part; otherwise *not here*."
)


def effect(form: Result, band: str, way: str) -> float:
    """The share of the copies that one swap removes (``general inside``) or brings (``memorizer inside``): 0 none, 1
    all; it can lie outside."""
    most, least = form["arms"][form["memorizer"]]["copies"], form["arms"][form["general"]]["copies"]
    swapped = form["swaps"][band][way]
    return ((most - swapped) if way == "general inside" else (swapped - least)) / max(most - least, LEAST_DIFFERENCE)


def verdict(runs: list[Result]) -> str:
    """By ``RULE``."""
    agreed = [_agreement([run["forms"][name] for run in runs]) for name in runs[0]["forms"]]
    return "holds" if min(agreed) == 2 else "holds in part" if max(agreed) > 0 else "not here"


def _agreement(forms: list[Result]) -> int:
    """2: agrees, 1: in part, 0: does not."""
    effects = {band: [_over(forms, band, way).mean for way in WAYS] for band in forms[0]["swaps"]}
    difference = Spread.of(_copies(form, form["memorizer"]) - _copies(form, form["general"]) for form in forms).mean
    if difference < LEAST_DIFFERENCE:
        return 0
    others = [value for band, values in effects.items() if band != "middle" for value in values]
    if min(effects["middle"]) >= MOST and max(others) <= LITTLE:
        return 2
    return int(max(effects, key=lambda band: sum(effects[band])) == "middle")


def judge(runs: list[Result]) -> Judgement:
    """The judgement."""
    swapped = []
    for name in runs[0]["forms"]:
        forms = [run["forms"][name] for run in runs]
        told = [f"{_over(forms, band, 'general inside').mean:.0%} at {band} noise levels" for band in forms[0]["swaps"]]
        swapped.append(f"{name} {', '.join(told)}")
    first = _first(runs)
    named = {arm: Spread.of(100 * _copies(form, arm) for form in first).mean for arm in first[0]["arms"]}
    listed = ", ".join(f"{arm} {share:.0f} %" for arm, share in named.items())
    return Judgement(
        verdict(runs),
        f"Of the copies, a general network's denoisers in one band remove, by what is predicted: {'; '.join(swapped)}. "
        f"Copies by training: {listed}.",
        tables=[_swap_table(runs), _arm_table(first)],
        headline="two thirds or more of a memorizing network's copies go when another network denoises at "
        f"{_needed(runs)}.",
    )


def _needed(runs: list[Result]) -> str:
    """The bands without which two thirds of the copies go, form by form."""
    parts = []
    for name in runs[0]["forms"]:
        forms = [run["forms"][name] for run in runs]
        bands = [band for band in forms[0]["swaps"] if _over(forms, band, "general inside").mean >= MOST]
        parts.append(f"{' or '.join(bands) or 'no single band of'} noise levels (prediction: {name})")
    return ", and at ".join(parts)


def figure(runs: list[Result], path: Path) -> None:
    """Held-out minus training error, distance to the ideal memorizer, effects of the swaps."""
    names = list(runs[0]["forms"])
    drawing, axes = figures.axes(1, 2 + len(names), inches=(2.9, 2.9))
    low, high = runs[0]["edges"]
    first = _first(runs)
    for color, arm in zip(figures.COLORS, first[0]["arms"], strict=False):
        sigma = np.array(first[0]["arms"][arm]["sigma"])
        lost = np.array([np.subtract(form["arms"][arm]["held_out"], form["arms"][arm]["train"]) for form in first])
        gap = np.array([form["arms"][arm]["gap"] for form in first])
        for axis, values in ((axes[0, 0], lost), (axes[0, 1], gap)):
            axis.plot(sigma, values.mean(0), "o-", ms=2.5, color=color, label=arm)
            axis.fill_between(sigma, values.min(0), values.max(0), color=color, alpha=0.15, lw=0)
    labels = ("held-out error - training error", "distance to the ideal memorizer")
    for axis, label in zip(axes[0], labels, strict=False):
        axis.axvspan(low, high, color="black", alpha=0.06, lw=0)
        axis.set(xscale="log", xlabel="noise / signal", ylabel=label)
    for axis, name in zip(axes[0, 2:], names, strict=True):
        _bars(axis, [run["forms"][name] for run in runs])
        axis.set_title(name)
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=5)
    figures.save(drawing, path)


def _bars(axis: Any, forms: list[Result]) -> None:
    names = list(forms[0]["swaps"])
    for shift, (way, told), color in zip((-0.2, 0.2), WAYS.items(), ("#333333", "#999999"), strict=True):
        spreads = [_over(forms, band, way) for band in names]
        places = np.arange(len(names)) + shift
        axis.bar(places, [100 * s.mean for s in spreads], 0.38, color=color, label=told)
        axis.vlines(places, [100 * s.low for s in spreads], [100 * s.high for s in spreads], color="#c8553d", lw=1)
    axis.set(xticks=range(len(names)), xticklabels=names, ylim=(-20, 140))
    axis.set(xlabel="noise levels swapped", ylabel="share of the copies (%)")
    axis.legend()


def _first(runs: list[Result]) -> list[Result]:
    """The form whose curves were measured."""
    return [next(iter(run["forms"].values())) for run in runs]


def _over(forms: list[Result], band: str, way: str) -> Spread:
    return Spread.of(effect(form, band, way) for form in forms)


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
    for name in runs[0]["forms"]:
        forms = [run["forms"][name] for run in runs]
        whole = [Spread.of(100 * _copies(form, form[one]) for form in forms) for one in ("memorizer", "general")]
        rows.append((name, "none", whole[0].text(".0f"), "", whole[1].text(".0f"), ""))
        for band in forms[0]["swaps"]:
            cells = [Spread.of(100 * form["swaps"][band][way] for form in forms).text(".0f") for way in WAYS]
            effects = [Spread.of(100 * effect(form, band, way) for form in forms).text(".0f") for way in WAYS]
            rows.append((name, band, cells[0], effects[0], cells[1], effects[1]))
    header = (
        "prediction", "levels swapped", "memorizing network, general one there: copies (%)", "copies removed (%)",
        "general network, memorizing one there: copies (%)", "copies brought (%)",
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
