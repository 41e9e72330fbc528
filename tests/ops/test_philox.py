"""Philox4x32-10 against the Random123 known answers and NumPy's independent implementation."""

import numpy as np
import pytest
import torch

from memfast import ops
from memfast.foundation.errors import InputError

# Random123 1.14, examples/kat_vectors, "philox4x32 10": counter, key, answer.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return torch.tensor([int(word, 16) for word in text.split()])


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers_on_the_reference(counter, key, answer):
    assert ops.philox(words(counter), words(key), backend="reference").tolist() == words(answer).tolist()


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers_on_every_instruction_set(isa, counter, key, answer):
    assert ops.philox(words(counter), words(key), backend="cpu").tolist() == words(answer).tolist()


def test_kernels_equal_the_reference_on_random_counters(isa):
    generator = torch.Generator().manual_seed(1)
    counter = torch.randint(0, 2**32, (7, 33, 4), generator=generator)
    key = torch.randint(0, 2**32, (33, 2), generator=generator)
    assert torch.equal(ops.philox(counter, key, backend="cpu"), ops.philox(counter, key, backend="reference"))


def test_the_layout_of_the_counter_is_the_contract():
    seed, step, sample, element, stream = 0x0123456789ABCDEF, 77, 0xABCDEF0123456, 10, 2
    counter = torch.tensor([element // 4, sample & 0xFFFFFFFF, step, stream << 24 | sample >> 32])
    w = ops.philox(counter, torch.tensor([seed & 0xFFFFFFFF, seed >> 32])).numpy()
    # Element 10 is the third of its four: cosine branch of words 2 and 3, here in float64.
    u, angle = (np.float32(w[2]) + np.float32(0.5)) / 2**32, w[3] / 2**32 * 2 * np.pi
    expected = np.sqrt(-2 * np.log(np.float64(u))) * np.cos(angle)
    got = ops.standard_normal(torch.tensor([sample]), 1, ops.key(seed, step), stream, offset=element)
    assert abs(float(got) - expected) < 1e-6 * max(1, abs(expected))


@pytest.mark.parametrize(
    ("counter", "key"),
    [(torch.zeros(4), [0, 0]), (torch.zeros(3, dtype=torch.int64), [0, 0])],
    ids=["float counter", "three words"],
)
def test_bad_counters_are_refused(counter, key):
    with pytest.raises(InputError, match="counter: expected an int64 tensor"):
        ops.philox(counter, torch.tensor(key))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(("name", "word"), [("counter", -1), ("counter", 2**32), ("key", -5), ("key", 2**40)])
def test_entries_that_are_no_words_are_refused(backend, name, word):
    given = {"counter": torch.zeros(4, dtype=torch.int64), "key": torch.zeros(2, dtype=torch.int64)}
    given[name][1] = word
    with pytest.raises(InputError, match=f"{name}: expected values from 0 to 4294967295, received {word}"):
        ops.philox(**given, backend=backend)


@pytest.mark.parametrize(
    ("seed", "step", "name"), [(0.5, 0, "seed"), ("7", 0, "seed"), (0, 1.0, "step"), (None, 0, "seed")]
)
def test_a_key_takes_whole_numbers_only(seed, step, name):
    with pytest.raises(InputError, match=f"{name}: expected a"):
        ops.key(seed, step)


def test_a_key_takes_whole_numbers_of_numpy_and_torch():
    assert torch.equal(ops.key(np.uint64(2**64 - 1), torch.tensor(3)), ops.key(2**64 - 1, 3))
