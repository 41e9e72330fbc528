"""What paper 1's sweep says: correlations, changes, whether nearest neighbours agree; tables and panels."""

from collections.abc import Callable, Sequence
from typing import Any

from studies.figures import COLORS
from studies.interval_grid import (
    METRICS,
    NEIGHBOURS,
    at_mean,
    change,
    correlations,
    greatest_drop,
    of_reading,
    over_seeds,
)  # fmt: skip
from studies.spread import Spread
from studies.study import Judgement, Result, Table

# What counts as the claim's direction, and as its size: the paper has -0.73 to -0.83, and -94 % and -93 %.
CLEAR_CORRELATION = -0.5
LARGE_DROP = -0.8
# Less than this is no reduction, however well it correlates.
SOME_DROP = -0.2
# A change smaller than this is none.
LITTLE = 0.05

RULE = (
    "*holds* if, in the first reading, the correlation of the interval's mean with each of L2, W and JS to the training"
    f" set is {CLEAR_CORRELATION} or below, that of the width above 0, and W and JS fall by {-LARGE_DROP:.0%} or more"
    " from the least mean to the greatest (averages over seeds and widths); *holds in part* if in any reading the three"
    f" correlations with the mean are that low and W and JS fall by {-SOME_DROP:.0%} or more; otherwise *not here*."
)
SIDES = ("train", "test")
NAMES = {"l2": "L2", "wasserstein": "W", "shannon": "JS"}
# A reading has one colour in the figures of both studies.
DRAWN = dict(
    zip(("uniform tails", "no clipping", "truncated", "lambda 0.9", "from scratch", "noise loss"), COLORS, strict=True)
)


def verdict(runs: Sequence[Result], readings: Sequence[str]) -> str:
    """By ``RULE``; the first reading is the main one."""
    clear = [name for name in readings if _clear(runs, name)]
    main = readings[0]
    width = [_along(runs, main, "width", metric).mean > 0 for metric in METRICS]
    drops = [_change(runs, main, metric).mean <= LARGE_DROP for metric in ("wasserstein", "shannon")]
    if main in clear and all(width) and all(drops):
        return "holds"
    return "holds in part" if clear else "not here"


def judge(runs: Sequence[Result], readings: dict[str, str], what: str) -> Judgement:
    """The judgement of one data set's sweeps.

    Args:
        runs: one seed's result each, from ``run_grid``.
        readings: name -> in words; the first is the main one.
        what: the data set, for the summary.
    """
    names = list(readings)
    main = names[0]
    return Judgement(
        verdict(runs, names),
        f"On {what}, moving the interval from low to high noise changes the distance to the training set by "
        f"{_numbers(runs, main)} (paper: -94 %, -93 %, -0.73 to -0.83); {_neighbours(runs, main)} "
        f"{_room(runs, main)} {_nearest(runs, names)}",
        tables=[_correlation_table(runs, names), _grid_table(runs, main)],
        readings=[_told(runs, name, text) for name, text in readings.items()],
        headline=f"on {what} fine-tuning on later timesteps changes the distance W to the training set by "
        f"{_change(runs, main, 'wasserstein').mean:+.1%} (paper: -94 %){_elsewhere(runs, names)}.",
    )


def panels(axes: Sequence[Any], runs: Sequence[Result], readings: dict[str, str]) -> None:
    """Three panels against the interval's mean: W, JS, nearest neighbours; a line a reading, over widths and seeds.

    Of nearest neighbours the share of copies where there are any, else the chance of being closer than held-out items.
    """
    copying = any(_copying(runs, name) for name in readings)
    values: tuple[tuple[str, Callable[[Result], float]], ...] = (
        ("W to the training set", lambda point: point["train"]["wasserstein"]),
        ("JS to the training set", lambda point: point["train"]["shannon"]),
        ("copies (%)", lambda point: 100 * point["copies"])
        if copying
        else ("closer than held-out (%)", lambda point: 100 * point["closer"]),
    )
    for axis, (label, value) in zip(axes, values, strict=True):
        for name in readings:
            color = DRAWN[name]
            means = sorted({point["mean"] for point in of_reading(runs[0], name)})
            spreads = [_at(runs, name, mean, value) for mean in means]
            axis.plot(means, [s.mean for s in spreads], "o-", ms=3, color=color, label=name)
            axis.fill_between(means, [s.low for s in spreads], [s.high for s in spreads], color=color, alpha=0.15, lw=0)
        floor = Spread.of(value(run["held_out"]) for run in runs)
        axis.axhline(floor.mean, color="black", lw=0.8, ls=":", label="held-out items")
        axis.set(xlabel="mean of the interval (timestep)", ylabel=label)
    for axis in axes[:2]:
        axis.set_ylim(bottom=0)


def _at(runs: Sequence[Result], reading: str, mean: float, value: Callable[[Result], float]) -> Spread:
    return over_seeds(runs, lambda run: at_mean(run, reading, mean, value))


def _along(runs: Sequence[Result], reading: str, along: str, metric: str, side: str = "train") -> Spread:
    return over_seeds(runs, lambda run: correlations(run, reading, along, side)[metric])


def _change(runs: Sequence[Result], reading: str, metric: str, side: str = "train") -> Spread:
    return over_seeds(runs, lambda run: change(run, reading, metric, side))


def _clear(runs: Sequence[Result], reading: str) -> bool:
    drops = all(_change(runs, reading, metric).mean <= SOME_DROP for metric in ("wasserstein", "shannon"))
    return drops and all(_along(runs, reading, "mean", metric).mean <= CLEAR_CORRELATION for metric in METRICS)


def _numbers(runs: Sequence[Result], reading: str) -> str:
    """The changes of W and JS and the correlations of the three distances with the mean."""
    along = [_along(runs, reading, "mean", metric).mean for metric in METRICS]
    w, js = (_change(runs, reading, metric).mean for metric in ("wasserstein", "shannon"))
    return f"{w:+.1%} (W) and {js:+.1%} (JS), with correlations from {min(along):+.2f} to {max(along):+.2f}"


def _nearest(runs: Sequence[Result], names: Sequence[str]) -> str:
    """The other reading in which W falls most."""
    best = _best(runs, names)
    train, test = (_change(runs, best, "wasserstein", side).mean for side in SIDES)
    if train > -LITTLE:
        return f"In no other reading does W fall by {LITTLE:.0%}: `{best}` comes nearest with {_numbers(runs, best)}."
    return (
        f"Of the other readings `{best}` has the largest fall: {_numbers(runs, best)}; the distance W to the held-out "
        f"set changes there by {test:+.1%}.{_missed(runs, best)}"
    )


def _elsewhere(runs: Sequence[Result], names: Sequence[str]) -> str:
    """The other reading in which W falls most, in a clause; nothing if it falls in none."""
    best = _best(runs, names)
    train, test = (_change(runs, best, "wasserstein", side).mean for side in SIDES)
    return "" if train > -LITTLE else f"; by the reading `{best}` {train:+.1%}, and that to held-out items {test:+.1%}"


def _best(runs: Sequence[Result], names: Sequence[str]) -> str:
    return min(names[1:], key=lambda name: _change(runs, name, "wasserstein").mean)


def _missed(runs: Sequence[Result], reading: str) -> str:
    """Said of a reading that has the claim's direction in all but the size of one fall, by the least bit or by much."""
    drops = {NAMES[metric]: _change(runs, reading, metric) for metric in ("wasserstein", "shannon")}
    short = {name: drop for name, drop in drops.items() if drop.mean > SOME_DROP}
    if len(short) != 1 or any(_along(runs, reading, "mean", metric).mean > CLEAR_CORRELATION for metric in METRICS):
        return ""
    ((name, drop),) = short.items()
    return f" Only {name}, {drop.text('+.1%')}, keeps it from *holds in part*, which asks for {SOME_DROP:+.0%}."


def _room(runs: Sequence[Result], reading: str) -> str:
    """What a fall as large as the claim's would mean here."""
    means = [point["mean"] for point in of_reading(runs[0], reading)]
    start = _at(runs, reading, min(means), lambda point: point["train"]["wasserstein"]).mean
    floor = Spread.of(run["held_out"]["train"]["wasserstein"] for run in runs).mean
    return (
        f"W begins at {start:.3f}, so a fall of {-LARGE_DROP:.0%} would end at {(1 + LARGE_DROP) * start:.3f}; "
        f"held-out items are at {floor:.3f}."
    )


def _neighbours(runs: Sequence[Result], reading: str) -> str:
    """Whether nearest neighbours move as the distances do, in a clause."""
    (copies, fewer), (closer, nearer) = _ends(runs, reading, "copies"), _ends(runs, reading, "closer")
    # Once most samples are copies, all of them are closer than fresh items: then only the copies tell.
    moved = fewer - copies if _copying(runs, reading) else nearer - closer
    distance = _change(runs, reading, "wasserstein").mean
    if abs(moved) < LITTLE and abs(distance) < LITTLE:
        told = "so neither measure of memorization moves"
    elif moved * distance < 0:
        told = "so the two measures of memorization disagree"
    else:
        told = "in the distances' direction"
    return (
        f"by nearest neighbours the share of copies goes from {copies:.1%} to {fewer:.1%}, and the chance of a sample "
        f"being closer to the training set than a held-out item from {closer:.0%} to {nearer:.0%}, {told}."
    )


def _copying(runs: Sequence[Result], reading: str) -> bool:
    """Whether there are copies enough to tell more of them from fewer."""
    return max(point["copies"] for run in runs for point in of_reading(run, reading)) >= LITTLE


def _ends(runs: Sequence[Result], reading: str, key: str) -> tuple[float, float]:
    """What neighbours say at the least and at the greatest mean, over widths and seeds."""
    means = [point["mean"] for point in of_reading(runs[0], reading)]
    low, high = (_at(runs, reading, mean, lambda point: point[key]).mean for mean in (min(means), max(means)))
    return low, high


def _told(runs: Sequence[Result], name: str, text: str) -> str:
    steepest = over_seeds(runs, lambda run: greatest_drop(run, name, "wasserstein"))
    values = ", ".join(f"{NAMES[metric]} {_along(runs, name, 'mean', metric).mean:+.2f}" for metric in METRICS)
    w, js = (_change(runs, name, metric).text("+.1%") for metric in ("wasserstein", "shannon"))
    copies, fewer = _ends(runs, name, "copies")
    return (
        f"`{name}` ({text}): from the least mean to the greatest W {w}, JS {js}; W {steepest.mean:+.1%} at the width "
        f"where it falls most; correlation with the mean over {len(of_reading(runs[0], name))} points {values}; copies "
        f"from {copies:.1%} to {fewer:.1%}."
    )


def _correlation_table(runs: Sequence[Result], readings: Sequence[str]) -> Table:
    rows = []
    for name in readings:
        several = len({point["width"] for point in of_reading(runs[0], name)}) > 1
        wanted = (("mean", "mean"), ("density_mean", "mean of the density in effect"), ("width", "width"))
        for along, told in wanted[: 3 if several else 2]:
            for side, reference in (("train", "training set"), ("test", "held-out set")):
                cells = [_along(runs, name, along, metric, side).text("+.2f") for metric in METRICS]
                near = [_along(runs, name, along, key).text("+.2f") for key in NEIGHBOURS]
                label = f"{name} ({len(of_reading(runs[0], name))} points)"
                rows.append((label, told, reference, *cells, *(near if side == "train" else ("", ""))))
    header = ("reading", "correlation with the", "distances to the", "L2", "W", "JS", "copies", "closer than held-out")
    title = (
        "Pearson's correlations over the points of each reading (paper: mean -0.73 to -0.83, width +0.32); over three "
        "points even a correlation near 1 says little:"
    )
    return Table(title, header, rows)


def _grid_table(runs: Sequence[Result], reading: str) -> Table:
    def row(label: str, select: Callable[[Result], Result]) -> tuple[str, ...]:
        def cell(form: str, value: Callable[[Result], float]) -> str:
            return over_seeds(runs, lambda run: value(select(run))).text(form)

        return (
            label,
            *(cell(".3f", lambda point, m=metric: point["train"][m]) for metric in METRICS),  # type: ignore[misc]
            cell(".3f", lambda point: point["test"]["wasserstein"]),
            cell(".1f", lambda point: 100 * point["copies"]),
            cell(".0f", lambda point: 100 * point["closer"]),
        )

    rows = [
        row("held-out items (the floor)", lambda run: run["held_out"]),
        row("pretrained, uniform", lambda run: run["pretrained"]),
    ]
    for number, point in enumerate(of_reading(runs[0], reading)):
        label = f"mean {point['mean']:g}, width {point['width']:g}"
        rows.append(row(label, lambda run, n=number: of_reading(run, reading)[n]))  # type: ignore[misc]
    header = (
        "samples of", "L2 to train", "W to train", "JS to train", "W to held-out", "copies (%)",
        "closer than held-out (%)",
    )  # fmt: skip
    return Table(f"Reading `{reading}`, point by point:", header, rows)
