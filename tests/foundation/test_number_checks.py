"""The checks of single numbers: what they take, what they refuse, and how they say it."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from memfast.foundation.arguments import finite_number, seed_number, whole_number
from memfast.foundation.errors import InputError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "found"),
    [(0, 0), (np.int64(3), 3), (np.uint8(7), 7), (np.array(4), 4), (torch.tensor(5), 5), (2**70, 2**70)],
    ids=["int", "int64", "uint8", "array", "tensor", "large"],
)
def test_whole_numbers_of_python_numpy_and_torch(value, found):
    number = whole_number("k", value, least=0)
    assert type(number) is int
    assert number == found


@pytest.mark.parametrize("value", [True, np.True_, np.array(True), torch.tensor(True), np.array([1, 2]), "3", b"3"])
def test_what_is_no_whole_number(value):
    with pytest.raises(InputError, match=r"^k: expected a whole number, received "):
        whole_number("k", value)


@pytest.mark.parametrize(
    ("value", "found"),
    [(1, 1.0), (np.float32(0.5), 0.5), (np.int64(3), 3.0), (Fraction(1, 4), 0.25), (-0.0, -0.0)],
    ids=["int", "float32", "int64", "fraction", "minus-zero"],
)
def test_finite_numbers_of_python_and_numpy(value, found):
    number = finite_number("x", value)
    assert type(number) is float
    assert number == found
    assert math.copysign(1, number) == math.copysign(1, found)


@pytest.mark.parametrize("value", [True, np.True_, "1", 1j, 10**400, -INF, np.float32("nan"), np.array([1.0]), None])
def test_what_is_no_finite_number(value):
    with pytest.raises(InputError, match=r"^x: expected a finite number, received "):
        finite_number("x", value)


@pytest.mark.parametrize(
    ("limits", "words", "inside", "outside"),
    [
        ({"least": 0}, "of at least 0", (0, 1e300), (-1e-300,)),
        ({"greatest": 1}, ", at most 1", (1, -5), (1.0000001,)),
        ({"above": 0}, "above 0", (1e-300,), (0, -1)),
        ({"below": 1}, ", below 1", (0.999,), (1,)),
        ({"least": 0, "greatest": 1}, "from 0 to 1", (0, 1), (-0.1, 1.1)),
        ({"above": 0, "greatest": 1.75194}, "above 0 and at most 1.75194", (1.75,), (0, 1.76)),
        ({"least": 0, "below": 1}, "of at least 0 and below 1", (0,), (1,)),
        ({"above": 0, "below": 1}, "above 0 and below 1", (0.5,), (0, 1)),
    ],
    ids=["least", "greatest", "above", "below", "closed", "half-open", "half-open-2", "open"],
)
def test_limits_and_how_they_are_said(limits, words, inside, outside):
    for value in inside:
        assert finite_number("x", value, **limits) == value
    for value in outside:
        with pytest.raises(InputError, match=re.escape(f"a finite number{'' if words[0] == ',' else ' '}{words}, rec")):
            finite_number("x", value, **limits)


def test_a_seed_is_64_bits():
    assert [seed_number("seed", value) for value in (-(2**63), 2**64 - 1)] == [-(2**63), 2**64 - 1]
    for value in (-(2**63) - 1, 2**64):
        with pytest.raises(InputError, match="seed: expected a 64-bit whole number"):
            seed_number("seed", value)


def test_a_number_too_long_to_be_written_is_refused_too():
    for call in (whole_number, finite_number):
        with pytest.raises(InputError, match=r"^x: expected .*, received an int of thousands of digits\.$"):
            call("x", 10**5000, greatest=9)


def test_a_long_value_is_cut():
    with pytest.raises(InputError, match=r"received '3{79} \.\.\.\."):
        whole_number("k", "3" * 1000)
