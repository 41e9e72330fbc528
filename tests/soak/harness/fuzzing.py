"""Read changed files in processes with little memory and time: the right value or an error of ours, nothing else."""

import contextlib
import os
import pickle
import resource
import shutil
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from tests.soak.harness.mutations import mutated
from tests.soak.harness.own_files import FILES, Kind, available

MEMORY_BYTES, SECONDS, CASES_OF_A_PROCESS = 4 << 30, 20, 100


def run(top: Path, *, cases: int, seed: int, kinds: list[str] | None = None, first: int = 0) -> Counter:
    """So many cases, some in each process; prints those that went wrong, and keeps their files."""
    counts: Counter = Counter()
    told: set[str] = set()
    chosen = available(kinds)
    print(f"fuzzing: seed {seed}, {cases} cases of {', '.join(kind.name for kind in chosen)}; files in {top}")
    for name, outcome in _in_a_process(lambda: [_original(kind, top) for kind in chosen], limits=False):
        assert outcome == "written", f"{name}: {outcome}"
    for start in range(first, first + cases, CASES_OF_A_PROCESS):
        stop = min(start + CASES_OF_A_PROCESS, first + cases)
        while start < stop:
            done = _in_a_process(lambda start=start, stop=stop: _cases(top, chosen, seed, start, stop))
            for name, outcome in done:
                known = outcome in ("right", "refused")
                counts[f"{name} {outcome if known else 'wrong'}"] += 1
                where = outcome.partition("Traceback")[0].rpartition("/")[2] + "".join(outcome.splitlines()[-4:])
                if not known and where not in told:  # one of each kind is enough to read
                    told.add(where)
                    print(f"WRONG {name}, case {start} to {stop} of seed {seed}: {outcome}", flush=True)
            start = start + len(done) if done else stop
    print(f"fuzzing: {dict(counts)}")
    return counts


def _in_a_process(work, *, limits: bool = True) -> list:
    """What ``work`` yields, in a forked process; where that dies, what it had, and how it died."""
    with tempfile.TemporaryFile() as notes:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if limits:
                    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
                warnings.simplefilter("ignore")
                # What a warning says is not silent: an older checkpoint instead of a damaged one.
                warnings.simplefilter("error", RuntimeWarning)
                for one in work():
                    notes.write(pickle.dumps(one))
                    notes.flush()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        notes.seek(0)
        found = []
        with contextlib.suppress(EOFError):
            while True:
                found.append(pickle.load(notes))
    if os.WIFSIGNALED(status):
        found.append(("process", f"it died of {signal.Signals(os.WTERMSIG(status)).name} in the next case"))
    elif status:
        found.append(("process", "the harness failed"))
    return found


def _original(kind: Kind, top: Path) -> tuple[str, str]:
    kind.write(top / kind.name)
    return kind.name, "written"


def _cases(top: Path, kinds: list[Kind], seed: int, start: int, stop: int):
    values: dict[str, str] = {}
    for number in range(start, stop):
        random = np.random.default_rng([seed, number])
        kind = kinds[number % len(kinds)]
        if kind.name not in values:
            values[kind.name] = repr(kind.read(_copied(kind, top, "whole")))
        yield kind.name, _outcome(kind, top, values[kind.name], random, number)


def _outcome(kind: Kind, top: Path, wanted: str, random: np.random.Generator, number: int) -> str:
    """ "right", "refused", or what went wrong."""
    from memfast.foundation.errors import MemfastError

    folder = _copied(kind, top, f"{kind.name}-{number}")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.endswith(FILES[kind.name])]
    path = paths[int(random.integers(len(paths)))]
    content = path.read_bytes()
    changed = mutated(content, path.name, random)
    path.write_bytes(changed)
    signal.alarm(SECONDS)
    try:
        value = repr(kind.read(folder))
    except (MemfastError, RuntimeWarning):
        outcome = "refused"
    except Exception:
        outcome = f"{path}: Traceback ...{traceback.format_exc()[-700:]}"
    else:
        sealed = path.name.endswith(kind.sealed) if kind.sealed else False
        outcome = f"{path}: another value in silence" if sealed and value != wanted else "right"
    signal.alarm(0)
    if outcome in ("right", "refused"):
        shutil.rmtree(folder)
    return outcome


def _copied(kind: Kind, top: Path, name: str) -> Path:
    folder = top / "changed" / name / kind.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(top / kind.name, folder)
    return folder
