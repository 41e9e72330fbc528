"""The measures of one state against their definitions, in float64 from the vectors themselves."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from memfast.foundation.errors import InputError
from memfast.trace import TrajectoryStatistics

SHAPE = (2, 5, 7)
# (alpha, sigma) of the states: no signal, hardly any, half, hardly any noise, the finished sample.
LEVELS = [(0.0, 1.0), (0.006, 0.99998), (0.6, 0.8), (0.999, 0.0447), (1.0, 0.0)]
NEEDS_TARGET = ("w_", "residual", "loss", "target")


def draw(rows, seed):
    return torch.randn(rows, *SHAPE, generator=torch.Generator().manual_seed(seed))


def states(rows, targets):
    """States of every level; at the fourth the estimates are near-exact, at the last the samples are all alike."""
    noise = draw(rows, 1)
    for number, (alpha, sigma) in enumerate(LEVELS):
        state = noise if number == 0 else alpha * targets + sigma * noise + 1e-3 * draw(rows, 2)
        if number == 4:
            state = targets[:1].expand_as(state).clone()
        exact = (state - alpha * targets) / sigma if number == 3 else draw(rows, 3)
        guided = targets + 1e-6 * draw(rows, 4) if number == 3 else draw(rows, 4)
        last = number == len(LEVELS) - 1
        yield SimpleNamespace(
            timestep=None if last else 9 - number, alpha=alpha, sigma=sigma, state=state,
            x0_hat=None if last else guided, noise_hat=None if last else draw(rows, 5),
            conditional=None if last else exact, unconditional=None if last else exact + 1e-5 * draw(rows, 6),
        )  # fmt: skip


def cosine(a, b):
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def defined(step, initial, targets):
    """Every measure by its definition, [rows]."""
    vectors = (step.state, step.x0_hat, step.noise_hat, step.conditional, step.unconditional, initial, targets)
    s, e, n, c, u, z, x = (None if one is None else one.double().flatten(1).numpy() for one in vectors)
    solved = [
        np.linalg.lstsq(np.stack([goal, start], 1), own, rcond=None)[0]
        for own, goal, start in zip(s, x, z, strict=True)
    ]
    w_target, w_initial = np.array(solved).T
    rest = s - w_target[:, None] * x - w_initial[:, None] * z
    found = {"w_target": w_target, "w_initial": w_initial, "residual": np.sqrt((rest**2).mean(1))}
    if e is None:
        return found
    found |= {"loss_guided": ((e - x) ** 2).sum(1), "target_guided": cosine(e, x), "initial_guided": cosine(n, z)}
    for name, branch in (("conditional", c), ("unconditional", u)):
        found[f"initial_{name}"] = cosine(branch, z)
        if step.alpha > 0:
            estimate = (s - step.sigma * branch) / step.alpha
            found |= {f"loss_{name}": ((estimate - x) ** 2).sum(1), f"target_{name}": cosine(estimate, x)}
    return found | {"gap": np.sqrt(((c - u) ** 2).sum(1))}


@pytest.mark.parametrize("given", ["per condition", "per row", "one missing", "one missing and NaN", "none"])
@pytest.mark.parametrize("seeds", [1, 2, 8])
def test_every_measure_is_its_definition(seeds, given):
    rows = 3 * seeds
    targets = 0.5 * draw(rows if given == "per row" else 3, 0)
    each = targets.repeat_interleave(rows // len(targets), 0)
    has = np.array([True, "missing" not in given, True])
    if "NaN" in given:
        targets[1] = float("nan")
    statistics = TrajectoryStatistics(
        "abc", list(range(seeds)), None if given == "none" else targets, has if "missing" in given else None
    )
    initial = None
    for step in states(rows, each):
        initial = step.state if initial is None else initial
        measured, want = statistics.step(step), defined(step, initial, each)
        if given == "none":
            want = {name: value for name, value in want.items() if not name.startswith(NEEDS_TARGET)}
        assert set(measured.values) == set(want)
        for name, value in want.items():
            expected = value.reshape(3, seeds).copy()
            if name.startswith(NEEDS_TARGET):
                expected[~has] = np.nan
            np.testing.assert_allclose(measured.values[name], expected, rtol=1e-6, atol=1e-14, err_msg=name)
        groups = step.state.double().numpy().reshape(3, seeds, -1)
        if seeds == 1:
            assert measured.diversity is None
        else:
            np.testing.assert_allclose(measured.diversity, [pdist(one).mean() for one in groups], rtol=1e-6)
    if seeds > 1:
        assert (statistics.states[-1].diversity == 0).all()


@pytest.mark.parametrize("given", [True, False], ids=["target", "no target"])
def test_without_signal_the_branches_are_their_clean_estimates(given):
    targets, noise, clean, other = (draw(4, seed) for seed in range(4))
    step = SimpleNamespace(
        timestep=9, alpha=0.0, sigma=1.0, state=noise, x0_hat=clean, noise_hat=noise, conditional=noise,
        unconditional=noise, x0_conditional=clean, x0_unconditional=other,
    )  # fmt: skip
    statistics = TrajectoryStatistics("ab", [0, 1], targets if given else None)
    found = statistics.step(step).values
    x, c, u = (flat.double().flatten(1).numpy() for flat in (targets, clean, other))
    np.testing.assert_allclose(found["gap"].ravel(), np.linalg.norm(c - u, axis=1), rtol=1e-6)
    for name, estimate in (("conditional", c), ("unconditional", u)):
        assert (f"loss_{name}" in found) == given
        if given:
            np.testing.assert_allclose(found[f"loss_{name}"].ravel(), ((estimate - x) ** 2).sum(1), rtol=1e-6)
            np.testing.assert_allclose(found[f"target_{name}"].ravel(), cosine(estimate, x), rtol=1e-6)


def test_a_measure_that_some_states_lack_keeps_the_others_in_their_places():
    statistics = TrajectoryStatistics("a", [0, 1], draw(1, 0))
    for number, step in enumerate(states(2, draw(1, 0).expand(2, -1, -1, -1))):
        if number < 2:
            step.unconditional = None
        statistics.step(step)
    gap = statistics.series("gap")
    assert gap.shape == (len(LEVELS) - 1, 1, 2)
    assert np.isnan(gap[:2]).all()
    assert np.isfinite(gap[2:]).all()
    assert statistics.series("w_target").shape == (len(LEVELS), 1, 2)
    assert statistics.series("loss_guided").shape == gap.shape


def test_a_state_or_an_estimate_that_is_not_finite_is_named():
    for name in ("state", "x0_hat", "noise_hat", "conditional", "unconditional"):
        step = next(states(4, draw(2, 0).repeat_interleave(2, 0)))
        broken = getattr(step, name).clone()
        broken[3, 0, 0, 0] = float("nan")
        setattr(step, name, broken)
        with pytest.raises(InputError, match=r"sample of 'b', seed 5: expected finite values.*at timestep 9"):
            TrajectoryStatistics("ab", [4, 5], draw(2, 0)).step(step)


def test_weights_of_a_target_that_is_nearly_the_noise():
    noise, other = draw(1, 1).double(), draw(1, 2).double()
    for sine in (1e-2, 1e-4):
        target = noise + sine * other
        statistics = TrajectoryStatistics("a", [0], target)
        level = {"timestep": 1, "alpha": 0.6, "sigma": 0.8, "x0_hat": None, "noise_hat": None, "conditional": None}
        for state in (noise, 0.25 * target + 0.5 * noise):
            found = statistics.step(SimpleNamespace(state=state, unconditional=None, **level)).values
        # Their condition is 1 / sine^2: float64 sums leave 1e-16 of that.
        tolerance = 1e-14 / sine**2
        np.testing.assert_allclose([found["w_target"].item(), found["w_initial"].item()], [0.25, 0.5], atol=tolerance)
        assert found["residual"].item() < tolerance
    with pytest.raises(InputError, match="target of 'a', seed 0: expected an item that is not parallel"):
        TrajectoryStatistics("a", [0], 3 * noise).step(SimpleNamespace(state=noise, unconditional=None, **level))
