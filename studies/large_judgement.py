"""What study 7's audits say: recall, false alarms and cost, the verdict's rule, tables, and the figure's panels."""

from collections.abc import Sequence
from typing import Any

from memfast.criteria import wilson
from studies.figures import COLORS
from studies.spread import Spread
from studies.study import Judgement, Result, Table

CRITERIA = ("nn_ratio", "calibrated", "absolute")
# A copy that differs from its original by at most this (root mean square, [0, 1] units) is nearly verbatim.
NEAR_RMS = 0.03
LEAST_RECALL = 0.99
MOST_FALSE_ALARMS = 0.001
MEMORY_MARGIN = 1.25
GIGA = 1e9

RULE = (
    f"nearly verbatim ways of copying are those whose copies differ from their originals by {NEAR_RMS:g} or less (root "
    "mean square, [0, 1] units). A copy counts as found if a criterion flags it and names its original. *Holds* if "
    f"every criterion finds {LEAST_RECALL:.0%} or more of the nearly verbatim copies and flags at most "
    f"{MOST_FALSE_ALARMS:.1%} of the honest samples (seeds together), and the process never grew by more than "
    f"{MEMORY_MARGIN:g} times the memory that the search was given; *holds in part* if some criterion does; otherwise "
    "*not here*."
)


def near(runs: Sequence[Result]) -> list[int]:
    """Which ways are nearly verbatim: numbers into a result's ``ways``."""
    return [number for number in range(len(runs[0]["ways"])) if _rms(runs, number) <= NEAR_RMS]


def recall(runs: Sequence[Result], name: str, ways: Sequence[int]) -> float:
    """The share of the copies of some ways that a criterion finds, or whose original is the nearest (``"nearest"``)."""
    rows = [run["ways"][number] for run in runs for number in ways]
    return sum(row[name] for row in rows) / sum(row["total"] for row in rows)


def false_alarms(runs: Sequence[Result], name: str) -> tuple[int, int]:
    """Honest samples that a criterion flags, and how many there are."""
    return sum(run["honest"][name] for run in runs), sum(run["honest"]["total"] for run in runs)


def passes(runs: Sequence[Result], name: str) -> bool:
    """Whether a criterion finds enough and flags little enough."""
    count, total = false_alarms(runs, name)
    return recall(runs, name, near(runs)) >= LEAST_RECALL and count / total <= MOST_FALSE_ALARMS


def within_memory(runs: Sequence[Result]) -> bool:
    """Whether every audit kept to its memory."""
    return all(run["exact"]["grown_mib"] <= MEMORY_MARGIN * run["memory_mib"] for run in runs)


def verdict(runs: Sequence[Result]) -> str:
    """By ``RULE``."""
    passed = [passes(runs, name) for name in CRITERIA]
    if all(passed) and within_memory(runs):
        return "holds"
    return "holds in part" if any(passed) else "not here"


def judge(runs: list[Result]) -> Judgement:
    """The judgement."""
    first = runs[0]
    found = " / ".join(f"{recall(runs, name, near(runs)):.1%}" for name in CRITERIA)
    alarms = " / ".join(f"{count} of {total:,}" for count, total in (false_alarms(runs, name) for name in CRITERIA))
    cpu = Spread.of(run["exact"]["cpu_seconds"] for run in runs)
    grown = max(run["exact"]["grown_mib"] for run in runs)
    last = first["approximate"][-1]
    slower = Spread.of(run["approximate"][-1]["cpu_seconds"] / run["exact"]["cpu_seconds"] for run in runs)
    agrees = Spread.of(run["approximate"][-1]["agrees"] for run in runs)
    return Judgement(
        verdict(runs),
        f"Auditing {first['generated']:,} samples against {first['training']:,} images finds {found} of the nearly "
        f"verbatim copies by NN ratio / calibrated / absolute and wrongly flags {alarms} honest samples, in "
        f"{cpu.text('.0f')} seconds of processor time and {grown:.0f} MiB beyond what the process held before; an "
        f"approximate index with {_probes(last)} takes {slower.mean:.1f} times the processor time and names "
        f"the true nearest image for {agrees.mean:.0%} of the samples.",
        tables=[_recall_table(runs), _alarm_table(runs), _cost_table(runs)],
        headline=f"an exact audit of {first['generated']:,} samples against {first['training']:,} images finds {found} "
        f"of the nearly verbatim copies (NN ratio / calibrated / absolute) in {cpu.mean:.0f} s of one core.",
    )


def panels(axes: Sequence[Any], runs: Sequence[Result]) -> None:
    """Left: what each criterion finds, by way of copying. Right: whether the original is the nearest image found."""
    labels = [row["label"] for row in runs[0]["ways"]]
    places = range(len(labels))
    for name, color in zip(CRITERIA, COLORS, strict=False):
        shares = [100 * recall(runs, name, [number]) for number in places]
        axes[0].plot(shares, places, "o", color=color, label=name, markersize=4)
    exact = [100 * recall(runs, "nearest", [number]) for number in places]
    axes[1].plot(exact, places, "o", color=COLORS[5], label="exact search", markersize=4)
    for number, color in zip(range(len(runs[0]["approximate"])), COLORS[3:], strict=False):
        probes = _probes(runs[0]["approximate"][number])
        shares = [100 * _index_recall(runs, number, way) for way in places]
        axes[1].plot(shares, places, "x", color=color, label=f"index, {probes}", markersize=5)
    axes[0].set_yticks(list(places), labels)
    axes[0].invert_yaxis()
    for axis, title in zip(axes, ("flagged, original named", "original is the nearest"), strict=True):
        axis.set(title=title, xlabel="% of the planted copies", xlim=(-4, 104))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, fontsize=7, columnspacing=1)


def _probes(one: dict[str, Any]) -> str:
    return f"{one['probes']} probe{'s' if one['probes'] > 1 else ''}"


def _rms(runs: Sequence[Result], number: int) -> float:
    return sum(run["ways"][number]["rms"] for run in runs) / len(runs)


def _index_recall(runs: Sequence[Result], setting: int, way: int) -> float:
    hits = sum(run["approximate"][setting]["nearest"][way] for run in runs)
    return hits / sum(run["ways"][way]["total"] for run in runs)


def _recall_table(runs: Sequence[Result]) -> Table:
    settings = range(len(runs[0]["approximate"]))
    rows = []
    for number, way in enumerate(runs[0]["ways"]):
        shares = [recall(runs, name, [number]) for name in (*CRITERIA, "nearest")]
        shares += [_index_recall(runs, setting, number) for setting in settings]
        rows.append((way["label"], f"{_rms(runs, number):.3f}", *(f"{share:.0%}" for share in shares)))
    probes = [f"by index, {_probes(one)}" for one in runs[0]["approximate"]]
    header = ("planted copy", "RMS", *(f"found by {name}" for name in CRITERIA), "original is nearest", *probes)
    total = sum(run["ways"][0]["total"] for run in runs)
    return Table(f"Planted copies found, of {total} of each way (seeds together):", header, rows)


def _alarm_table(runs: Sequence[Result]) -> Table:
    rows = []
    for name in CRITERIA:
        count, total = false_alarms(runs, name)
        low, high = wilson(count, total)
        floor = Spread.of(100 * run["held_out"][name] for run in runs)
        rows.append((name, f"{count} of {total:,}", f"{low:.3%} to {high:.3%}", floor.text(".2f", " %")))
    header = (
        "criterion",
        "honest samples flagged",
        "Wilson's 95 % interval",
        "held-out images flagged (the audit's floor)",
    )
    return Table("False alarms:", header, rows)


def _cost_table(runs: Sequence[Result]) -> Table:
    rate = Spread.of(run["exact"]["operations"] / GIGA / run["exact"]["cpu_seconds"] for run in runs)
    rows = [("whole exact audit", *_cost([run["exact"] for run in runs]), rate.text(".0f"), "100 % (by definition)")]
    for setting, one in enumerate(runs[0]["approximate"]):
        costs = [run["approximate"][setting] for run in runs]
        agrees = Spread.of(100 * run["agrees"] for run in costs)
        rows.append((f"index alone, {_probes(one)}", *_cost(costs), "", agrees.text(".0f", " %")))
    header = (
        "search", "seconds", "processor seconds", "memory grown, MiB", "exact operations, 10^9 a processor second",
        "nearest image is the true one",
    )  # fmt: skip
    threads, size = runs[0]["threads"], runs[0]["training_mib"]
    title = (
        f"Cost, on {threads} thread{'s' if threads > 1 else ''} of a machine that others used too; the training set "
    )
    return Table(f"{title}is {size:,.0f} MiB on disk:", header, rows)


def _cost(costs: Sequence[dict[str, Any]]) -> list[str]:
    return [Spread.of(cost[field] for cost in costs).text(".0f") for field in ("seconds", "cpu_seconds", "grown_mib")]
