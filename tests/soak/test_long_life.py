"""A process that lives long holds no more than before; many threads get the bits of one."""

import json
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import memfast
from tests.soak.harness.processes import environment_of_commands

PROGRAM = Path(__file__).parent / "harness" / "long_life.py"
# Allocators keep some of what they were given; 500 audits that each lost 100 kB would lose 50 MB.
MOST_GROWTH = 24 << 20


def stages(what, count):
    command = [sys.executable, str(PROGRAM), what, str(count)]
    done = subprocess.run(command, env=environment_of_commands(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("count", [8, pytest.param(500, marks=pytest.mark.soak)])
def test_audits_in_one_process_leave_nothing_behind(count):
    found = stages("audits", count)
    print(found)
    for one in found[1:]:
        assert one["files"] <= found[0]["files"]
        assert one["threads"] <= found[0]["threads"]
    assert found[-1]["resident"] - found[0]["resident"] < MOST_GROWTH


@pytest.mark.parametrize("count", [80, pytest.param(5000, marks=pytest.mark.soak)])
def test_more_images_than_files_may_be_open(count):
    assert stages("files", count)[0]["files"] < 64


def test_thirty_two_threads_get_the_bits_of_one():
    random = np.random.default_rng(0)
    training, queries = (
        random.normal(size=(400, 48)).astype(np.float32),
        random.normal(size=(20, 48)).astype(np.float32),
    )
    numbers = torch.arange(16)

    def both(_):
        found = memfast.knn(queries, training, 5)
        noise = memfast.ops.standard_normal(numbers, 100, memfast.key(seed=1, step=2))
        return found.squared_distances.tobytes() + found.indices.tobytes() + noise.numpy().tobytes()

    alone, filters = both(0), list(warnings.filters)
    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(both, range(128))) == {alone}
    assert warnings.filters == filters
