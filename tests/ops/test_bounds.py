"""What the kernels assume of sizes and addresses is refused at the door, by tensors that take no memory."""

import numpy as np
import pytest
import torch

from memfast import ops
from memfast.foundation.errors import InputError
from memfast.ops import checks
from memfast.ops.rows import as_rows

META = torch.device("meta")


def meta(shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device=META)


def operands(numel, batch=1):
    ids = meta((batch,), torch.int64)
    return meta((batch, numel)), meta((5, 7)), ids, ids, meta((2,), torch.int64)


def test_a_sample_has_at_most_as_many_elements_as_its_noise_has_addresses():
    """Four elements per counter, 32 bits of counter."""
    x0, *rest = operands(2**34)
    assert ops.noise(x0, *rest).shape == (1, 2**34)
    x0, *rest = operands(2**34 + 1)
    with pytest.raises(InputError, match=r"x0: expected at most 2\*\*34 elements per sample, received 17179869185"):
        ops.noise(x0, *rest)
    with pytest.raises(InputError, match=r"x0: expected at most 2\*\*34 elements"):
        ops.loss(x0, x0, *rest)
    with pytest.raises(InputError, match=r"offset \+ numel: expected from 0 to 2\*\*34"):
        ops.standard_normal(rest[1], 2**34, rest[3], offset=1)


@pytest.mark.parametrize("numel", [2**32 - 1, 2**32])
def test_a_flipped_item_has_less_than_2_to_the_32_elements(numel):
    _, table, timesteps, ids, key = operands(1)
    dataset = meta((3, numel), torch.uint8)
    arguments = (dataset, ids, table, timesteps, ids, key)
    assert ops.gather_noise(*arguments).x_in.shape == (1, numel)
    if numel < 2**32:
        assert ops.gather_noise(*arguments, flip=True).x_in.shape == (1, numel)
        return
    with pytest.raises(InputError, match=r"dataset: expected at most 2\*\*32 - 1 elements per item to flip"):
        ops.gather_noise(*arguments, flip=True)
    with pytest.raises(InputError, match=r"dataset: expected at most 2\*\*32 - 1 elements per item to flip"):
        ops.gather_loss(meta((1, numel)), *arguments, flip=True)


def test_a_launch_has_less_than_2_to_the_31_blocks():
    checks.check_programs("x0", 2**31 - 1, 1)
    with pytest.raises(InputError, match=r"x0: expected at most 2147483647 thread blocks.*Split the batch"):
        checks.check_programs("x0", 2**21, 2**10)
    pytest.importorskip("triton", reason="triton is not installed")
    from memfast.ops.triton.launch import tiles

    assert tiles("x0", 2**20, 2**20) == (256, 2**10)
    with pytest.raises(InputError, match="prediction: expected at most 2147483647 thread blocks"):
        tiles("prediction", 2**21, 2**20)


def repeated(rows, length, dtype=np.uint8):
    """``[rows, length]`` whose rows are one row of memory."""
    return np.lib.stride_tricks.as_strided(np.zeros(length, dtype), (rows, length), (0, np.dtype(dtype).itemsize))


def test_a_block_has_less_than_2_to_the_31_rows():
    assert as_rows(repeated(2**31 - 1, 1), "block").shape == (2**31 - 1, 1)
    with pytest.raises(InputError, match="block: expected at most 2147483647 rows, received 2147483648"):
        ops.nearest(np.zeros((1, 1), np.uint8), repeated(2**31, 1), 1)
    with pytest.raises(InputError, match="queries: expected at most 2147483647 rows"):
        ops.range_search(repeated(2**31, 1, np.float32), np.zeros((1, 1), np.float32), 1)
    # Not even where the rows would have to be copied first.
    with pytest.raises(InputError, match="block: expected at most 2147483647 rows"):
        ops.nearest(np.zeros((1, 2), np.uint8), np.broadcast_to(np.uint8(0), (2**31, 2)), 1)


@pytest.mark.parametrize("search", [lambda q, b: ops.nearest(q, b, 1), lambda q, b: ops.range_search(q, b, 5)])
def test_distances_and_row_numbers_fit_into_one_word(search):
    """A distance of up to 255**2 * D and a row number share 63 bits."""
    length = 2**19
    assert (255**2 * length).bit_length() == 35
    with pytest.raises(InputError, match="block: expected rows and D whose distances and indices fit into 63 bits"):
        search(repeated(1, length), repeated(2**28 + 1, length))


def misaligned(values):
    """The tensor's numbers, one byte off."""
    memory = bytearray(b"\0") + values.contiguous().view(torch.uint8).numpy().tobytes()
    return torch.frombuffer(memory, dtype=values.dtype, offset=1).view(values.shape)


@pytest.mark.parametrize("name", ["x0", "table", "timesteps", "sample_ids", "key", "fixed_ids"])
def test_tensors_off_their_alignment_are_refused(problem, name):
    pytest.importorskip("memfast._C", reason="the C++ kernels are not built")
    p = problem((2, 30))
    with pytest.raises(InputError, match=f"{name}: expected numbers at addresses .*Pass {name}.clone"):
        p.noise("cpu", **{name: misaligned(getattr(p, name))})
    assert torch.equal(p.noise("cpu", **{name: misaligned(getattr(p, name)).clone()}), p.noise("reference"))


def test_rows_off_their_alignment_are_copied():
    rows = torch.randn(40, 7, generator=torch.Generator().manual_seed(0))
    found, expected = ops.nearest(misaligned(rows), misaligned(rows), 3), ops.nearest(rows, rows, 3)
    assert np.array_equal(found.squared_distances, expected.squared_distances)
    packed = np.zeros(40, dtype=[("flag", "u1"), ("row", "f4", 7)])
    packed["row"] = rows.numpy()
    assert np.array_equal(ops.nearest(packed["row"], rows, 3).indices, expected.indices)
    bound = np.frombuffer(b"\0" + np.full(40, 1e9).tobytes(), np.float64, offset=1)
    assert np.array_equal(ops.nearest(rows, rows, 3, bound=bound).indices, expected.indices)
