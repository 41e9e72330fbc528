"""A density of which the schedule leaves little is used as before, and a warning says so."""

import warnings

import pytest

from memfast import schedules
from memfast.objective import DenoisingObjective
from memfast.timesteps import ConfidenceInterval, DensitySchedule, Mixture, SpeeD, TimestepBias, Uniform

INTERVAL = ConfidenceInterval(600, 1000)


@pytest.mark.parametrize(
    ("T", "density", "text"),
    [
        (100, INTERVAL, r"only 0\.6% of the interval's Gaussian lies on the timesteps 1\.\.100; .* spread over all"),
        (1000, ConfidenceInterval(0.6, 1.0), "timesteps from 1 to 1000, not fractions"),
        (1000, ConfidenceInterval(1100, 1300, tails="renormalize"), "lies on the timesteps .* cut off"),
        (1000, ConfidenceInterval(-300, -100), "lies on the timesteps"),
        (500, SpeeD(tau=700), "tau=700 favours every one of the 500 timesteps: it is uniform"),
        (500, SpeeD(tau=0.7), "tau=0.7 favours none"),
        (3, TimestepBias("later"), "portion=0.25 holds none of the 3 timesteps: it is uniform"),
        (100, Mixture((Uniform(), INTERVAL), (0.1, 0.9)), "lies on the timesteps"),
        (100, DensitySchedule(((0, Uniform()), (50, INTERVAL))), "lies on the timesteps"),
    ],
)
def test_warned_of(T, density, text):
    with pytest.warns(UserWarning, match=f"timesteps: .*{text}"):
        objective = DenoisingObjective(schedules.linear(T), timesteps=density)
    assert objective.probabilities.tolist() == density.probabilities(T).tolist()


@pytest.mark.parametrize(
    ("T", "density"),
    [
        (1000, INTERVAL),
        (1000, ConfidenceInterval(950, 1050)),
        (1000, ConfidenceInterval(0, 100)),
        (1000, ConfidenceInterval.from_mean_width(1000, 500)),
        (1000, SpeeD()),
        (1000, TimestepBias()),
        (100, Mixture((Uniform(), INTERVAL), (1.0, 0.0))),
    ],
)
def test_not_warned_of(T, density):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DenoisingObjective(schedules.linear(T), timesteps=density)
