"""The command's promise on real pictures: it finds exactly what was planted."""

from pathlib import Path

import numpy as np
import pytest

from memfast.auditing import audit

DATA = Path(__file__).parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not there")
EXACT, NEAR, NEW = 12, 20, 100


def load(name):
    file, train, test = {
        "pokemon": ("pokemon_art64.npz", "x", None),
        "flowers": ("flowers102_64.npz", "x_train", "x_test"),
        "cifar": ("cifar10_12k.npz", "x_train", "x_test"),
    }[name]
    with np.load(DATA / file, allow_pickle=False) as arrays:
        if test is not None:
            return arrays[train][:3000], arrays[test][:400]
        order = np.random.default_rng(0).permutation(len(arrays[train]))
        return arrays[train][order[:700]], arrays[train][order[700:]]


@needs_data
@pytest.mark.parametrize("name", ["pokemon", "flowers", "cifar"])
def test_planted_copies_are_found_exactly(name):
    training, held_out = load(name)
    generator = np.random.default_rng(1)
    chosen = generator.choice(len(training), EXACT + NEAR, replace=False)
    copies = training[chosen].astype(np.int64)
    copies[EXACT:] += generator.integers(-6, 7, copies[EXACT:].shape)
    new, floor = held_out[:NEW], held_out[NEW:]
    generated = np.concatenate([np.clip(copies, 0, 255).astype(np.uint8), new])
    result = audit(generated, training, floor, k=20, controls=False)
    rows = {row["generated"]: row for row in result.pairs.rows()}
    for number in range(EXACT + NEAR):
        assert np.array_equal(training[rows[number]["training"]], training[chosen[number]])
        assert {"nn_ratio", "calibrated", "absolute"} <= set(rows[number]["criteria"].split())
    assert all(rows[number]["distance"] == 0 for number in range(EXACT))
    # New pictures may be flagged only as often as their distribution is: some real pictures are near-copies of others.
    new_ratio = sum("nn_ratio" in rows[number]["criteria"].split() for number in range(EXACT + NEAR, len(generated)))
    assert new_ratio <= 1
    assert result.criterion("nn_ratio")["held_out"]["fraction"] <= 0.01
    assert {row["generated"] for row in result.pairs.rows(0, EXACT + NEAR)} == set(range(EXACT + NEAR))
    if training.shape[1] >= 64:
        assert result.criterion("absolute_tiles")["generated"]["count"] >= EXACT + NEAR


@needs_data
def test_flowers_own_duplicates_are_reported():
    with np.load(DATA / "flowers102_64.npz", allow_pickle=False) as arrays:
        training = arrays["x_train"]
    found = audit(training[:3], training, controls=False, k=5).figures["inputs"]["training"]
    assert (found["count"] - found["distinct"], found["duplicate_groups"]) == (1, 1)


@needs_data
def test_planted_copies_of_an_ecg_are_found():
    with np.load(DATA / "ecg5000.npz", allow_pickle=False) as arrays:
        training, held_out = arrays["x_train"], arrays["x_test"][:300]
    generated = np.concatenate([training[:8], held_out[:50]])
    generated[4:8] += 0.01 * np.random.default_rng(0).standard_normal((4, 140)).astype(np.float32)
    result = audit(generated, training, held_out[50:], controls=False)
    assert {row["generated"] for row in result.pairs.rows(0, 8)} == set(range(8))
    assert result.criterion("nn_ratio")["generated"]["count"] == 8
    assert result.criterion("nn_ratio")["held_out"]["count"] == 0
