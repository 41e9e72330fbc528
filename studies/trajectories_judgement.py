"""What study 6's numbers say: correlations, overestimation, early loss and diversity; tables and figure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from studies import figures
from studies.spread import Spread
from studies.study import Judgement, Result, Table

# The papers' least correlation; how near to the guidance scale counts as "about"; what counts as fallen together.
LEAST_CORRELATION = 0.70
NEAR = 0.1
COLLAPSED = 0.5
GROUPS = {"one image": True, "diverse": False}
SCORES = ("d1", "d2")

RULE = (
    "four parts, means over seeds: (1) both D1 and D2 correlate with the similarity at 0.70 or more, the least of the "
    "paper's values; (2) at the main guidance scale the overestimation factor of memorized conditions is within 10 % "
    "of the scale, and greater than that of the others in every seed; (3) the guided loss at the first state is larger "
    "on memorized conditions than on the others in every seed; (4) the seeds of memorized conditions end less than "
    "half as far apart as those of the others. *Holds* if all four do, *holds in part* if any does, otherwise *not "
    "here*."
)


def correlation(run: Result, score: str, group: bool | None = None) -> float:
    """Pearson's r of a score with the similarity over the conditions, or over one group; 0 where one is constant."""
    chosen = [one for one in run["conditions"] if group is None or one["memorized"] is group]
    values = np.array([[one[score], one["similarity"]] for one in chosen], dtype=np.float64)
    spread = values.std(axis=0)
    return float(np.corrcoef(values.T)[0, 1]) if len(values) > 2 and spread.min() > 0 else 0.0


def group_mean(run: Result, name: str, group: bool) -> float:
    """The mean of a measure over the conditions of one group."""
    return _mean_of(run["conditions"], group, name)


def first_loss(run: Result, branch: str, group: bool) -> float:
    """The mean loss of a branch's first estimate over the conditions of one group."""
    return float(np.mean([one["first_loss"][branch] for one in run["conditions"] if one["memorized"] is group]))


def loss_ratio(run: Result) -> float:
    """The first guided loss of memorized conditions over that of the others."""
    return first_loss(run, "guided", True) / first_loss(run, "guided", False)


def diversity_ratio(run: Result) -> float:
    """How far apart the seeds of a memorized condition end, over the same of a diverse one."""
    remembered, diverse = (run["curves"][name]["diversity"][-1] for name in GROUPS)
    return float(remembered / diverse)


def parts(runs: list[Result]) -> dict[str, bool]:
    """Which parts of the claim hold, by ``RULE``."""
    own = _over(runs, group_mean, "overestimation", True).mean
    greater = [group_mean(run, "overestimation", True) > group_mean(run, "overestimation", False) for run in runs]
    return {
        "correlation": min(_over(runs, correlation, score).mean for score in SCORES) >= LEAST_CORRELATION,
        "overestimation": abs(own / runs[0]["guidance"] - 1) <= NEAR and all(greater),
        "early loss": min(loss_ratio(run) for run in runs) > 1,
        "diversity": _over(runs, diversity_ratio).mean < COLLAPSED,
    }


def verdict(runs: list[Result]) -> str:
    """By ``RULE``."""
    found = parts(runs).values()
    return "holds" if all(found) else "holds in part" if any(found) else "not here"


def judge(runs: list[Result]) -> Judgement:
    """The judgement."""
    failed = [name for name, holds in parts(runs).items() if not holds]
    first, second = (_over(runs, correlation, score) for score in SCORES)
    inside = [_over(runs, correlation, score, True).mean for score in SCORES]
    factors = {name: _over(runs, group_mean, "overestimation", group) for name, group in GROUPS.items()}
    losses, apart = _over(runs, loss_ratio).text(".1f"), _over(runs, diversity_ratio).text()
    scale = f"{runs[0]['guidance']:g}"
    return Judgement(
        verdict(runs),
        f"D1 correlates with the similarity at {first.text()}, D2 at {second.text()}. At guidance {scale} the first "
        f"estimates overshoot by a factor of {factors['one image'].text('.1f')} where one image is behind the "
        f"condition and {factors['diverse'].text('.1f')} elsewhere; their guided loss is {losses} times that of the "
        f"others, and their seeds end {apart} times as far apart. "
        + (f"Not met: {', '.join(failed)}." if failed else "All four parts are met."),
        tables=[_measures(runs), _sweep(runs), _detectors(runs)],
        readings=_readings(runs),
        headline=f"first estimates of memorized conditions overshoot {factors['one image'].mean:.1f} times at guidance "
        f"{scale}; D1 and D2 correlate with the similarity at {first.mean:.2f} and {second.mean:.2f} (claimed: 0.92, "
        f"0.92, 0.70 on three models), within the memorized conditions alone at {inside[0]:.2f} and {inside[1]:.2f}.",
    )


def figure(runs: list[Result], path: Path) -> None:
    """Coefficients against the schedule's lines, diversity over steps, D1 against similarity."""
    drawing, axes = figures.axes(1, 3)
    places = np.arange(len(runs[0]["alpha_bar"]))
    for line in runs[0]["lines"].values():
        axes[0, 0].plot(places, line, ":", color="black", lw=1)
    for color, (name, group) in zip(figures.COLORS, GROUPS.items(), strict=False):
        for measure, axis in (("w_target", axes[0, 0]), ("w_initial", axes[0, 0]), ("diversity", axes[0, 1])):
            values = np.array([run["curves"][name][measure] for run in runs])
            axis.plot(places, values.mean(0), color=color, label=None if measure == "w_initial" else name)
            axis.fill_between(places, values.min(0), values.max(0), color=color, alpha=0.15, lw=0)
        chosen = [one for run in runs for one in run["conditions"] if one["memorized"] is group]
        axes[0, 2].plot([one["similarity"] for one in chosen], [one["d1"] for one in chosen], "o", ms=2.5, color=color)
    axes[0, 0].set(xlabel="step", ylabel="weight in the state")
    axes[0, 1].set(xlabel="step", ylabel="distance between seeds")
    axes[0, 2].set(xlabel="similarity to the training image", ylabel="D1")
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    figures.save(drawing, path)


def _over(runs: list[Result], measure: Callable[..., float], *arguments: Any) -> Spread:
    return Spread.of(measure(run, *arguments) for run in runs)


def _mean_of(conditions: list[Result], group: bool, name: str) -> float:
    return float(np.mean([one[name] for one in conditions if one["memorized"] is group]))


def _diversity(run: Result, name: str, share: float) -> float:
    curve = run["curves"][name]["diversity"]
    return curve[round(share * (len(curve) - 1))]


def _swept(run: Result, number: int, name: str, group: bool) -> float:
    return _mean_of(run["sweep"][number]["conditions"], group, name)


def _detected(run: Result, name: str, kind: str) -> float:
    return run["detection"][name][kind]


def _measures(runs: list[Result]) -> Table:
    told = {
        "d1": "D1", "d2": "D2", "overestimation": "overestimation factor",
        "similarity": "similarity of final samples (minus RMS)", "normalised_loss": "normalised conditional loss",
    }  # fmt: skip
    rows = [
        (words, *(_over(runs, group_mean, name, group).text() for group in GROUPS.values()))
        for name, words in told.items()
    ]
    rows += [
        (f"loss of the first estimate (sum of squares), {branch}",
         *(_over(runs, first_loss, branch, group).text(",.2f") for group in GROUPS.values()))
        for branch in runs[0]["conditions"][0]["first_loss"]
    ]  # fmt: skip
    rows += [
        (f"distance between seeds, {words}", *(_over(runs, _diversity, name, share).text() for name in GROUPS))
        for words, share in (("halfway", 0.5), ("at the end", 1.0))
    ]
    return Table("Means over the conditions of each kind:", ("measure", *GROUPS), rows)


def _sweep(runs: list[Result]) -> Table:
    told = {"overestimation": "overestimation", "d1": "D1", "similarity": "similarity"}
    rows = [
        (f"{entry['guidance']:g}",
         *(_over(runs, _swept, number, name, group).text() for name in told for group in GROUPS.values()))
        for number, entry in enumerate(runs[0]["sweep"])
    ]  # fmt: skip
    header = ("guidance", *(f"{words}, {name}" for words in told.values() for name in GROUPS))
    return Table("Other guidance scales:", header, rows)


def _detectors(runs: list[Result]) -> Table:
    rows = [
        (name, *(_over(runs, _detected, name, kind).text() for kind in ("auc", "tpr"))) for name in runs[0]["detection"]
    ]
    return Table(
        "The field's detectors on the same runs, at the main guidance scale (ten memorized conditions against thirty; "
        "with thirty negatives 1 % false positives means none; docs/mitigations.md has them at guidance 1):",
        ("detector", "AUC", "found at 1 % false positives"), rows,
    )  # fmt: skip


def _readings(runs: list[Result]) -> list[str]:
    told = []
    for name, group in GROUPS.items():
        first, second = (_over(runs, correlation, score, group).text() for score in SCORES)
        told.append(f"Within the conditions of kind '{name}' alone D1 correlates at {first}, D2 at {second}.")
    first, second = (_over(runs, correlation, f"{score}_final").text() for score in SCORES)
    told.append(
        f"With each run's own final sample as the target, as in the authors' first script: D1 {first}, D2 {second}."
    )
    return told
