"""What study 4's curves say: copies at equal quality, the verdict's rule, tables, and the figure's panels."""

from collections.abc import Iterable, Sequence
from typing import Any

from studies.ambient_runs import CRITERIA, HEADLINE
from studies.figures import COLORS
from studies.spread import Spread
from studies.study import Judgement, Result, Table

CLAIMED = 0.92
# Curves whose Frechet distance differs by less than this share count as of one quality at the end of training.
TOLERANCE = 0.05
# Below this share of copies in plain training there is nothing to reduce.
LEAST_COPIES = 0.01
MAIN = "main"

RULE = (
    "the NN ratio's share of copies is compared at equal quality: at the lowest Frechet distance that plain and "
    "Ambient training both reach, each curve over training time read where it first gets there (stopping plain "
    "training early is allowed for). *Holds* if at every number of images some sigma_n avoids "
    f"{CLAIMED:.0%} or more of the copies in the mean over seeds; *holds in part* if at some number of images the "
    "copies fall in every seed for at least half of the sigma_n; otherwise *not here*."
)

Curve = Sequence[dict[str, Any]]


def curves(run: Result, reading: str, count: int) -> dict[float | None, Curve]:
    """One seed's curves of a reading at a number of images, by sigma_n; None is plain training."""
    return {
        one["noise"]: one["curve"] for one in run["curves"] if one["reading"] == reading and one["count"] == count
    }  # fmt: skip


def copies_at(curve: Curve, quality: float, criterion: str = HEADLINE) -> float:
    """The share of copies where the curve first reaches a Frechet distance, interpolated between its points.

    >>> points = [{"frechet": 2.0, "copies": {"nn_ratio": 0.0}}, {"frechet": 1.0, "copies": {"nn_ratio": 0.4}}]
    >>> copies_at(points, 1.5)
    0.2
    """
    before = None
    for point in curve:
        if point["frechet"] <= quality:
            if before is None:
                return point["copies"][criterion]
            part = (before["frechet"] - quality) / (before["frechet"] - point["frechet"])
            return before["copies"][criterion] + part * (point["copies"][criterion] - before["copies"][criterion])
        before = point
    raise ValueError(f"the curve does not reach {quality}")


def equal_quality(plain: Curve, other: Curve) -> float:
    """The lowest Frechet distance that both curves reach."""
    return max(min(point["frechet"] for point in curve) for curve in (plain, other))


def reductions(
    runs: Sequence[Result], reading: str, count: int, noise: float, criterion: str = HEADLINE
) -> list[float] | None:
    """Of each seed, the share of plain training's copies that Ambient avoids at equal quality; negative: it adds some.

    None where plain training copies less than ``LEAST_COPIES`` in some seed.
    """
    found = []
    for run in runs:
        of = curves(run, reading, count)
        quality = equal_quality(of[None], of[noise])
        base = copies_at(of[None], quality, criterion)
        if base < LEAST_COPIES:
            return None
        found.append(1 - copies_at(of[noise], quality, criterion) / base)
    return found


def verdict(runs: Sequence[Result]) -> str:
    """By ``RULE``."""
    best, partly = [], False
    for count in counts(runs):
        spreads = [Spread.of(one) if one else None for one in _all(runs, MAIN, count)]
        best.append(max((one.mean for one in spreads if one), default=0.0))
        partly = partly or sum(one is not None and one.low > 0 for one in spreads) * 2 >= len(spreads)
    if min(best) >= CLAIMED:
        return "holds"
    return "holds in part" if partly else "not here"


def judge(runs: Sequence[Result], told: dict[str, str]) -> Judgement:
    """The judgement.

    Args:
        runs: one seed's result each.
        told: the other readings that were run, name -> in words.
    """
    parts, short = [], []
    for count in counts(runs):
        found = {noise: one for noise in noises(runs, MAIN, count) if (one := reductions(runs, MAIN, count, noise))}
        end = Spread.of(_last(runs, MAIN, count, None, HEADLINE))
        if not found:
            parts.append(
                f"with {count} images plain training hardly copies at equal quality ({end.mean:.1%} in the end)"
            )
            continue
        noise = max(found, key=lambda one: Spread.of(found[one]).mean)
        best = Spread.of(found[noise])
        other = reductions(runs, MAIN, count, noise, "calibrated")
        counted = "" if other is None else f"; by the calibrated criterion {_change(Spread.of(other)).split()[0]}"
        short.append(f"{-best.mean:+.0%} with {count} images (best of {len(found)} sigma_n: {noise:g}{counted})")
        parts.append(
            f"with {count} images {end.mean:.0%} of the samples of plain training are copies in the end; at equal "
            f"quality they are {_at_equal(runs, count, noise)}"
        )
    return Judgement(
        verdict(runs),
        f"By the NN ratio, {'; '.join(parts)}. The claim is {-CLAIMED:.0%}.",
        tables=[_equal_table(runs), *(_end_table(runs, count) for count in counts(runs))],
        readings=[_told(runs, name, text) for name, text in told.items()],
        headline=f"at equal quality Ambient targets change the share of copies by {', '.join(short)}; claimed "
        f"{-CLAIMED:.0%}."
        if short
        else "",
    )


def _at_equal(runs: Sequence[Result], count: int, noise: float) -> str:
    """Copies of plain training and of one sigma_n at equal quality, what another criterion says, and both ends."""
    pairs = [(curves(run, MAIN, count)[None], curves(run, MAIN, count)[noise]) for run in runs]
    plain, other = (
        Spread.of(copies_at(pair[side], equal_quality(*pair)) for pair in pairs).mean for side in (0, 1)
    )  # fmt: skip
    by = {name: reductions(runs, MAIN, count, noise, name) for name in (HEADLINE, "calibrated")}
    told = {name: "no change to speak of" if found is None else _change(Spread.of(found)) for name, found in by.items()}
    ends = [Spread.of(pair[side][-1]["frechet"] for pair in pairs).text() for side in (0, 1)]
    return (
        f"{plain:.1%}, and {other:.1%} by Ambient with sigma_n {noise:g} (the best here): {told[HEADLINE]}, by the "
        f"calibrated criterion {told['calibrated']} (it ends at a Frechet distance of {ends[1]}, plain training at "
        f"{ends[0]})"
    )


def counts(runs: Sequence[Result], reading: str = MAIN) -> list[int]:
    """Numbers of training images of a reading."""
    return sorted({one["count"] for one in runs[0]["curves"] if one["reading"] == reading})


def copying(runs: Sequence[Result], reading: str) -> bool:
    """Whether any training of a reading copies anything, by the NN ratio."""
    return any(
        point["copies"][HEADLINE] > 0 for run in runs for one in run["curves"] if one["reading"] == reading
        for point in one["curve"]
    )  # fmt: skip


def noises(runs: Sequence[Result], reading: str, count: int) -> list[float]:
    """The sigma_n of a reading."""
    return sorted(noise for noise in curves(runs[0], reading, count) if noise is not None)


def panel(axis: Any, runs: Sequence[Result], reading: str, count: int, title: str) -> None:
    """Copies against Frechet distance over training time, one line for each sigma_n, averaged over seeds."""
    every = sorted({one["noise"] for one in runs[0]["curves"] if one["noise"] is not None})
    for noise in [None, *noises(runs, reading, count)]:
        of = [curves(run, reading, count)[noise] for run in runs]
        steps = range(len(of[0]))
        x = [sum(curve[step]["frechet"] for curve in of) / len(of) for step in steps]
        y = [100 * sum(curve[step]["copies"][HEADLINE] for curve in of) / len(of) for step in steps]
        label = "plain" if noise is None else f"Ambient, sigma_n {noise:g}"
        # A sigma_n has one colour in all panels.
        color = COLORS[0] if noise is None else COLORS[(1 + every.index(noise)) % len(COLORS)]
        axis.plot(x, y, "-" if noise is None else "--", color=color, label=label, marker=".", markersize=4)
        axis.plot(x[-1:], y[-1:], marker="o", color=color)
    axis.set(xlabel="Frechet distance (lower is better)", ylabel="copies (%)", title=title)
    axis.set_ylim(bottom=min(0, axis.get_ylim()[0]), top=max(1, axis.get_ylim()[1]))


def _all(runs: Sequence[Result], reading: str, count: int) -> list[list[float] | None]:
    return [reductions(runs, reading, count, noise) for noise in noises(runs, reading, count)]


def _last(runs: Sequence[Result], reading: str, count: int, noise: float | None, criterion: str) -> Iterable[float]:
    return [curves(run, reading, count)[noise][-1]["copies"][criterion] for run in runs]


def _change(avoided: Spread) -> str:
    """The change of the share of copies, as a person writes it: less is negative."""
    # Adding 0.0 turns a rounded minus zero into zero.
    mean, least, most = (round(-share, 2) + 0.0 for share in (avoided.mean, avoided.high, avoided.low))
    return f"{mean:+.0%} ({least:+.0%} to {most:+.0%})"


def _equal_table(runs: Sequence[Result]) -> Table:
    rows = []
    for count in counts(runs):
        for noise in noises(runs, MAIN, count):
            pairs = [(curves(run, MAIN, count)[None], curves(run, MAIN, count)[noise]) for run in runs]
            qualities = [equal_quality(*pair) for pair in pairs]
            shares = [
                Spread.of(100 * copies_at(pair[side], quality) for pair, quality in zip(pairs, qualities, strict=True))
                for side in (0, 1)
            ]
            fewer = []
            for criterion in (HEADLINE, "absolute", "calibrated"):
                found = reductions(runs, MAIN, count, noise, criterion)
                fewer.append("hardly any in plain training" if found is None else _change(Spread.of(found)))
            rows.append(
                (
                    str(count),
                    f"{noise:g}",
                    Spread.of(qualities).text(),
                    *(one.text(".1f", " %") for one in shares),
                    *fewer,
                )
            )
    header = (
        "images", "sigma_n", "Frechet", "copies, plain", "copies, Ambient", "change by NN ratio",
        "by absolute", "by calibrated",
    )  # fmt: skip
    return Table("At equal quality (the lowest Frechet distance that both reach):", header, rows)


def _end_table(runs: Sequence[Result], count: int) -> Table:
    names = [one.name for one in CRITERIA]
    rows = []
    for noise in [None, *noises(runs, MAIN, count)]:
        last = [curves(run, MAIN, count)[noise][-1] for run in runs]
        rows.append(_row("plain" if noise is None else f"Ambient, sigma_n {noise:g}", last))
    floors = [next(one for one in run["held_out"] if one["count"] == count) for run in runs]
    rows.append(_row("*held-out images*", floors))
    header = ("training", "Frechet", *names)
    return Table(f"At the end of training on {count} images, share flagged by each criterion:", header, rows)


def _row(name: str, points: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    shares = (Spread.of(100 * point["copies"][one.name] for point in points).text(".1f", " %") for one in CRITERIA)
    return (name, Spread.of(point["frechet"] for point in points).text(), *shares)


def _told(runs: Sequence[Result], reading: str, text: str) -> str:
    parts = []
    for count in counts(runs, reading):
        plain = Spread.of(100 * share for share in _last(runs, reading, count, None, HEADLINE))
        for noise in noises(runs, reading, count):
            other = Spread.of(100 * share for share in _last(runs, reading, count, noise, HEADLINE))
            found = reductions(runs, reading, count, noise)
            change = "plain training hardly copies either" if found is None else _change(Spread.of(found))
            parts.append(
                f"{count} images, sigma_n {noise:g}: in the end {other.text('.1f', ' %')} copies against "
                f"{plain.text('.1f', ' %')}; at equal quality {change}"
            )
    count = counts(runs, reading)[0]
    quality, usual = (
        Spread.of(curves(run, name, count)[None][-1]["frechet"] for run in runs).text() for name in (reading, MAIN)
    )
    told = f"{text}: {'; '.join(parts)}."
    if quality == usual:
        return told
    return f"{told} Plain training itself ends here at a Frechet distance of {quality}, in the tables above at {usual}."
