"""The rules of the verdicts, on numbers whose verdict is known."""

import numpy as np
import pytest
import torch
from scipy import stats

from memfast import schedules
from memfast.timesteps import ConfidenceInterval, Uniform
from studies import densities, isolation, onset, where, where_judgement
from studies.interval_grid import METRICS, change, correlations, greatest_drop
from studies.interval_judgement import judge, verdict

READINGS = ("main", "other")
MEANS, WIDTHS = (100, 400, 700, 1000), (100, 300, 700)


def sweep(main: float, other: float) -> dict:
    """A run whose distances fall by these shares from the least mean to the greatest, and grow a little with width."""
    points = []
    for name, drop in zip(READINGS, (main, other), strict=True):
        for mean in MEANS:
            for width in WIDTHS:
                value = (1 - drop * (mean - 100) / 900) * (1 + width / 10_000)
                distances = dict.fromkeys(METRICS, value)
                points.append(
                    {
                        "reading": name, "mean": mean, "width": width, "density_mean": mean, "train": distances,
                        "test": distances, "copies": 0.0, "closer": mean / 2000,
                    }
                )  # fmt: skip
    floor = {"train": dict.fromkeys(METRICS, 0.1), "test": dict.fromkeys(METRICS, 0.1), "copies": 0.0, "closer": 0.5}
    return {"points": points, "pretrained": floor, "held_out": floor}


@pytest.mark.parametrize(
    ("main", "other", "expected"),
    [(0.94, 0.0, "holds"), (0.5, 0.0, "holds in part"), (0.0, 0.94, "holds in part"), (0.1, 0.1, "not here"),
     (-0.9, -0.9, "not here")],
)  # fmt: skip
def test_the_sweep_holds_only_with_its_direction_and_size(main, other, expected):
    assert verdict([sweep(main, other)] * 3, READINGS) == expected


def test_the_sweeps_numbers_are_those_of_scipy_and_of_the_ends():
    run = sweep(0.94, 0.0)
    points = [point for point in run["points"] if point["reading"] == "main"]
    expected = stats.pearsonr([p["mean"] for p in points], [p["train"]["l2"] for p in points]).statistic
    assert correlations(run, "main", "mean")["l2"] == pytest.approx(expected)
    assert correlations(run, "main", "mean")["copies"] == 0.0
    assert change(run, "main", "wasserstein") == pytest.approx(-0.94)
    assert greatest_drop(run, "main", "wasserstein") == pytest.approx(-0.94)


def test_the_sweep_says_where_neighbours_disagree():
    told = judge([sweep(0.94, 0.0)] * 3, {"main": "one", "other": "two"}, "something").summary
    assert "-94.0% (W)" in told
    assert "from 5% to 50%, so the two measures of memorization disagree" in told
    assert "W begins at 1.037, so a fall of 80% would end at 0.207; held-out items are at 0.100." in told


def test_a_reading_that_falls_short_by_one_distance_is_named():
    run = sweep(0.0, 0.6)
    for point in run["points"]:
        if point["reading"] == "other":
            point["train"] = point["train"] | {"shannon": 1 - 0.196 * (point["mean"] - 100) / 900}
    told = judge([run] * 3, {"main": "one", "other": "two"}, "something")
    assert told.verdict == "not here"
    assert told.summary.endswith(
        "Only JS, -19.6% (-19.6% to -19.6%), keeps it from *holds in part*, which asks for -20%."
    )
    assert told.headline.endswith("; by the reading `other` -60.0%, and that to held-out items -60.0%.")
    assert "Only" not in judge([sweep(0.0, 0.6)] * 3, {"main": "one", "other": "two"}, "something").summary


def test_where_there_are_copies_they_speak_for_the_neighbours():
    run = sweep(-0.5, 0.0)
    for point in run["points"]:
        point["copies"], point["closer"] = 0.8 - 0.3 * (point["mean"] - 100) / 900, 1.0
    told = judge([run] * 3, {"main": "one", "other": "two"}, "something")
    assert "copies goes from 80.0% to 50.0%" in told.summary
    assert "from 100% to 100%, so the two measures of memorization disagree" in told.summary
    assert told.readings[0].endswith("copies from 80.0% to 50.0%.")


def swaps(middle: float, low: float, high: float, most: float = 0.9) -> dict:
    """A run in which swapping a band moves these shares of the copies."""
    effects = {"low": low, "middle": middle, "high": high}
    form = {
        "arms": {"uniform": {"copies": most}, "many": {"copies": 0.0}},
        "memorizer": "uniform",
        "general": "many",
        "swaps": {
            band: {"general inside": most * (1 - share), "memorizer inside": most * share}
            for band, share in effects.items()
        },
    }
    return {"forms": {"one": form}}


@pytest.mark.parametrize(
    ("run", "expected"),
    [(swaps(0.9, 0.1, 0.0), "holds"), (swaps(0.5, 0.4, 0.0), "holds in part"), (swaps(0.2, 0.9, 0.0), "not here"),
     (swaps(0.9, 0.1, 0.0, most=0.05), "not here")],
)  # fmt: skip
def test_the_middle_band_must_carry_the_effect(run, expected):
    assert where_judgement.verdict([run] * 3) == expected


def test_every_form_must_agree():
    agrees, differs = swaps(0.9, 0.1, 0.0)["forms"]["one"], swaps(0.2, 0.9, 0.0)["forms"]["one"]
    assert where_judgement.verdict([{"forms": {"one": agrees, "two": agrees}}] * 3) == "holds"
    assert where_judgement.verdict([{"forms": {"one": agrees, "two": differs}}] * 3) == "holds in part"


def test_the_bands_part_the_schedule_at_their_edges():
    low, middle, high = where.bands((0.25, 6.3))
    assert [*low, *middle, *high] == list(range(1000))
    ratio = schedules.linear().sigma / schedules.linear().alpha
    assert ratio[low[-1]] < 0.25 <= ratio[middle[0]]
    assert ratio[middle[-1]] < 6.3 <= ratio[high[0]]


def test_a_swapped_network_answers_by_level():
    one, two = (lambda x, t, labels=None, k=k: torch.full_like(x, k) for k in (1.0, 2.0))
    network = where.Swapped.__new__(where.Swapped)
    torch.nn.Module.__init__(network)
    network.__dict__.update(inside=one, outside=two, rows=range(5, 10))
    x = torch.zeros(3, 1)
    assert network(x, torch.full((3,), 5)).unique().tolist() == [1.0]
    assert network(x, torch.full((3,), 10)).unique().tolist() == [2.0]


@pytest.mark.parametrize(
    ("factor", "power", "expected"),
    [(300, 1.0, "holds"), (6, 1.0, "holds in part"), (300, 0.5, "holds in part"), (300, 0.0, "not here")],
)
def test_the_onset_must_be_proportional(factor, power, expected):
    curves = {
        str(n): {"steps": [], "memorized": [], "onset": factor * 100 * (n / 100) ** power} for n in (50, 100, 200)
    }
    run = {"curves": curves, "onset_share": 0.05}
    assert onset.exponent(run) == pytest.approx(power, abs=1e-12)
    told = onset.judge([run] * 3)
    assert told.verdict == expected
    few, many = (curves[n]["onset"] / int(n) for n in ("50", "200"))
    assert told.summary.endswith(f", from {few:.1f} at n = 50 to {many:.1f} at n = 200.")


def test_an_onset_that_never_came_is_no_onset():
    assert onset.onset([{"step": 10, "memorized": 0.05}], 0.05) is None
    run = {"curves": {"50": {"onset": None}, "100": {"onset": 100.0}}}
    assert onset.exponent(run) == 0.0


def test_the_uniform_density_has_mean_500_and_its_half_is_500_wide():
    assert densities.mean_and_width(Uniform()) == pytest.approx((500.5, 500.0))


@pytest.mark.parametrize("family", densities.FAMILIES)
@pytest.mark.parametrize("mean", [250, 750])
def test_families_are_matched_in_mean_and_width(family, mean):
    target = ConfidenceInterval.from_mean_width(mean, 300)
    found = densities.matched(family, target)
    assert densities.mean_and_width(found) == pytest.approx(densities.mean_and_width(target), abs=1.0)
    difference = found.probabilities(schedules.linear()) - target.probabilities(schedules.linear())
    assert np.abs(difference).sum() > 0.02


@pytest.mark.parametrize(
    ("shift", "noise", "expected"),
    [(0.01, 0.02, "holds"), (0.1, 0.02, "holds in part"), (0.3, 0.2, "not here")],
    ids=["within the seeds", "apart from the interval", "as much as the position"],
)
def test_families_are_alike_only_if_the_position_makes_more_difference_and_the_seeds_cover_them(shift, noise, expected):
    def run(seed):
        points = [
            {"position": position, "family": name, "copies": base + own + noise * seed, "sliced": 0.1,
             "mean": position, "width": 300}
            for position, base in ((250, 0.6), (750, 0.2))
            for name, own in (("interval", 0.0), ("Beta", shift))
        ]  # fmt: skip
        return {"points": points}

    told = densities.judge([run(seed) for seed in (-1, 0, 1)])
    assert told.verdict == expected
    apart = "at mean 250 Beta; at mean 750 Beta" if expected == "holds in part" else "none"
    assert f"Apart from the interval lie: {apart}." in told.summary


@pytest.mark.parametrize(
    ("low", "middle", "high", "expected"),
    [(0.2, 0.5, 0.6, "holds"), (0.2, 0.1, 0.6, "holds in part"), (0.45, 0.6, 0.6, "holds in part"),
     (0.6, 0.1, 0.1, "not here")],
)  # fmt: skip
def test_isolation_holds_only_if_low_noise_carries_the_copies(low, middle, high, expected):
    copies = {"nothing": 0.6, "low noise": low, "middle": middle, "high noise": high}
    arms = {name: {"copies": share, "sliced": 0.1, "least_norm": 0.1} for name, share in copies.items()}
    assert isolation.judge([{"arms": arms}] * 3).verdict == expected
