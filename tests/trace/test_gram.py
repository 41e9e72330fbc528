"""Norms, cosines and distances from inner products, against the vectors themselves."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine, pdist

from memfast.trace.decomposition import Gram, NormalEquations, distances_within

PAIRS = [("a", "a"), ("a", "b"), ("a", "c"), ("b", "b"), ("c", "b"), ("c", "c")]


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(0)
    # b serves three consecutive rows each, c all six.
    return {name: torch.randn(n, 3, 7, generator=generator) for name, n in (("a", 6), ("b", 2), ("c", 1))}


def spread(vectors):
    return {
        name: np.repeat(tensor.double().numpy().reshape(len(tensor), -1), 6 // len(tensor), axis=0)
        for name, tensor in vectors.items()
    }


def test_cosines_and_norms(vectors):
    gram, rows = Gram(vectors, PAIRS), spread(vectors)
    forms = [{"a": 1.0}, {"b": 2.0, "a": -0.5}, {"c": -1.0, "b": 1.0, "a": 3.0}]
    want = [sum(factor * rows[name] for name, factor in form.items()) for form in forms]
    np.testing.assert_allclose(gram.squared_norms(forms), np.square(want).sum(-1), rtol=1e-13)
    for pair, found in zip(PAIRS, gram.cosines(PAIRS), strict=True):
        first, second = (rows[name] for name in pair)
        np.testing.assert_allclose(found, [1 - cosine(a, b) for a, b in zip(first, second, strict=True)], atol=1e-14)


def test_products_of_before_are_joined(vectors):
    known = Gram({name: vectors[name] for name in "bc"}, [("b", "b"), ("c", "b"), ("c", "c")])
    assert known["b", "c"].shape == (2,)
    known = Gram(vectors, [("b", "b"), ("c", "b"), ("c", "c")])
    gram, whole = Gram(vectors, [("a", "a"), ("b", "a"), ("c", "a")], known), Gram(vectors, PAIRS)
    for pair in PAIRS:
        assert np.array_equal(gram[pair], whole[pair])
        assert np.array_equal(gram[pair[::-1]], whole[pair])


def test_norms_whose_products_cancel_are_taken_from_the_vectors():
    a = torch.randn(4, 1000)
    near = a.clone()
    near[2, 5] += 1e-3
    gram = Gram({"a": a, "n": near}, [("a", "a"), ("n", "n"), ("a", "n")])
    want = (a.double() - near.double()).square().sum(1).numpy()
    np.testing.assert_allclose(gram.squared_norms([{"a": 1.0, "n": -1.0}])[0], want, rtol=1e-12)
    factors = np.array([1.0, -2.0])
    found = gram.from_vectors(np.array([2, 3]), {"a": factors, "n": 0.5})
    want = (torch.from_numpy(factors)[:, None] * a[2:].double() + 0.5 * near[2:].double()).square().sum(1)
    np.testing.assert_allclose(found, want.numpy(), rtol=1e-13)


def test_a_vector_of_zeros_has_no_cosine():
    gram = Gram(
        {"a": torch.ones(2, 3), "b": torch.tensor([[0.0] * 3, [1.0] * 3])}, [("a", "a"), ("a", "b"), ("b", "b")]
    )
    np.testing.assert_array_equal(gram.cosines([("a", "b")])[0], [np.nan, 1.0])


@pytest.mark.parametrize("group", [2, 3, 6])
def test_distances_within_groups(group):
    vectors = torch.randn(6, 5, 9, generator=torch.Generator().manual_seed(group))
    vectors[group - 1] = vectors[0]
    vectors[group - 1, 4, 8] += 1e-3
    flat = vectors.double().numpy().reshape(-1, group, 45)
    np.testing.assert_allclose(
        distances_within(vectors, (flat**2).sum(-1).reshape(-1), group), [pdist(one) for one in flat], rtol=1e-10
    )


def test_the_rest_of_a_least_squares_fit():
    draw = np.random.default_rng(3)
    target, initial, state = draw.normal(size=(3, 5, 40))
    products = [(a * b).sum(1) for a, b in [(target, target), (initial, initial), (target, initial)]]
    equations = NormalEquations(*products)
    own = [(state * other).sum(1) for other in (state, target, initial)]
    weights = equations.solve(*own[1:])
    rest, size = equations.unexplained(*own, weights)
    for row in range(5):
        solution, residual, *_ = np.linalg.lstsq(np.stack([target[row], initial[row]], 1), state[row], rcond=None)
        np.testing.assert_allclose([w[row] for w in weights], solution, rtol=1e-12)
        np.testing.assert_allclose(rest[row], residual[0], rtol=1e-12)
    assert (size >= own[0]).all()
