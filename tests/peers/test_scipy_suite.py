"""SciPy's own tests of its Wasserstein distance and of binomial intervals, run against memfast.

The tests come from the installed wheel; each is called with SciPy's function replaced by ours.
"""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from memfast.criteria import clopper_pearson, wilson
from memfast.metrics import wasserstein, wasserstein_per_dimension

stats_suite = pytest.importorskip("scipy.stats.tests.test_stats", reason="this SciPy brings no tests")
morestats_suite = pytest.importorskip("scipy.stats.tests.test_morestats", reason="this SciPy brings no tests")

REFUSED = {"test_inf_values": "infinite values are refused, not given an infinite distance"}


def methods(suite):
    return [
        pytest.param(name, marks=[pytest.mark.skip(reason=REFUSED[name])] if name in REFUSED else [])
        for name, _ in inspect.getmembers(suite, inspect.isfunction)
        if name.startswith("test_")
    ]


@pytest.mark.parametrize("name", methods(stats_suite.TestWassersteinDistance))
@pytest.mark.parametrize("ours", ["per dimension", "wasserstein"])
def test_wasserstein_distance(name, ours, monkeypatch):
    def distance(u, v, u_weights=None, v_weights=None):
        if ours == "wasserstein":
            return wasserstein(u, v, 1, x_weights=u_weights, y_weights=v_weights).value
        return wasserstein_per_dimension(u, v, 1, x_weights=u_weights, y_weights=v_weights)[0]

    monkeypatch.setattr(scipy.stats, "wasserstein_distance", distance)
    getattr(stats_suite.TestWassersteinDistance(), name)()


def binomtest(k, n, p=0.5, alternative="two-sided"):
    """SciPy's object with our two-sided intervals; one-sided ones are SciPy's own."""
    real = REAL_BINOMTEST(k, n, p, alternative)

    def proportion_ci(confidence_level=0.95, method="exact"):
        if alternative != "two-sided" or method == "wilsoncc":
            return real.proportion_ci(confidence_level, method)
        low, high = {"exact": clopper_pearson, "wilson": wilson}[method](k, n, confidence_level)
        used.append((k, n))
        return SimpleNamespace(low=low, high=high)

    return SimpleNamespace(pvalue=real.pvalue, statistic=real.statistic, proportion_ci=proportion_ci)


REAL_BINOMTEST = scipy.stats.binomtest
used = []


@pytest.mark.parametrize("name", ["confidence_intervals1", "confidence_intervals2", "ci_wilson_method"])
def test_binomial_intervals(name, monkeypatch):
    """Every row of the parametrized tests of SciPy."""
    monkeypatch.setattr(scipy.stats, "binomtest", binomtest)
    used.clear()
    method = getattr(morestats_suite.TestBinomTest(), f"test_{name}")
    called = 0
    for arguments in rows_of(method):
        method(**arguments)
        called += 1
    assert called > 0
    assert used, "none of these rows was two-sided"


def rows_of(function):
    """The combinations of a parametrized test, as keyword arguments."""
    rows = [{}]
    for mark in getattr(function, "pytestmark", []):
        if mark.name == "parametrize":
            names, values = mark.args
            names = [one.strip() for one in names.split(",")] if isinstance(names, str) else list(names)
            sets = [dict(zip(names, value if len(names) > 1 else [value], strict=True)) for value in values]
            rows = [{**row, **one} for row in rows for one in sets]
    return rows


def test_the_reference_data_of_the_distances():
    """Jensen-Shannon: SciPy's function on random histograms, from our samples of one value per bin."""
    from scipy.spatial.distance import jensenshannon

    from memfast.metrics import jensen_shannon

    draw = np.random.default_rng(0)
    for _ in range(20):
        counts = draw.integers(1, 50, (2, 12))
        x, y = (np.repeat(np.arange(12.0), row) for row in counts)
        ours = jensen_shannon(x, y, bins=12, pseudocount=0)
        assert ours == pytest.approx(jensenshannon(*counts), rel=1e-12)
