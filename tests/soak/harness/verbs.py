"""The commands under test on small data: how each is called, called again after a kill, and read."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.soak.harness.processes import Ended, Warm

# What may differ between two runs with the same result: how long they took, where and when they ran.
TIMES = re.compile(
    r"(^|_)(seconds|second|time|times|rate|rates|started|created|at|when|duration|elapsed|commit|share_of_time"
    r"|per_second|checksum|run|sha256|bytes|cost|folder)$"
)
# As a page shows them; the hashes of a page's policy change with its text.
_SHOWN_TIMES = re.compile(
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9:]+)?|[0-9.,:]+ ?(s|ms|min|h|seconds|UTC)\b|sha256-[A-Za-z0-9+/=]+"
)
CONFIG = """
[data]
path = "{data}/training.npy"
held_out = "{data}/test.npy"
[model]
kind = "mlp"
width = 16
blocks = 1
[training]
steps = {steps}
batch_size = 12
checkpoint_every = 3
log_every = 1
keep = 2
device = "cpu"
compile = false
[monitor]
every = 4
samples = 8
sampling_steps = 2
"""


@dataclass(frozen=True)
class Verb:
    """One command.

    Attributes:
        name: the command.
        arguments: what follows the name; ``{out}``, ``{data}`` and ``{seed}`` are filled in.
        ranks: the numbers of processes it can run on.
    """

    name: str
    arguments: tuple[str, ...]
    ranks: tuple[int, ...] = (1,)

    def command(self, data: Path, out: Path, *, seed: int = 0, extra: tuple[str, ...] = ()) -> list[str]:
        """The command line."""
        filled = [one.format(data=data, out=out, seed=seed) for one in (*self.arguments, *extra)]
        return [self.name, *filled, "--quiet"]


_SETS = ("{data}/generated.npy", "{data}/training.npy", "--test", "{data}/test.npy", "--seed", "{seed}")
_TRACE = ("--bank", "{data}/training.npy", "--seeds", "2", "--steps", "4", "--seed", "{seed}", "--keep-states")
VERBS = {
    verb.name: verb
    for verb in (
        Verb("audit", (*_SETS, "--out", "{out}", "-k", "5", "--metrics", "kernel_distance"), ranks=(1, 2, 3)),
        Verb("train", ("{data}/train-{seed}.toml", "--out", "{out}", "--resume"), ranks=(1, 2, 3)),
        Verb("trace", ("{data}/run", "--out", "{out}", *_TRACE)),
        Verb("evaluate", (*_SETS, "--out", "{out}", "--metrics", "kernel_distance,precision,c_t")),
    )
}


def available(names: list[str] | None = None) -> list[Verb]:
    """The verbs that this memfast has."""
    from memfast.cli.app import app

    there = {command.name for command in app.registered_commands}
    return [verb for name, verb in VERBS.items() if name in there and (not names or name in names)]


def make_data(folder: Path, warm: Warm, *, rows: int = 300) -> Path:
    """Images of 8 x 8 with five copies among the generated ones, and a trained run."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    training = random.integers(0, 256, (rows, 8, 8), dtype=np.uint8)
    generated = random.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    generated[:5] = training[:5] ^ 1
    np.save(folder / "training.npy", training)
    np.save(folder / "generated.npy", generated)
    np.save(folder / "test.npy", random.integers(0, 256, (80, 8, 8), dtype=np.uint8))
    for seed, steps in ((0, 10), (1, 8)):
        (folder / f"train-{seed}.toml").write_text(CONFIG.format(data=folder, steps=steps) + "\n")
    ended = warm.run(["train", str(folder / "train-1.toml"), "--out", str(folder / "run"), "--quiet"])
    assert ended.code == 0, ended.text
    return folder


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file that a reader of this folder sees, by name, without what times alone change."""
    from memfast.runtime.files import finish_generation

    if not folder.is_dir():
        return {}
    finish_generation(folder)
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            found[name] = _timeless(path)
    return found


def left_over(folder: Path) -> list[str]:
    """Temporary files and folders, in it and beside it."""
    inside = [str(path.relative_to(folder.parent)) for path in folder.rglob(".*")] if folder.is_dir() else []
    return inside + [path.name for path in folder.parent.glob(f".{folder.name}*")]


def differences(found: dict[str, bytes], wanted: dict[str, bytes]) -> list[str]:
    """The names of files that one lacks or that differ."""
    return sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))


def refused(ended: Ended) -> bool:
    """Whether a command said that its folder holds finished results."""
    return ended.code == 1 and "already holds" in ended.text


def _timeless(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(_without_times(json.loads(content)), sort_keys=True).encode()
    if path.suffix == ".jsonl":
        return b"\n".join(
            json.dumps(_without_times(json.loads(line)), sort_keys=True).encode() for line in content.splitlines()
        )
    if path.suffix == ".html":
        return _SHOWN_TIMES.sub(b"", content)
    return content


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_times(one) for name, one in value.items() if not TIMES.search(name)}
    return [_without_times(one) for one in value] if isinstance(value, list) else value
