"""How often the 95 % interval of each value holds the truth, by simulation; docs/metrics.md has the table.

The truth is the value's mean over all draws of the set whose samples it is a mean of; the other sets stay as they are,
as the intervals say. ``make soak`` measures all of them again and compares them with the table; the short test runs
always.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from memfast.detectors import roc
from memfast.foundation import proportions
from memfast.metrics.base import MetricInputs
from memfast.metrics.registry import CATALOG, METRICS
from memfast.metrics.shared_neighbors import SharedNeighbors

Interval = tuple[float, float]


@dataclass(frozen=True)
class Case:
    """One interval in one situation.

    Attributes:
        name: what has the interval.
        situation: in words, for the table.
        draw: a generator -> the interval and the value of a fresh sample.
        truth: what the interval should hold; None: the mean of the values of the draws.
    """

    name: str
    situation: str
    draw: Callable[[np.random.Generator], tuple[Interval, float]]
    truth: float | None = None


def measured(case: Case, draws: int, seed: int = 0) -> float:
    """The share of draws whose interval holds the truth."""
    generator = np.random.default_rng(seed)
    found = [case.draw(generator) for _ in range(draws)]
    truth = float(np.mean([value for _, value in found])) if case.truth is None else case.truth
    return float(np.mean([low <= truth <= high for (low, high), _ in found]))


def metric_case(
    value: str, situation: str, redrawn: str, *, shift: float = 0.5, rows: int = 80, copies: int = 0
) -> Case:
    """A value of the catalogue on Gaussians in 4 dimensions; ``redrawn`` is the set that is drawn again."""
    metric = METRICS.find(value)()
    fixed = np.random.default_rng(7)
    sets = {
        "generated": fixed.standard_normal((rows, 4)) + shift / 2,
        "training": fixed.standard_normal((rows, 4)),
        "test": fixed.standard_normal((rows, 4)),
    }

    def draw(generator: np.random.Generator) -> tuple[Interval, float]:
        drawn = dict(sets)
        names = ("generated", "training", "test") if redrawn == "all" else (redrawn,) if redrawn in sets else ()
        seed = int(generator.integers(1 << 31)) if redrawn == "directions" else 0
        for name in names:
            drawn[name] = generator.standard_normal((rows, 4)) + (shift / 2 if name == "generated" else 0)
        if copies:
            flags = generator.random(rows) < copies / rows
            drawn["generated"][flags] = drawn["training"][generator.integers(0, rows, flags.sum())] + 1e-6
        outcome = metric.compute(
            MetricInputs(drawn["generated"], drawn["training"], drawn["test"], SharedNeighbors(drawn), seed)
        )[value]
        # No interval is no claim; it is counted as a miss.
        return outcome.interval or (np.inf, -np.inf), outcome.value

    return Case(value, situation, draw)


def image_case() -> Case:
    """Structural similarity of noisy images."""
    metric = METRICS.find("structural_similarity")()
    training = np.random.default_rng(7).random((30, 12 * 12))

    def draw(generator: np.random.Generator) -> tuple[Interval, float]:
        partners = training[generator.integers(0, 30, 60)]
        generated = np.clip(partners + generator.uniform(0, 0.3, (60, 1)) * generator.standard_normal((60, 144)), 0, 1)
        shared = SharedNeighbors({"generated": generated, "training": training})
        inputs = MetricInputs(generated, training, None, shared, item_shape=(12, 12))
        outcome = metric.compute(inputs)["structural_similarity"]
        return outcome.interval, outcome.value

    return Case("structural_similarity", "60 noisy images", draw)


def share_case(kind: str, share: float, total: int) -> Case:
    """An interval of a share."""

    def draw(generator: np.random.Generator) -> tuple[Interval, float]:
        count = int(generator.binomial(total, share))
        return getattr(proportions, kind)(count, total), count / total

    return Case(kind, f"share {share:g} of {total}", draw, share)


def difference_case(first: float, second: float, total: int) -> Case:
    """Newcombe's interval of a difference of shares."""

    def draw(generator: np.random.Generator) -> tuple[Interval, float]:
        counts = [int(generator.binomial(total, share)) for share in (first, second)]
        interval = proportions.difference(counts[0], total, counts[1], total)
        return interval, (counts[0] - counts[1]) / total

    return Case("difference", f"shares {first:g} and {second:g} of {total}", draw, first - second)


def area_case(area: float, n: int, *, exponential: bool = False) -> Case:
    """The area under the curve of scores with a known area."""
    truth = np.arange(2 * n) < n

    def draw(generator: np.random.Generator) -> tuple[Interval, float]:
        if exponential:
            scores = generator.exponential(np.where(truth, area / (1 - area), 1.0))
        else:
            scores = generator.normal(np.where(truth, stats.norm.ppf(area) * 2**0.5, 0.0))
        found = roc(scores, truth, resamples=1)
        return found.auc_interval, found.auc

    words = "exponential" if exponential else "normal"
    return Case("roc area", f"area {area:g}, {n} + {n}, {words} scores", draw, area)


def rate_case(n: int, shift: float) -> Case:
    """True positives at 10 % false ones."""
    truth = np.arange(2 * n) < n
    rate = float(stats.norm.sf(stats.norm.isf(0.1) - shift))

    def draw(generator: np.random.Generator) -> tuple[Interval, float]:
        value, interval = roc(generator.normal(np.where(truth, shift, 0.0)), truth, resamples=200).tpr_at(0.1)
        return interval, value

    return Case("tpr_at", f"rate {rate:.2f} at 10 %, {n} + {n}", draw, rate)


CASES = [
    share_case("wilson", 0.5, 20), share_case("wilson", 0.02, 50), share_case("wilson", 0.001, 100),
    share_case("clopper_pearson", 0.5, 20), share_case("clopper_pearson", 0.02, 50),
    share_case("bootstrap", 0.5, 50), share_case("bootstrap", 0.02, 50),
    difference_case(0.3, 0.1, 50), difference_case(0.02, 0.0, 50),
    area_case(0.7, 20), area_case(0.95, 20), area_case(0.99, 20), area_case(0.99, 100),
    area_case(0.95, 20, exponential=True), area_case(0.99, 20, exponential=True),
    rate_case(40, 1.0), rate_case(40, 3.0),
    metric_case("l2_nearest", "80 generated drawn again", "generated"),
    metric_case("kernel_distance", "80 + 80, all drawn again", "all"),
    metric_case("kernel_distance_rbf", "80 + 80, all drawn again", "all"),
    metric_case("precision", "80 generated drawn again", "generated"),
    metric_case("precision", "the same, far away (share near 0)", "generated", shift=4.0),
    metric_case("density", "80 generated drawn again", "generated"),
    metric_case("recall", "80 training drawn again", "training"),
    metric_case("coverage", "80 training drawn again", "training"),
    metric_case("realistic", "80 generated drawn again", "generated"),
    metric_case("auth_pct", "80 generated drawn again", "generated"),
    metric_case("neighbor_ratio_below", "no copies (share near 0)", "generated"),
    metric_case("neighbor_ratio_below", "10 copies of 80", "generated", copies=10),
    metric_case("identifiability", "80 training drawn again", "training"),
    image_case(),
    metric_case("sliced_wasserstein_2", "directions drawn again", "directions"),
    metric_case("generalization_gap", "all drawn again", "all", rows=40),
]  # fmt: skip


DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
DRAWS = 400
# The fit of this one takes seconds.
SLOW = {"generalization_gap": 100}


def stated(case: Case) -> float:
    """The coverage that the table of the docs states."""
    start = f"| `{case.name}` | {case.situation} | "
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith(start)]
    assert len(rows) == 1, f"docs/metrics.md needs one row that starts with {start!r}"
    return float(rows[0].removeprefix(start).split("%")[0]) / 100


def test_every_interval_has_its_coverage_in_the_docs():
    """One row per case, and a case for every value of the catalogue that has an interval."""
    for case in CASES:
        assert 0 <= stated(case) <= 1
    with_interval = {value.name for metric in CATALOG for value in metric.values if value.interval != "none"}
    assert with_interval <= {case.name for case in CASES}


# Wilson's covers less of small shares, as the table says: for them there is Clopper and Pearson's.
CHEAP = [
    case
    for case in CASES
    if case.name in ("clopper_pearson", "bootstrap", "difference", "roc area", "auth_pct", "neighbor_ratio_below")
]


@pytest.mark.parametrize("case", CHEAP, ids=lambda case: f"{case.name}, {case.situation}")
def test_cheap_intervals_cover_what_they_promise(case):
    """200 draws of what covers 95 % hold the truth 178 times or more but for one case in a thousand."""
    assert measured(case, 200) >= 0.89


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}, {case.situation}")
def test_the_coverage_is_the_one_in_the_docs(case):
    draws = SLOW.get(case.name, DRAWS)
    found, share = measured(case, draws, seed=1), stated(case)
    # Four standard deviations of the difference of two such measurements, and the rounding of the table.
    noise = 4 * (2 * max(share * (1 - share), 0.01) / draws) ** 0.5 + 0.005
    assert found == pytest.approx(share, abs=noise)
