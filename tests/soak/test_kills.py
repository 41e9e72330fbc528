"""Killed commands come back with the same bits. ``make soak`` plays hundreds of cases, ``make test`` a handful."""

import numpy as np
import pytest

from tests.soak.harness import kills
from tests.soak.harness.verbs import VERBS, available

SHORT_SEED, SHORT_CASES = 11, 3


@pytest.mark.parametrize("number", range(SHORT_CASES * len(available())))
def test_a_killed_command_comes_back_with_the_same_bits(harness, number):
    case = kills.case_of(SHORT_SEED, number, harness.verbs, most_ranks=1)
    print(case)
    assert harness.play(case) == []


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_three_hundred_kills(tmp_path):
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    counts = kills.run(tmp_path, cases=300, seed=seed)
    assert not [name for name in counts if name.endswith("wrong")], f"seed {seed}: {dict(counts)}"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("name", ["audit", "train"])
def test_a_killed_launcher_leaves_no_rank_behind(harness, name, ranks):
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    moments = np.random.default_rng(seed).random(5)
    print(f"seed {seed}: {moments}")
    for number, moment in enumerate(moments):
        assert harness.launched(VERBS[name], ranks, number, float(moment)) == []
