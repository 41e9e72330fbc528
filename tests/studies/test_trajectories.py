"""Study 6's rule and numbers, on runs whose verdict is known."""

import numpy as np
import pytest
from scipy import stats

from studies.trajectories_judgement import correlation, diversity_ratio, judge, loss_ratio, parts, verdict


def traced(*, factor: float = 7.5, loss: float = 2.0, end: float = 0.1, noise: float = 0.1) -> dict:
    """A run whose ten memorized conditions overshoot by ``factor`` at guidance 7.5."""
    generator = np.random.default_rng(0)
    conditions = []
    for number in range(40):
        memorized = number < 10
        similarity = -0.1 if memorized else -0.6
        score = similarity + noise * generator.standard_normal()
        first = {"guided": loss if memorized else 1.0, "conditional": 1.0, "unconditional": 1.0}
        own = dict.fromkeys(("d1", "d2", "d1_final", "d2_final"), score)
        conditions.append(
            {"name": str(number), "memorized": memorized, "similarity": similarity - 0.01 * (number % 7), **own,
             "overestimation": factor if memorized else 1.0, "normalised_loss": 0.0, "first_loss": first}
        )  # fmt: skip
    line = [0.0, 0.5, 1.0]
    curves = {
        name: {"w_target": line, "w_initial": line[::-1], "diversity": [1.0, 1.0, last]}
        for name, last in (("one image", end), ("diverse", 1.0))
    }
    return {
        "guidance": 7.5, "alpha_bar": line, "lines": {"w_target": line}, "conditions": conditions, "curves": curves,
        "sweep": [{"guidance": 1.0, "conditions": conditions}], "detection": {"wen": {"auc": 0.9, "tpr": 0.5}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("run", "unmet", "expected"),
    [
        (traced(), set(), "holds"),
        (traced(factor=5.0), {"overestimation"}, "holds in part"),
        (traced(loss=0.9, end=0.6), {"early loss", "diversity"}, "holds in part"),
        (traced(factor=0.5, loss=0.9, end=0.6, noise=50.0),
         {"correlation", "overestimation", "early loss", "diversity"}, "not here"),
    ],
    ids=["all", "no overshoot", "two unmet", "none"],
)  # fmt: skip
def test_the_verdict_follows_the_rule(run, unmet, expected):
    runs = [run] * 3
    assert {name for name, holds in parts(runs).items() if not holds} == unmet
    assert verdict(runs) == expected
    told = judge(runs)
    assert all(name in told.summary for name in unmet)
    assert len(told.readings) == 3


def test_the_numbers_are_those_of_scipy_and_of_the_groups():
    run = traced(noise=0.3)
    for group in (None, True, False):
        chosen = [one for one in run["conditions"] if group is None or one["memorized"] is group]
        expected = stats.pearsonr([one["d1"] for one in chosen], [one["similarity"] for one in chosen]).statistic
        assert correlation(run, "d1", group) == pytest.approx(expected)
    assert loss_ratio(run) == pytest.approx(2.0)
    assert diversity_ratio(run) == pytest.approx(0.1)
