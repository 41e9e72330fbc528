"""Range search and duplicates against brute force and scipy's connected components."""

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from memfast.foundation.errors import InputError
from memfast.neighbors import RangeSearchResult, duplicates, exact_duplicates, range_search


def squared(queries, database):
    return ((queries[:, None].astype(np.float64) - database[None].astype(np.float64)) ** 2).sum(axis=2)


def expected_groups(adjacent):
    """The lowest index of each connected component."""
    _, label = connected_components(adjacent, directed=False)
    return np.array([np.flatnonzero(label == one)[0] for one in label])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32], ids=lambda one: one.__name__)
@pytest.mark.parametrize("memory", [3_000, 20_000, None])
def test_within_equals_brute_force(dtype, memory):
    draw = np.random.default_rng(0)
    queries, database = draw.integers(0, 5, (33, 6)).astype(dtype), draw.integers(0, 5, (210, 6)).astype(dtype)
    table = squared(queries, database)
    for options, limit in [
        ({"radius": 3}, 9),
        ({"radius_squared": 10}, 10),
        ({"radius": 0}, 0),
        ({"radius": 2.5}, 6.25),
    ]:
        pairs = RangeSearchResult.collect(range_search(queries, database, memory=memory, **options))
        query, index = np.nonzero(table <= limit)
        order = np.lexsort((index, table[query, index], query))
        np.testing.assert_array_equal(pairs.queries, query[order])
        np.testing.assert_array_equal(pairs.indices, index[order])
        np.testing.assert_array_equal(pairs.squared_distances, table[query, index][order])


def test_within_comes_in_bounded_blocks_even_when_everything_is_near():
    data = np.zeros((300, 4), np.uint8)
    blocks = list(range_search(data, data, radius=1, memory=64 * 1000))
    assert max(len(one) for one in blocks) <= 1000
    assert sum(len(one) for one in blocks) == 300 * 300
    assert len(RangeSearchResult.collect(range_search(data, data, radius=1, exclude_self=True))) == 300 * 299
    assert len(RangeSearchResult.collect(range_search(data, iter([data[:7], data[7:]]), radius=1))) == 300 * 300


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of radius, radius_squared and similarity, received none"),
        ({"radius": 1, "radius_squared": 1}, "received radius and radius_squared"),
        ({"radius": -1}, "radius: expected a finite number of at least 0, received -1"),
        ({"radius": np.nan}, "radius: expected a finite number"),
        ({"similarity": 0.5}, "similarity: expected -1 to 1 with metric='cosine'"),
    ],
    ids=["none", "two", "negative", "nan", "euclidean similarity"],
)
def test_within_refuses_limits_at_the_call(options, message):
    data = np.zeros((3, 4), np.uint8)
    with pytest.raises(InputError, match=message):
        range_search(data, data, **options)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.bool_], ids=lambda one: one.__name__)
@pytest.mark.parametrize("memory", [1000, None])
def test_exact_duplicates_equal_brute_force(dtype, memory):
    data = np.random.default_rng(0).integers(0, 2, (150, 3, 2)).astype(dtype)
    found = exact_duplicates(data, memory=memory)
    flat = data.reshape(150, -1)
    np.testing.assert_array_equal(found.representative, expected_groups(squared(flat, flat) == 0))
    assert found.keep.sum() == len(np.unique(flat, axis=0))
    assert all((found.representative[group] == group[0]).all() and len(group) > 1 for group in found.groups)
    assert found.to_dict()["distinct"] == found.keep.sum()


def test_zeros_of_both_signs_are_equal_and_nan_is_named():
    data = np.array([[0.0, 1], [-0.0, 1], [2, 3]], np.float32)
    assert exact_duplicates(data).representative.tolist() == [0, 0, 2]
    data[1, 1] = np.nan
    with pytest.raises(InputError, match="row 1 of source"):
        exact_duplicates(data)


def test_equal_digests_of_different_items_are_told_apart(monkeypatch):
    import sys

    from memfast.neighbors import duplicates as _  # noqa: F401

    module = sys.modules["memfast.neighbors.duplicates"]
    monkeypatch.setattr(module, "_digests", lambda rows, step: np.zeros(rows.length, "V16"))
    data = np.random.default_rng(0).integers(0, 4, (60, 1), dtype=np.uint8)
    np.testing.assert_array_equal(exact_duplicates(data).representative, expected_groups(data == data.T))


@pytest.mark.parametrize("memory", [4_000, None])
@pytest.mark.parametrize("limit", [1, 2, 400])
def test_near_duplicates_are_the_connected_components(memory, limit):
    data = np.random.default_rng(1).integers(0, 8, (170, 3), dtype=np.uint8)
    found = duplicates(data, radius_squared=limit, memory=memory)
    np.testing.assert_array_equal(found.representative, expected_groups(squared(data, data) <= limit))


def test_a_long_chain_is_one_group():
    order = np.random.default_rng(2).permutation(250)
    chain = order.astype(np.uint8)[:, None]
    assert duplicates(chain, radius_squared=1, memory=3_000).representative.tolist() == [0] * 250


def test_look_alikes_by_cosine():
    draw = np.random.default_rng(3)
    centres = draw.normal(size=(20, 32))
    features = (np.repeat(centres, 4, axis=0) + 0.05 * draw.normal(size=(80, 32))).astype(np.float32)
    features *= draw.uniform(0.1, 9, (80, 1)).astype(np.float32)
    unit = features / np.linalg.norm(features, axis=1)[:, None]
    found = duplicates(features, similarity=0.95)
    np.testing.assert_array_equal(found.representative, expected_groups(unit @ unit.T >= 0.95))
    assert len(found.groups) == 20


def test_two_limits_are_refused():
    with pytest.raises(InputError, match="exactly one"):
        duplicates(np.zeros((3, 4), np.uint8), radius_squared=1, similarity=0.5)
