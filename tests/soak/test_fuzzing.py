"""Changed files are refused or read rightly. ``make soak`` tries 100,000, ``make test`` some dozens."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.soak.harness import mutations
from tests.soak.harness.processes import environment_of_commands

SHORT_SEED, SHORT_CASES = 5, 60
# What is tried on every run of the tests; the long form tries every kind of file.
SHORT_KINDS = ("features", "settings", "generation")


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


def array_file():
    content = io.BytesIO()
    np.save(content, np.arange(12, dtype=np.float32))
    return content.getvalue()


def tensors_file():
    from safetensors.numpy import save

    return save({"a": np.arange(12)})


CONTENTS = {
    "a.json": b'{"a": [1, 2, {"b": "c"}]}', "a.csv": b"a,b\n1,2\n", "a.toml": b"[a]\nb = 1\n", "a.npy": array_file(),
    "a.safetensors": tensors_file(), "a.bin": bytes(range(200)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTENTS)
def test_mutations_change_files_and_repeat(name):
    content = CONTENTS[name]
    changed = [mutations.mutated(content, name, np.random.default_rng(seed)) for seed in range(40)]
    # Some changes cancel or find nothing to change.
    assert len(set(changed) - {content}) >= 30
    assert changed == [mutations.mutated(content, name, np.random.default_rng(seed)) for seed in range(40)]


@pytest.mark.soak
@pytest.mark.timeout(12 * 3600)
def test_a_hundred_thousand_changed_files():
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    code, text = fuzzed("--cases", 100_000, "--seed", seed)
    assert code == 0, text
