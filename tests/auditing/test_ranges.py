"""Sets whose values mean different things are refused or warned of, and can be brought to one range."""

import numpy as np
import pytest

import memfast
from memfast.foundation.errors import InputError

BYTES = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
OTHERS = np.random.default_rng(1).integers(0, 256, (30, 8, 8), dtype=np.uint8)
UNIT, SIGNED, FULL = BYTES / 255.0, BYTES / 127.5 - 1, BYTES.astype(np.float64)
RANGES = {"unit": ((0, 1), UNIT), "signed": ((-1, 1), SIGNED), "full": ((0, 255), FULL)}


def audit(generated, training, test=None, **options):
    return memfast.audit(generated, training, test, controls=False, **options)


@pytest.mark.parametrize("training", list(RANGES))
@pytest.mark.parametrize("generated", list(RANGES))
def test_different_ranges_are_refused_and_brought_to_one(generated, training):
    (own, samples), (known, items) = RANGES[generated], RANGES[training]
    if generated == training:
        assert audit(samples, items).fraction("absolute") == 1
        return
    with pytest.raises(InputError, match=r"generated: expected values of the training set's range") as caught:
        audit(samples, items)
    for text in (f"{known[0]} to {known[1]}", "value_range={'generated'", "--value-range generated="):
        assert text in str(caught.value)
    found = audit(samples, items, value_range={"generated": own, "training": known})
    assert found.fraction("absolute") == 1
    assert found.fraction("nn_ratio") == 1
    assert np.allclose(found.pairs.columns["distance"], 0, atol=1e-9)
    described = found.figures["inputs"]["generated"]
    assert described["value_range"] == list(own)
    assert np.allclose([described["low"], described["high"]], own, atol=0.01)
    assert described["sha256"] == audit(samples, samples).figures["inputs"]["generated"]["sha256"]
    assert described["dtype"] == "float64"


def test_the_held_out_set_is_compared_too():
    with pytest.raises(InputError, match="test: expected values of the training set's range, -1 to 1"):
        audit(SIGNED, SIGNED, OTHERS / 255.0)
    found = audit(
        SIGNED, SIGNED, OTHERS / 255.0, value_range={"generated": (-1, 1), "training": (-1, 1), "test": (0, 1)}
    )
    same = audit(SIGNED, SIGNED, OTHERS / 127.5 - 1)
    for name in ("nn_ratio", "absolute", "calibrated"):
        assert found.criterion(name)["held_out"] == same.criterion(name)["held_out"]


def test_bytes_meet_floats_where_both_ranges_are_given():
    with pytest.raises(InputError, match="give value_range for each set"):
        audit(UNIT, BYTES)
    found = audit(UNIT.astype(np.float32), BYTES, value_range={"generated": (0, 1)})
    assert found.fraction("absolute") == 1
    assert found.figures["inputs"]["units"] == "values 0 to 255 are 0 to 1, as given"
    assert found.figures["inputs"]["training"]["value_range"] == [0, 255]


@pytest.mark.parametrize(
    "samples",
    [UNIT * 0.98 - 0.03, UNIT[:2] * 0 + 0.5, UNIT * 1.02, UNIT * 0.3],
    ids=["a little below", "constant", "a little above", "narrow"],
)
def test_samples_that_stray_a_little_are_no_other_range(samples):
    found = audit(samples, UNIT)
    assert not any("range" in text for text in found.figures["statement"]["warnings"])


@pytest.mark.parametrize(
    ("samples", "training"),
    [
        (UNIT, (UNIT - 0.45) / 0.22),  # against images that were standardised
        (UNIT + 40, UNIT),
        (UNIT * 1000, UNIT * 3 + 2),
        (UNIT * 0.7, SIGNED),
        (SIGNED * 0.4, UNIT),
    ],
    ids=["standardised", "shifted", "scaled", "dark", "pale"],
)
def test_other_ranges_are_warned_of(samples, training):
    warnings = audit(samples, training).figures["statement"]["warnings"]
    assert any("have different ranges" in text and "value_range" in text for text in warnings)


def test_bytes_that_were_cut_to_zero_and_one_are_warned_of():
    warnings = audit((BYTES / 255.0).astype(np.uint8), BYTES).figures["statement"]["warnings"]
    assert any("cut to whole numbers" in text for text in warnings)
    assert not any("whole numbers" in text for text in audit(BYTES // 3, BYTES).figures["statement"]["warnings"])


def test_values_outside_the_range_that_was_given_are_warned_of():
    warnings = audit(SIGNED, SIGNED, value_range=(0, 1)).figures["statement"]["warnings"]
    assert any("generated set (-1 to 1) leave the range given for it, 0 to 1" in text for text in warnings)


def test_each_sets_low_and_high_stand_in_the_result():
    inputs = audit(UNIT * 0.5, UNIT, UNIT * 0.25).figures["inputs"]
    found = {name: (inputs[name]["low"], inputs[name]["high"]) for name in ("generated", "training", "held_out")}
    assert found == {"generated": (0, 0.5), "training": (0, 1), "held_out": (0, 0.25)}


@pytest.mark.parametrize(
    ("value_range", "words"),
    [
        ((1, 1), r"value_range: expected \(low, high\) with low < high"),
        ("01", r"value_range: expected \(low, high\)"),
        ((0, float("nan")), "value_range: expected a finite number"),
        ({}, "value_range: expected ranges of generated, training, test, received no set"),
        ({"samples": (0, 1)}, "received 'samples'"),
        ({"generated": (0, 1, 2)}, "value_range of generated: expected"),
        ({"generated": (0, 1)}, "expected the range of every set where sets differ, received no range of"),
    ],
)
def test_ranges_that_cannot_be_used_are_named(value_range, words):
    with pytest.raises(InputError, match=words):
        audit(UNIT, UNIT, value_range=value_range)


def test_one_range_stated_for_training_alone_is_that_of_the_unit():
    found = audit(UNIT, UNIT, value_range={"training": (0, 2)})
    assert found.figures["inputs"]["units"] == "values 0 to 2 are 0 to 1, as given"


def test_ranges_that_sets_were_opened_with_are_known():
    samples, training = memfast.data.ArraySource(UNIT), memfast.data.ArraySource(SIGNED)
    samples.value_range, training.value_range = (0.0, 1.0), (-1.0, 1.0)
    assert audit(samples, training).fraction("absolute") == 1
    training.value_range = None
    with pytest.raises(InputError, match="expected values of the training set's range"):
        audit(samples, training)
