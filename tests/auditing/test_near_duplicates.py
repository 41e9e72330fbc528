"""Near-duplicates in the training set count as one item: neighbours by group, against brute force."""

import numpy as np
import pytest

from memfast.auditing import audit, search
from memfast.auditing.search import TrainingSearch
from memfast.data import ArraySource
from memfast.foundation.errors import InputError
from memfast.neighbors import DuplicateGroups, duplicates


def draw(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def near_copies(items, count, seed=1):
    """Items that differ from the given one by a grey level in a few values."""
    noise = np.random.default_rng(seed).integers(-1, 2, (count, *items.shape))
    return np.clip(items.astype(int) + noise, 0, 255).astype(np.uint8)


def as_groups(numbers):
    """Groups of the items that share a number."""
    _, first, group = np.unique(numbers, return_index=True, return_inverse=True)
    return DuplicateGroups(first[group.reshape(-1)])


def by_brute_force(samples, training, groups, k, exclude):
    """The k nearest groups of each sample by the member nearest to it, ties by the lowest index."""
    distances = ((samples[:, None].astype(np.int64) - training[None]) ** 2).sum(-1)
    rows = []
    for row, left_out in zip(distances, exclude, strict=True):
        best = []
        for group in set(groups.tolist()) - {groups[one] for one in left_out}:
            members = np.flatnonzero(groups == group)
            best.append(min((row[member], member) for member in members))
        rows.append(sorted(best)[:k])
    return np.array(rows)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_neighbours_and_gaps_are_those_of_groups(own, k):
    # One group of forty, more than a first search looks at beyond k; one of three; six alone.
    training = np.concatenate([near_copies(draw(9), 40), draw(6, 9, seed=2), near_copies(draw(9, seed=3), 3)])
    groups = np.repeat(np.arange(8), [40, 1, 1, 1, 1, 1, 1, 3])
    order = np.random.default_rng(5).permutation(len(training))
    training, groups = training[order], groups[order]
    chosen = np.array([0, 7, 20, 48]) if own else None
    samples = training[chosen] if own else np.concatenate([near_copies(training[0], 3), draw(4, 9, seed=6)])
    examiner = TrainingSearch(ArraySource(training), k, kind="values", unit=255.0, groups=as_groups(groups))
    found = examiner.evidence(ArraySource(samples), "generated", own=chosen)
    exclude = chosen[:, None].tolist() if own else [[]] * len(samples)
    want = by_brute_force(samples, training, groups, k, exclude)
    np.testing.assert_array_equal(found.squared_distances, want[:, :, 0])
    np.testing.assert_array_equal(found.indices, want[:, :, 1])
    nearest = found.indices[:, 0]
    left_out = [[one, *other] for one, other in zip(nearest, exclude, strict=True)]
    gaps = by_brute_force(training[nearest], training, groups, 1, left_out)
    np.testing.assert_array_equal(found.neighbour_gaps, gaps[:, 0, 0])


def test_a_copy_that_a_near_duplicate_hides_is_found():
    pictures = draw(60, 12, 12)
    training = np.concatenate([pictures, near_copies(pictures[7], 2)])
    samples = np.concatenate([near_copies(pictures[7], 5, seed=9), draw(15, 12, 12, seed=4)])
    hidden = audit(samples, training, k=5, criteria="nn_ratio", planted=8)
    assert hidden.fraction() == 0
    assert any(note.startswith("5 samples lie within") for note in hidden.figures["notes"])
    assert hidden.figures["inputs"]["training"]["near_duplicates"] is None
    found = audit(samples, training, k=5, criteria="nn_ratio", planted=8, near_duplicates=0.01)
    assert found.fraction() == 0.25
    assert found.figures["notes"] == []
    assert found.figures["parameters"]["near_duplicates"] == 0.01
    described = found.figures["inputs"]["training"]["near_duplicates"]
    assert (described["groups"], described["items"], described["largest"]) == (1, 3, 3)
    assert described["listed"] == [["7", "60", "61"]]
    assert any("3 items in 1 group" in sentence for sentence in found.figures["statement"]["warnings"])


def test_a_difference_that_joins_nothing_says_so_and_that_copies_are_hidden():
    pictures = draw(60, 12, 12)
    training = np.concatenate([pictures, near_copies(pictures[7], 2)])
    result = audit(near_copies(pictures[7], 5, seed=9), training, k=5, controls=False, near_duplicates=1e-4)
    assert any("none found" in sentence for sentence in result.figures["statement"]["warnings"])
    assert any("5 samples lie within" in note and "join more" in note for note in result.figures["notes"])


def test_the_floor_of_similarity_leaves_the_own_group_out_too():
    training = np.concatenate([draw(40, 12, 12), near_copies(draw(12, 12, seed=8), 3)])
    features = np.random.default_rng(1).normal(size=(43, 16)).astype(np.float32)
    features[41:] = features[40]
    options = {"k": 3, "criteria": "similarity", "features": {"training": features, "generated": features[:5]}}
    counts = [
        audit(training[:5], training, **options, planted=4, near_duplicates=given).figures["criteria"][0]["held_out"]
        for given in (None, 0.02)
    ]
    assert [one["count"] for one in counts] == [3, 0]


def test_a_wide_search_is_cut_into_parts_of_the_same_result(monkeypatch):
    training = np.concatenate([near_copies(draw(9), 300), draw(5, 9, seed=2)])
    groups = as_groups(np.repeat([0, 1, 2, 3, 4, 5], [300, 1, 1, 1, 1, 1]))
    samples = ArraySource(near_copies(training[0], 40, seed=7))
    whole, parts = (
        TrainingSearch(ArraySource(training), 3, kind="values", unit=255.0, groups=groups) for _ in range(2)
    )
    want, sizes, real = whole.evidence(samples, "generated"), [], parts._knn
    monkeypatch.setattr(search, "WIDE", 1000)
    monkeypatch.setattr(parts, "_knn", lambda one, stage, k: sizes.append(len(one) * k) or real(one, stage, k))
    found = parts.evidence(samples, "generated")
    assert len(sizes) > 10
    assert max(sizes) <= 1000
    np.testing.assert_array_equal(found.indices, want.indices)
    np.testing.assert_array_equal(found.squared_distances, want.squared_distances)


def test_groups_may_come_from_features(tmp_path):
    training = draw(30, 8, 8)
    features = np.random.default_rng(0).normal(size=(30, 16)).astype(np.float32)
    features[11] = features[3] * 2
    groups = duplicates(features, similarity=0.99)
    assert [group.tolist() for group in groups.groups] == [[3, 11]]
    sample = ((training[3].astype(int) + training[11]) // 2).astype(np.uint8)[None]
    plain, joined = (
        audit(sample, training, k=2, criteria="nn_ratio", controls=False, near_duplicates=given)
        for given in (None, groups)
    )
    # The sample lies half way between two look-alikes: their ratio is about 1, to the others about 0.7.
    (before,), (after,) = (one.figures["criteria"] for one in (plain, joined))
    at = before["curve"]["thresholds"].index(0.8)
    assert (before["curve"]["generated"][at], after["curve"]["generated"][at]) == (0.0, 1.0)
    assert joined.figures["parameters"]["near_duplicates"] == "given"
    assert any("(as given)" in sentence for sentence in joined.figures["statement"]["warnings"])
    joined.report(tmp_path)
    assert "Near-duplicates in the training set (1 of 1 groups)" in (tmp_path / "report.html").read_text()


def test_k_shrinks_to_the_number_of_groups():
    training = np.concatenate([near_copies(draw(9), 10), draw(2, 9, seed=2)])
    result = audit(draw(4, 9, seed=3), training, controls=False, near_duplicates=0.02)
    assert result.figures["parameters"]["k"] == 3
    assert any("k is 3 instead of 50" in note for note in result.figures["notes"])


def test_another_audit_of_the_same_training_set_takes_the_groups_over(monkeypatch):
    training = np.concatenate([draw(30, 9), near_copies(draw(9), 4)])
    options = {"k": 3, "criteria": "nn_ratio", "planted": 4, "near_duplicates": 0.02}
    first, alone = (audit(draw(5, 9, seed=seed), training, **options) for seed in (3, 4))
    monkeypatch.setattr("memfast.auditing.near_duplicates.duplicates", None)
    second = audit(draw(5, 9, seed=4), training, **options, reuse=first)
    assert second.figures == alone.figures
    with pytest.raises(InputError, match="same near-duplicates"):
        audit(draw(5, 9), training, **{**options, "near_duplicates": 0.03}, reuse=first)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0, "near_duplicates: expected a finite number above 0"),
        (float("nan"), "near_duplicates: expected a finite number above 0"),
        (2.0, "near_duplicates: expected at least two groups"),
        (duplicates(draw(50, 9)), "near_duplicates: expected groups of the whole training set, 20 items, .* of 50"),
        (
            duplicates(draw(5, 9)),
            "near_duplicates: expected groups of the whole training set, 20 items, .* of 5",
        ),
    ],
)
def test_bad_input(given, message):
    with pytest.raises(InputError, match=message):
        audit(draw(4, 9), draw(20, 9), controls=False, near_duplicates=given)
