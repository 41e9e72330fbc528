import json

import numpy as np
import pytest
from scipy import stats

from memfast.foundation.errors import InputError
from memfast.timesteps import ConfidenceInterval, Uniform, density_from_dict

T = 1000
# mean, width, sigma, Z, then (mass in the interval, smallest T p(t), mean t) for each of the three mixtures.
TABLE = [
    (100, 100, 74.1, 0.910, (0.554, 5.8e-32, 113), (0.513, 0.090, 148), (0.509, 0.10, 152)),
    (550, 300, 222.4, 0.972, (0.516, 0.088, 543), (0.510, 0.113, 541), (0.494, 0.179, 538)),
    (550, 700, 518.9, 0.663, (0.756, 0.663, 514), (0.737, 0.777, 509), (0.750, 0.697, 513)),
    (1000, 100, 74.1, 0.503, (0.507, 4e-39, 941), (0.280, 0.497, 722), (0.461, 0.10, 897)),
    (1000, 700, 518.9, 0.473, (0.530, 0.255, 631), (0.436, 0.647, 562), (0.512, 0.329, 618)),
]
MODES = [{"tails": "renormalize"}, {"tails": "uniform"}, {"mix": 0.9}]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"mean{row[0]}-width{row[1]}")
@pytest.mark.parametrize("mode", range(3), ids=["renormalize", "uniform", "mix0.9"])
def test_the_known_table(row, mode):
    mean, width, sigma, inside, *columns = row
    density = ConfidenceInterval.from_mean_width(mean, width, **MODES[mode])
    assert density.scale == pytest.approx(sigma, abs=0.05)
    assert density.inside(T) == pytest.approx(inside, abs=0.0005)
    p, t = density.probabilities(T), np.arange(1, T + 1)
    mass, rarest, mean_t = columns[mode]
    held = p[(t >= mean - width / 2) & (t <= mean + width / 2)].sum()
    assert held == pytest.approx(mass, abs=0.00051)
    assert p.min() * T == pytest.approx(rarest, rel=0.03, abs=0.0005 if rarest > 1e-3 else 0)
    assert density.mean(T) == pytest.approx(mean_t, abs=0.51)


@pytest.mark.parametrize("bounds", [(600, 1000), (-50, 150), (950, 1050), (400.5, 401.5), (1200, 1300)])
@pytest.mark.parametrize("coverage", [0.5, 0.9])
@pytest.mark.parametrize("size", [63, 500, 1000])
def test_probabilities_equal_scipys_integrals(bounds, coverage, size):
    low, high = bounds
    scale = (high - low) / 2 / stats.norm.ppf((1 + coverage) / 2)
    law = stats.norm((low + high) / 2, scale)
    edges = np.arange(size + 1) + 0.5
    masses = np.where(edges[:-1] > law.mean(), law.sf(edges[:-1]) - law.sf(edges[1:]), np.diff(law.cdf(edges)))
    below, above, inside = law.cdf(0.5), law.sf(size + 0.5), masses.sum()
    clamped = masses.copy()
    clamped[0] += below
    clamped[-1] += above
    expected = {"uniform": masses + (1 - inside) / size, "clamp": clamped}
    if inside > 1e-250:
        expected["renormalize"] = masses / inside
    for tails, reference in expected.items():
        ours = ConfidenceInterval(low, high, coverage, tails=tails).probabilities(size)
        assert np.allclose(ours, reference / reference.sum(), rtol=1e-7, atol=1e-15)


def test_mix_and_floor():
    focus = ConfidenceInterval(400, 600, tails="renormalize").probabilities(T)
    assert np.allclose(ConfidenceInterval(400, 600, mix=0.7).probabilities(T), 0.7 * focus + 0.3 / T)
    assert np.allclose(ConfidenceInterval(400, 600, mix=0.0).probabilities(T), 1 / T)
    floored = ConfidenceInterval(400, 600, uniform_floor=0.1)
    assert floored.gaussian_share(T) == 0.9
    assert np.allclose(floored.probabilities(T), 0.9 * focus + 0.1 / T)
    assert ConfidenceInterval(950, 1050, uniform_floor=0.1).gaussian_share(T) == pytest.approx(0.5027, abs=1e-4)


def test_far_outside_everything_is_spread_or_refused():
    assert np.allclose(ConfidenceInterval(90000, 90010).probabilities(T), 1 / T)
    with pytest.raises(InputError, match="expected some mass on the timesteps, received none at all"):
        ConfidenceInterval(90000, 90010, tails="renormalize").probabilities(T)
    assert ConfidenceInterval(90000, 90010, tails="clamp").probabilities(T)[-1] == 1


@pytest.mark.parametrize("tails", ["uniform", "renormalize", "clamp"])
@pytest.mark.parametrize("mix", [None, 0.6])
def test_continuous_forms_agree_with_each_other_and_with_the_cells(tails, mix):
    density = ConfidenceInterval(850, 1010, tails=tails, mix=mix)
    q = np.linspace(0, 1, 101)
    x = density.quantile(q, T)
    assert np.allclose(density.cdf(x, T), q, atol=1e-12)
    edges = np.arange(T + 1) + 0.5
    assert np.allclose(np.diff(density.cdf(edges, T)), density.probabilities(T), atol=1e-12)
    middle = np.linspace(700.2, 990.2, 59)
    slope = (density.cdf(middle + 1e-3, T) - density.cdf(middle - 1e-3, T)) / 2e-3
    assert np.allclose(density.pdf(middle, T), slope, rtol=1e-6, atol=1e-9)
    assert density.pdf([0.4, T + 0.6], T).tolist() == [0, 0]


def test_bounds_and_mean_width_are_the_same_interval():
    assert ConfidenceInterval(600, 1000) == ConfidenceInterval.from_mean_width(800, 400)
    assert (ConfidenceInterval(600, 1000).mu, ConfidenceInterval.from_mean_width(1000, 100).high) == (800, 1050)


def test_wide_intervals_are_uniform_in_effect():
    p = ConfidenceInterval.from_mean_width(550, 700).probabilities(T)
    assert np.exp(-np.sum(p * np.log(p))) > 977
    assert "effectively" in ConfidenceInterval.from_mean_width(550, 700).describe(T)


def test_dictionary():
    density = ConfidenceInterval(600, 1000, tails="clamp", mix=0.9, uniform_floor=0.05)
    assert density_from_dict(json.loads(json.dumps(density.to_dict()))) == density
    assert density_from_dict(Uniform().to_dict()) == Uniform()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: ConfidenceInterval(500, 500),
            "low, high: expected low below high (a width above 0), received low=500",
        ),
        (lambda: ConfidenceInterval(600, 500), "low below high"),
        (lambda: ConfidenceInterval(float("nan"), 500), "low: expected a finite number, received nan"),
        (lambda: ConfidenceInterval.from_mean_width(500, 0), "width: expected a finite number above 0, received 0"),
        (lambda: ConfidenceInterval(1, 2, coverage=1.0), "coverage: expected a finite number above 0 and below 1"),
        (lambda: ConfidenceInterval(1, 2, tails="fold"), "tails: expected one of uniform, renormalize, clamp"),
        (lambda: ConfidenceInterval(1, 2, mix=1.5), "mix: expected a finite number from 0 to 1, received 1.5"),
        (lambda: ConfidenceInterval(1, 2, mix=float("nan")), "mix: expected a finite number from 0 to 1, received nan"),
        (lambda: ConfidenceInterval(1, 2).probabilities(0), "T: expected the number of timesteps, 1 or more"),
        (lambda: ConfidenceInterval(1, 2).quantile([1.5]), "q: expected fractions from 0 to 1"),
        (lambda: density_from_dict({"name": "gauss"}), "timestep density: expected one of uniform"),
        (
            lambda: density_from_dict({"name": "confidence_interval", "lo": 1}),
            "expected its own arguments (low, high, coverage, tails,",
        ),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError) as error:
        make()
    assert text in str(error.value)
