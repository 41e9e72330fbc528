import numpy as np
import pytest
from sklearn.decomposition import PCA

from memfast.foundation.errors import InputError
from memfast.metrics import PrincipalComponents


def rows(n=200, d=30):
    generator = np.random.default_rng(0)
    return generator.standard_normal((n, d)) @ generator.standard_normal((d, d)) + 5


@pytest.mark.parametrize(("n", "d"), [(200, 30), (30, 200)])
def test_full_equals_scikit_learn(n, d):
    train, other = rows(n, d), rows(n, d)[:7] + 1
    peer = PCA(10, svd_solver="full").fit(train)
    found = PrincipalComponents.fit(train, 10)
    np.testing.assert_allclose(np.abs(found.components @ peer.components_.T), np.eye(10), atol=1e-9)
    np.testing.assert_allclose(found.explained_variance, peer.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(found.explained_variance_ratio, peer.explained_variance_ratio_, rtol=1e-10)
    np.testing.assert_allclose(np.abs(found.transform(other)), np.abs(peer.transform(other)), rtol=1e-8, atol=1e-8)


def test_randomized_finds_the_same_leading_components():
    generator = np.random.default_rng(0)
    train = generator.standard_normal((400, 200)) * 0.7 ** np.arange(200)
    full, fast = (PrincipalComponents.fit(train, 5, solver=solver) for solver in ("full", "randomized"))
    np.testing.assert_allclose(fast.components, full.components, atol=1e-6)
    np.testing.assert_allclose(fast.explained_variance, full.explained_variance, rtol=1e-9)


def test_signs_are_fixed():
    found = PrincipalComponents.fit(rows(), 5)
    assert (found.components[np.arange(5), np.abs(found.components).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize(
    ("data", "count", "text"),
    [
        (np.ones((9, 4)), 2, "features that vary, received rows that are all equal"),
        (np.full((9, 4), 0.1), 2, "features that vary, received rows that are all equal"),
        (rows(5, 30), 5, "components: expected a whole number from 1 to 4, received 5"),
        (rows(), 31, "from 1 to 30"),
    ],
)
def test_bad_input(data, count, text):
    with pytest.raises(InputError, match=text):
        PrincipalComponents.fit(data, count)
