"""Inner products of named pairs, row by row."""

import math

import pytest
import torch

from memfast import ops
from memfast.foundation.errors import InputError
from tests.ops.ops_cases import DTYPES

PAIRS = [(0, 2), (0, 3), (0, 0), (1, 2), (2, 1), (1, 3), (1, 1), (1, 0), (3, 3), (0, 2), (0, 0), (0, 0)]


def vectors(rows, numel, dtype=torch.float32):
    generator = torch.Generator().manual_seed(rows * 7 + numel)
    made = [torch.randn(rows, numel, generator=generator) for _ in range(4)]
    return [*(tensor.to(dtype) for tensor in made[:2]), made[2], made[3][:1]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "numel"), [(1, 1), (3, 63), (2, 500), (70, 33), (2, 8192), (1, 20_001)])
def test_equals_the_exactly_rounded_sum(isa, dtype, rows, numel):
    tensors = vectors(rows, numel, dtype)
    got = ops.inner_products(tensors, PAIRS, backend="cpu")
    reference = ops.inner_products(tensors, PAIRS, backend="reference")
    assert got.shape == (rows, len(PAIRS))
    assert got.dtype == torch.float64
    for row in {0, rows - 1}:
        for number, (i, j) in enumerate(PAIRS):
            a, b = (tensors[n][min(row, len(tensors[n]) - 1)].double() for n in (i, j))
            exact, size = math.fsum((a * b).tolist()), float((a * b).abs().sum())
            assert got[row, number] == pytest.approx(exact, rel=0, abs=1e-14 * size)
            assert reference[row, number] == pytest.approx(exact, rel=0, abs=1e-14 * size)


def test_every_instruction_set_and_number_of_threads_gives_the_same_bits():
    from tests.ops.ops_cases import INSTRUCTION_SETS, use_instruction_set

    tensors, threads, found = vectors(9, 20_001), torch.get_num_threads(), []
    try:
        for name in INSTRUCTION_SETS:
            for count in (1, 3):
                use_instruction_set(name)
                torch.set_num_threads(count)
                found.append(ops.inner_products(tensors, PAIRS, backend="cpu"))
    finally:
        use_instruction_set("best")
        torch.set_num_threads(threads)
    assert all(torch.equal(result, found[0]) for result in found)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("numel", [7, 33, 500, 20_001])
def test_vectors_with_the_same_partners_give_what_each_gives_alone(isa, dtype, numel):
    # Four at a time are multiplied together; the seventh vector has one partner less.
    generator = torch.Generator().manual_seed(numel)
    states = [torch.randn(2, numel, generator=generator).to(dtype) for _ in range(7)]
    partners = [torch.randn(2, numel, generator=generator) for _ in range(3)]
    tensors = [*states, *partners]
    pairs = [(state, second) for state in range(7) for second in (state, 7, 8, 9)][:-1]
    got = ops.inner_products(tensors, pairs, backend="cpu")
    for number, pair in enumerate(pairs):
        assert torch.equal(got[:, number], ops.inner_products(tensors, [pair], backend="cpu")[:, 0])
    torch.testing.assert_close(got, ops.inner_products(tensors, pairs, backend="reference"), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_rows_may_be_strided_and_of_several_axes(backend):
    whole = torch.randn(4, 5, 2, 3, 7)
    parts = whole.unbind(1)
    assert torch.equal(
        ops.inner_products(parts, [(0, 1), (4, 4)], backend=backend),
        ops.inner_products([part.contiguous() for part in parts], [(0, 1), (4, 4)], backend=backend),
    )
    columns = torch.randn(6, 10).t()
    torch.testing.assert_close(
        ops.inner_products([columns], [(0, 0)], backend=backend)[:, 0], columns.double().square().sum(1)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("numel", [1, 500, 20_001])
def test_a_vector_may_serve_consecutive_rows(isa, dtype, numel):
    rows, pairs = 12, [(0, 1), (0, 2), (1, 2), (2, 2), (0, 3), (3, 3), (1, 0)]
    generator = torch.Generator().manual_seed(numel)
    tensors = [torch.randn(n, numel, generator=generator).to(dtype) for n in (rows, 4, 2, 1)]
    got = ops.inner_products(tensors, pairs, backend="cpu")
    spread = [tensor.repeat_interleave(rows // len(tensor), 0) for tensor in tensors]
    want = torch.stack([(spread[i].double() * spread[j].double()).sum(1) for i, j in pairs], 1)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-11)
    torch.testing.assert_close(ops.inner_products(tensors, pairs, backend="reference"), want, rtol=1e-12, atol=1e-11)


def test_rows_that_overlap_in_memory_are_read_as_they_are():
    # The second row begins where the first one's second stretch of 16,384 elements does.
    whole = torch.randn(16_384 + 20_001)
    rows = whole.as_strided((2, 20_001), (16_384, 1))
    got = ops.inner_products([rows, torch.ones(1, 20_001)], [(1, 0), (0, 0)], backend="cpu")
    want = torch.stack([rows.double().sum(1), rows.double().square().sum(1)], 1)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


def test_float64_is_taken_and_keeps_its_digits():
    a = torch.randn(3, 100, dtype=torch.float64)
    torch.testing.assert_close(ops.inner_products([a, a[:1]], [(0, 1)])[:, 0], a @ a[0], rtol=1e-13, atol=1e-13)


def test_a_row_with_nan_or_infinity_shows_it_and_no_other_row_does():
    a = torch.ones(3, 40)
    a[1, 3], a[2, 39] = float("nan"), float("inf")
    found = ops.inner_products([a], [(0, 0)])[:, 0]
    assert found[0] == 40
    assert found[1].isnan()
    assert found[2].isinf()


def test_the_default_device_changes_nothing():
    a = torch.randn(3, 40)
    want = ops.inner_products([a], [(0, 0)])
    with torch.device("meta"):
        assert torch.equal(ops.inner_products([a], [(0, 0)]), want)


def test_tensors_without_memory_are_refused():
    with pytest.raises(InputError, match=r"tensors\[0\]: expected a tensor with memory of its own"):
        ops.inner_products([torch.empty(3, 40).as_subclass(Remote)], [(0, 0)])


class Remote(torch.Tensor):
    """As a DTensor: the values are elsewhere."""

    def data_ptr(self):
        return 0


def test_nothing_to_do():
    a = torch.zeros(0, 5)
    assert ops.inner_products([a, torch.ones(1, 5)], [(0, 1)]).shape == (0, 1)
    assert ops.inner_products([torch.ones(2, 5)], []).shape == (2, 0)
    assert ops.inner_products([torch.ones(2, 0)], [(0, 0)]).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(
    ("tensors", "pairs", "message"),
    [
        ([], [(0, 0)], "tensors: expected at least one"),
        (
            [torch.zeros(2, 3), torch.zeros(3, 3)],
            [(0, 1)],
            r"tensors\[0\]: expected 3 rows of 3 elements, or a",
        ),
        ([torch.zeros(4, 3), torch.zeros(0, 3), torch.zeros(2, 3)], [(0, 1)], r"tensors\[0\]: expected 0 rows"),
        ([torch.zeros(2, 3), torch.zeros(2, 4)], [(0, 1)], r"tensors\[1\]: expected 2 rows of 3 elements"),
        ([torch.zeros(2, 3, dtype=torch.int64)], [(0, 0)], r"tensors\[0\]: expected a floating tensor"),
        ([torch.zeros(2, 3)], [(0, 1)], "pairs: expected two numbers from 0 to 0 each"),
    ],
)
def test_bad_input(tensors, pairs, message):
    with pytest.raises(InputError, match=message):
        ops.inner_products(tensors, pairs)
