"""A disk that fails gives one clear error and loses nothing. ``make soak`` tries every operation, we try a few."""

import pytest

from tests.soak.harness import failing_files
from tests.soak.harness.failing_files import TROUBLES
from tests.soak.harness.verbs import VERBS, available

NAMES = [verb.name for verb in available()]


@pytest.mark.parametrize("position", [20])
@pytest.mark.parametrize("trouble", [TROUBLES[0], TROUBLES[4]], ids=lambda trouble: trouble.name)
@pytest.mark.parametrize("name", NAMES)
def test_one_operation_fails(harness, name, trouble, position):
    assert harness.position(VERBS[name], trouble, position) == []


def test_a_rank_that_cannot_read_ends_all_ranks(harness):
    assert harness.one_rank(VERBS["audit"], 2, TROUBLES[3]) == []


def test_ranks_that_leave_at_once_leave_nobody_behind(harness):
    """The rank that ends first must not take the meeting place with it while others are still on their way."""
    command = VERBS["audit"].command(harness.data, harness.top / "early")
    command[1] += ".missing"
    ended = harness.warm.run(command, ranks=3)
    assert ended.codes == [1, 1, 1]
    assert not ended.raw, ended.text


def test_a_clock_that_jumps_by_days_changes_nothing(harness):
    assert harness.wrong_clock(VERBS["audit"]) == []


@pytest.mark.soak
@pytest.mark.timeout(12 * 3600)
def test_every_operation_fails_in_turn(tmp_path):
    counts = failing_files.run(tmp_path, every=1)
    assert not [name for name in counts if name.endswith("wrong")], dict(counts)
