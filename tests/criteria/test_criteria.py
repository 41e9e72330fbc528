"""Each criterion against hand-computed cases and float64 brute force."""

import numpy as np
import pytest

from memfast.criteria import (
    CRITERIA,
    Absolute,
    AbsoluteTiles,
    Authenticity,
    Calibrated,
    Evidence,
    NnRatio,
    Similarity,
    choose,
    worst_tile,
    worst_tiles,
)
from memfast.foundation.errors import InputError


def evidence(squared, *, dtype=np.int64, values=4, **more):
    squared = np.asarray(squared, dtype)
    return Evidence(squared, np.broadcast_to(np.arange(squared.shape[1]) + 7, squared.shape), values=values, **more)


def brute(queries, database, k):
    squared = ((queries[:, None].astype(np.float64) - database[None]) ** 2).sum(-1)
    indices = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(squared, indices, 1), indices


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_nn_ratio_is_strict_and_exact_at_one_ninth(dtype):
    judged = NnRatio().judge(evidence([[1, 9], [1, 10], [0, 5], [0, 0], [7, 7], [10**12 - 1, 9 * 10**12]], dtype=dtype))
    assert judged.flags.tolist() == [False, True, True, False, False, True]
    assert judged.scores[0] == pytest.approx(1 / 3)
    assert judged.scores[3] == 1.0
    assert judged.partners.tolist() == [7] * 6
    assert "1 samples lie at distance 0 of two training items" in judged.notes[0]


def test_nn_ratio_takes_other_thresholds():
    judged = NnRatio(1 / 2).judge(evidence([[1, 4], [1, 5]]))
    assert judged.flags.tolist() == [False, True]
    assert NnRatio(0.123456789).judge(evidence([[1.0, 65.0], [1.0, 66.0]], dtype=np.float64)).flags.tolist() == [
        False,
        True,
    ]


@pytest.mark.parametrize("size", [1, 63, 500])
def test_flags_and_curve_equal_a_plain_loop(size):
    generator = np.random.default_rng(size)
    training = generator.integers(0, 256, (80, 12))
    queries = training[generator.integers(0, 80, size)] + generator.integers(-30, 31, (size, 12))
    squared, indices = brute(queries, training, 50)
    found = Evidence(squared, indices, values=12, unit=255.0)
    distances = np.sqrt(squared)
    known = {
        "nn_ratio": distances[:, 0] / distances[:, 1] < 1 / 3,
        "calibrated": distances[:, 0] / (0.5 * distances.mean(axis=1)) < 1,
        "absolute": distances[:, 0] / np.sqrt(12) / 255 <= 0.05,
    }
    for criterion in (NnRatio(), Calibrated(), Absolute()):
        judged = criterion.judge(found)
        assert judged.flags.tolist() == known[criterion.name].tolist(), criterion.name
        curve = criterion.curve(found, judged)
        assert (np.diff(curve) >= 0).all()
        assert curve[np.searchsorted(criterion.grid, criterion.threshold)] == judged.flags.sum()


def test_calibrated_may_leave_the_nearest_out_and_says_when_neighbours_are_missing():
    seen = evidence([[4, 36, 100]])
    assert Calibrated().judge(seen).scores[0] == pytest.approx(2 / (0.5 * 6))
    assert Calibrated(include_nearest=False).judge(seen).scores[0] == pytest.approx(2 / (0.5 * 8))
    assert "over 3 neighbours instead of 50" in Calibrated().judge(seen).notes[0]
    assert Calibrated(neighbours=2).judge(seen).notes == ()
    assert Calibrated().judge(evidence([[0, 0]])).scores[0] == 2.0


def test_absolute_counts_the_bound_itself_and_divides_by_the_unit():
    judged = Absolute(0.1).judge(evidence([[4 * 25.5**2, 9e9], [4 * 25.6**2, 9e9]], dtype=np.float64, unit=255.0))
    assert judged.scores[0] == pytest.approx(0.1)
    assert judged.flags.tolist() == [True, False]


@pytest.mark.parametrize("shape", [(64, 64), (65, 70, 3), (9, 8, 1)])
def test_worst_tile_equals_a_loop_over_tiles(shape):
    generator = np.random.default_rng(0)
    first, second = (generator.integers(0, 256, (3, *shape), dtype=np.uint8) for _ in range(2))
    found = worst_tile(first, second, unit=255.0)
    height, width = shape[:2]
    for number in range(3):
        tiles = []
        for row in range(4):
            for column in range(4):
                where = np.s_[
                    row * height // 4 : (row + 1) * height // 4, column * width // 4 : (column + 1) * width // 4
                ]
                gap = first[number][where].astype(float) - second[number][where].astype(float)
                tiles.append(np.sqrt((gap**2).mean()) / 255)
        assert found[number] == pytest.approx(max(tiles), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("shape", [(64, 64), (65, 70, 3)])
def test_worst_tiles_of_many_pairs_equal_one_by_one(dtype, shape):
    generator = np.random.default_rng(0)
    images, others = (generator.integers(0, 256, (count, *shape)).astype(dtype) for count in (5, 7))
    others[3] = images[2]
    pairs = generator.integers(0, 7, (5, 4))
    pairs[2, 1] = 3
    found = worst_tiles(images, others, pairs, unit=255.0)
    for column in range(4):
        known = worst_tile(images, others[pairs[:, column]], unit=255.0)
        assert np.array_equal(found[:, column], known)
    assert found[2, 1] == 0


def test_tiles_choose_the_best_neighbour_and_say_what_is_uncertain():
    seen = evidence(
        [[1, 2], [1, 2], [1, 400]], values=1, unit=10.0,
        tile_distances=np.array([[0.3, 0.1], [0.5, 0.4], [0.5, 0.4]]),
    )  # fmt: skip
    judged = AbsoluteTiles().judge(seen)
    assert judged.partners.tolist() == [8, 8, 8]
    assert judged.flags.tolist() == [True, False, False]
    assert "for 1 samples all 2 known neighbours" in judged.notes[0]


def test_similarity_is_higher_for_copies():
    seen = evidence([[1, 2]] * 3, similarities=np.array([0.5, 0.75, 0.76]), similar_indices=np.array([1, 2, 3]))
    criterion = Similarity()
    judged = criterion.judge(seen)
    assert judged.flags.tolist() == [False, False, True]
    assert judged.partners.tolist() == [1, 2, 3]
    curve = criterion.curve(seen, judged)
    assert (np.diff(curve) <= 0).all()
    assert curve[0] == 3


def test_authenticity_compares_with_the_neighbours_neighbour():
    judged = Authenticity().judge(evidence([[4, 9]] * 3, neighbour_gaps=np.array([4, 5, 0])))
    assert judged.flags.tolist() == [False, True, False]
    assert judged.scores[1] == pytest.approx(np.sqrt(4 / 5))


def test_criteria_say_why_they_do_not_apply():
    lone = evidence([[3]])
    reasons = {criterion.name: criterion.why_not(lone) for criterion in choose()}
    assert reasons["absolute"] is None
    assert "there is only one" in reasons["nn_ratio"]
    assert "only one training item" in reasons["calibrated"]
    assert "64 pixels" in reasons["absolute_tiles"]
    assert reasons["similarity"] == "no features were given"
    assert "only one training item" in reasons["authenticity"]


def test_choose_knows_names_and_aliases():
    assert [type(criterion) for criterion in choose()] == list(CRITERIA.values())
    assert [criterion.name for criterion in choose(["NNDR", "dcr", "AuthPct"])] == [
        "nn_ratio", "absolute", "authenticity",
    ]  # fmt: skip
    assert choose(NnRatio(0.25))[0].threshold == 0.25
    assert choose("calibrated")[0].name == "calibrated"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: choose("ratio"), r"one of nn_ratio \(nndr\).*received 'ratio'"),
        (lambda: choose(["nndr", "nn_ratio"]), "each criterion once, received 'nn_ratio' twice"),
        (lambda: choose([]), "at least one criterion, received none"),
        (lambda: NnRatio(0), "threshold: expected a finite number above 0, received 0"),
        (lambda: Absolute(float("nan")), "delta: expected a finite number above 0"),
        (lambda: Calibrated(neighbours=1), "neighbours: expected a whole number of at least 2"),
        (lambda: Similarity(1.5), r"a cosine in \[-1, 1\), received 1.5"),
        (lambda: AbsoluteTiles(tiles=0), "tiles: expected a whole number of at least 1"),
        (lambda: worst_tile(np.zeros((1, 3, 3)), np.zeros((1, 3, 3)), unit=1.0), "at most the image's side, 3"),
        (lambda: Evidence(np.zeros((2, 3)), np.zeros((2, 2), int), values=1), r"of one shape \[n, k\]"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(InputError, match=text):
        call()


def test_every_criterion_states_its_definition():
    for kind in CRITERIA.values():
        assert kind.definition
        assert kind.source
        assert "memorized" in kind.__doc__
        assert "Source:" in kind.__doc__


OPTIONAL = {
    "neighbour_gaps": np.array([4.0, 9.0]),
    "tile_distances": np.full((2, 3), 0.2),
    "similarities": np.array([0.9, 0.1]),
}


@pytest.mark.parametrize("name", CRITERIA)
def test_what_a_criterion_declares_is_what_it_reads(name):
    """With what it needs it applies; without any one of it it does not, and nothing else changes its judgement."""
    criterion = CRITERIA[name]()
    distances = np.array([[1.0, 16.0, 25.0], [4.0, 5.0, 6.0]])
    columns = max(2, min(criterion.neighbours, 3))
    base = {"squared_distances": distances[:, :columns], "indices": np.arange(2 * columns).reshape(2, -1), "values": 4}
    indices = {"similar_indices": np.array([3, 4])}
    cut = {key: value[:, :columns] if value.ndim == 2 else value for key, value in OPTIONAL.items()}
    full = Evidence(**base, **cut, **indices)
    needed = Evidence(**base, **{need: cut[need] for need in criterion.needs}, **indices)
    assert criterion.why_not(needed) is None
    assert np.array_equal(criterion.judge(needed).scores, criterion.judge(full).scores)
    for need in criterion.needs:
        assert criterion.why_not(Evidence(**base, **{key: cut[key] for key in cut if key != need}, **indices))


def test_a_criterion_that_needs_what_no_evidence_has_cannot_be_defined():
    with pytest.raises(InputError, match=r"Odd.needs: expected some of neighbour_gaps, .* received 'smell'"):
        type("Odd", (NnRatio,), {"needs": ("smell",)})


def test_only_the_ratio_is_hidden_by_a_second_near_item():
    """A near-duplicate of the copied item brings d2 down to d1, and no other criterion looks at d2 alone."""
    alone = Evidence(np.array([[1.0, 400.0, 900.0]]), np.array([[0, 1, 2]]), values=4, unit=255.0)
    doubled = Evidence(np.array([[1.0, 1.5, 400.0]]), np.array([[0, 3, 1]]), values=4, unit=255.0)
    for kind in (NnRatio, Absolute):
        hidden = bool(kind().judge(alone).flags[0]) and not kind().judge(doubled).flags[0]
        assert hidden is kind.hidden_by_duplicates
