"""A short run of the fuzzing of every reader; ``python tests/data/fuzzing.py 100000`` is the long one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data import fuzzing

pytest.importorskip("datasets", reason="the package datasets is not installed")


def test_every_file_of_the_corpus_is_read_as_it_is(tmp_path):
    for name, content in fuzzing.corpus().items():
        (tmp_path / name).mkdir()
        path = tmp_path / name / name
        path.write_bytes(content)
        assert fuzzing.outcome(path, "file", np.random.default_rng(0)) == "read", name


def test_a_short_run_finds_no_fault():
    command = [sys.executable, str(Path(fuzzing.__file__)), "150", "--seed", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
