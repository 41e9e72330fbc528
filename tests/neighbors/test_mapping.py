"""Blocks in mappings of their own: shapes and types like any array's, and MemoryError where there is no room."""

import pickle

import numpy as np
import pytest
import torch

from memfast.neighbors.rows import new_block
from memfast.neighbors.tiles import is_out_of_memory


@pytest.mark.parametrize("shape", [(1, 1), (63, 5), (500, 1000), (0, 4), (3, 0)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">f4", "S0"])
def test_a_block_is_an_array_like_any_other(shape, dtype):
    block, plain = new_block(shape, dtype), np.empty(shape, dtype)
    assert (block.shape, block.dtype, block.strides) == (plain.shape, plain.dtype, plain.strides)
    assert block.flags.writeable
    assert block.flags.aligned
    block[...] = plain[...] = 7
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(block)), plain)


def test_a_view_keeps_the_memory():
    tensor = torch.from_numpy(new_block((300, 1000), np.float32).reshape(-1)[5:])
    tensor.fill_(3)
    assert tensor.sum() == 3 * 299_995


@pytest.mark.parametrize("rows", [1 << 50, 1 << 60])
def test_too_large_a_block_is_out_of_memory(rows):
    with pytest.raises(MemoryError, match="no room for a block of") as caught:
        new_block((rows, 8), np.float64)
    assert is_out_of_memory(caught.value)
