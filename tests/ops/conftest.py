"""Fixtures of the op tests."""

import pytest
import torch

from tests.ops.ops_cases import INSTRUCTION_SETS, make_problem, use_instruction_set


@pytest.fixture(params=INSTRUCTION_SETS)
def isa(request):
    """Run the test once per instruction set of this processor."""
    use_instruction_set(request.param)
    yield request.param
    use_instruction_set("best")


@pytest.fixture
def poisoned():
    """Fill every new torch tensor with NaN (or a large integer), so that an element left unwritten shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def problem():
    """The function that makes a random :class:`ops_cases.Problem`."""
    return make_problem
