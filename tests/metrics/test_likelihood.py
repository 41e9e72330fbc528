import numpy as np
import pytest
import torch

from memfast.foundation.errors import InputError
from memfast.metrics import feature_likelihood, likelihood, memorization_scores


def sets(count=150, width=5):
    generator = np.random.default_rng(0)
    return [generator.standard_normal((count, width)) for _ in range(3)]


def fit_by_autograd(centres, rows, epochs):
    """The published procedure, with torch's own optimizer and gradients."""
    centres, rows = torch.from_numpy(centres), torch.from_numpy(rows)
    width = rows.shape[1]
    squared = ((rows[:, None] - centres) ** 2).sum(dim=2)
    logs = ((squared.min(dim=0).values + 1e-3) / width).log().requires_grad_()
    origin = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logs, origin], lr=0.5)
    from_mean = 0.81 * ((rows - rows.mean(dim=0)) ** 2).sum(dim=1)

    def density(distances, log_variance):
        return -0.5 * distances / log_variance.exp() - width / 2 * (log_variance + np.log(2 * np.pi))

    for _ in range(epochs):
        optimizer.zero_grad()
        each = density(squared, logs) - np.log(len(centres))
        every = torch.cat([each, density(from_mean, origin)[:, None]], dim=1)
        (-torch.logsumexp(every, dim=1).mean() / width).backward()
        optimizer.step()
        with torch.no_grad():
            logs.clamp_(-40, 20)
    return logs.detach()


def test_fit_equals_autograd():
    generated, training, _ = sets()
    generated[0] = training[0]
    fitted = likelihood._fit(generated, training, 12)
    torch.testing.assert_close(fitted, fit_by_autograd(generated, training, 12), rtol=1e-6, atol=1e-6)


def test_likelihood_equals_the_mixture_density():
    from scipy.special import logsumexp
    from scipy.stats import multivariate_normal

    generated, training, _ = sets(20)
    logs = torch.linspace(-1, 1, 20, dtype=torch.float64)
    each = [multivariate_normal(c, np.exp(v)).logpdf(training) for c, v in zip(generated, logs.numpy(), strict=True)]
    expected = -(logsumexp(each, axis=0) - np.log(20)) / 5
    np.testing.assert_allclose(likelihood._nll(logs, generated, training), expected, rtol=1e-10)


def test_copies_make_the_gap_negative():
    generated, training, test = sets()
    fair, copied = feature_likelihood(generated, training, test), feature_likelihood(training.copy(), training, test)
    assert abs(fair.generalization_gap) < 20
    assert copied.generalization_gap < -1000
    assert fair.gap_interval.low < fair.generalization_gap < fair.gap_interval.high


def test_a_stream_of_blocks_gives_the_same(monkeypatch):
    whole = feature_likelihood(*sets(), epochs=5)
    monkeypatch.setattr(likelihood, "CACHED_ENTRIES", 0)
    monkeypatch.setattr(likelihood, "ROWS_AT_ONCE", 67)
    assert feature_likelihood(*sets(), epochs=5).fld == pytest.approx(whole.fld, abs=1e-6)


def test_a_given_baseline_is_used():
    found = feature_likelihood(*sets(), baseline=0.0)
    assert found.fld == pytest.approx(100 * found.nll_test)


def test_bad_input():
    generated, training, _ = sets()
    with pytest.raises(InputError, match="test: expected features that vary"):
        feature_likelihood(generated, training, np.ones((9, 5)))
    with pytest.raises(InputError, match="test: expected at least 2 rows"):
        feature_likelihood(generated, training, generated[:1])


@pytest.mark.parametrize("value", [0.1, 1.0])
def test_a_feature_constant_in_the_held_out_set_keeps_its_scale(value):
    """The mean of 150 times 0.1 is not 0.1, and a deviation of 1e-17 would weigh the feature above all others."""
    generated, training, test = (np.c_[rows, np.full(len(rows), value)] for rows in sets())
    generated[:, -1] += 1e-3
    found = feature_likelihood(generated, training, test)
    alike = feature_likelihood(*(np.c_[rows, np.zeros(len(rows))] for rows in sets()))
    assert found.fld == pytest.approx(alike.fld, abs=0.01)
    with pytest.raises(InputError, match="test: expected features that vary, received rows that are all equal"):
        feature_likelihood(generated, training, np.full((150, 6), value))


def test_memorization_scores_rank_the_copies_first():
    draw = np.random.default_rng(10)
    training, test, generated = (draw.standard_normal((80, 6)) for _ in range(3))
    generated[:10] = training[:10] + 1e-3 * draw.standard_normal((10, 6))
    scores = memorization_scores(generated, training, test, epochs=20)
    assert set(np.argsort(-scores)[:10]) == set(range(10))


def test_memorization_scores_are_the_best_log_likelihoods():
    """Of the widths that the fit gave, over all pairs, from the definition."""
    from memfast.metrics.likelihood import _fit, _standardized

    draw = np.random.default_rng(11)
    training, test, generated = (draw.standard_normal((30, 4)) for _ in range(3))
    x, y, _ = _standardized(generated, training, test)
    order = np.random.default_rng(0).permutation(30)
    widths = _fit(x, y[order], 5).numpy()
    squared = ((x[:, None] - y) ** 2).sum(2)
    logs = -0.5 * (squared / np.exp(widths)[:, None] + 4 * (widths[:, None] + np.log(2 * np.pi)))
    np.testing.assert_allclose(memorization_scores(generated, training, test, epochs=5), logs.max(1) / 4, rtol=1e-9)
