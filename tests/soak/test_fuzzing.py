"""Changed files are refused or read rightly. ``make soak`` tries 100,000, ``make test`` some dozens."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.soak.harness import mutations
from tests.soak.harness.processes import environment_of_commands

SHORT_SEED, SHORT_CASES = 5, 80
# What is tried on every run of the tests; the long form tries every kind of file.
SHORT_KINDS = ("search", "features", "settings", "generation")


def fuzzed(*arguments):
    """In a process of its own: it forks, and threads of the tests' process would not come along."""
    command = [sys.executable, str(Path(__file__).parent), "fuzz", *map(str, arguments)]
    done = subprocess.run(command, env=environment_of_commands(), capture_output=True, text=True, check=False)
    print(done.stdout)
    return done.returncode, done.stdout + done.stderr


def test_changed_files_are_refused_or_read_rightly():
    code, text = fuzzed("--cases", SHORT_CASES, "--seed", SHORT_SEED, "--verbs", *SHORT_KINDS)
    assert code == 0, text


def test_a_process_that_dies_or_hangs_is_found():
    """The harness itself: what it must see, it sees."""
    program = (
        "import os, signal, time\nfrom tests.soak.harness import fuzzing\n"
        "def works():\n yield 'a', 'right'\n os.kill(os.getpid(), signal.SIGSEGV)\n"
        "def hangs():\n signal.alarm(1)\n time.sleep(60)\n yield 'a', 'right'\n"
        "print(fuzzing._in_a_process(works), fuzzing._in_a_process(hangs))"
    )
    environment = {**environment_of_commands(), "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert "('a', 'right'), ('process', 'it died of SIGSEGV" in done.stdout
    assert "it died of SIGALRM" in done.stdout


@pytest.mark.parametrize("name", ["a.json", "a.safetensors", "a.npy", "a.csv", "a.toml", "a.bin"])
def test_mutations_change_files_and_repeat(name):
    content = {"a.json": b'{"a": [1, 2, {"b": "c"}]}', "a.csv": b"a,b\n1,2\n", "a.toml": b"[a]\nb = 1\n"}.get(
        name, bytes(range(200))
    )
    changed = [mutations.mutated(content, name, np.random.default_rng(seed)) for seed in range(40)]
    assert sum(one != content for one in changed) >= 36
    assert changed == [mutations.mutated(content, name, np.random.default_rng(seed)) for seed in range(40)]


@pytest.mark.soak
@pytest.mark.timeout(12 * 3600)
def test_a_hundred_thousand_changed_files():
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    code, text = fuzzed("--cases", 100_000, "--seed", seed)
    assert code == 0, text
