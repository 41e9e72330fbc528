"""Kill a command at random moments, run it again, and compare every bit with a run that nobody disturbed."""

import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.soak.harness.processes import KILL, LATE, Ended, Fault, Job, Launched, Warm
from tests.soak.harness.verbs import Verb, available, differences, left_over, make_data, outputs, refused

WAYS = ("kill", "kill at a file operation", "terminate", "interrupt twice", "stop and continue")
PAUSE_SECONDS = 0.3


@dataclass(frozen=True)
class Case:
    """One command and what is done to it; a function of the seed and the number."""

    number: int
    verb: Verb
    ranks: int
    way: str
    everybody: bool
    rank: int
    moment: float
    rounds: int
    over: bool

    def __str__(self) -> str:
        who = "all ranks" if self.everybody and self.ranks > 1 else f"rank {self.rank}"
        who = "rank 0" if self.way == "kill at a file operation" else who
        over = ", over older results" if self.over else ""
        return (
            f"case {self.number}: {self.verb.name} on {self.ranks}{over}: "
            f"{self.way} {who} at {self.moment:.3f} of the run, {self.rounds} times"
        )


@dataclass(frozen=True)
class Undisturbed:
    """What a run gives that nobody disturbs."""

    folder: Path
    outputs: dict[str, bytes]
    seconds: float
    operations: int


def case_of(seed: int, number: int, verbs: list[Verb], *, most_ranks: int = 3) -> Case:
    """The case of this number."""
    random = np.random.default_rng([seed, number])
    verb = verbs[number % len(verbs)]
    ranks = int(random.choice([one for one in verb.ranks if one <= most_ranks]))
    over = verb.name != "train" and random.random() < 0.4
    return Case(
        number, verb, ranks, str(random.choice(WAYS)), bool(random.random() < 0.5), int(random.integers(ranks)),
        float(random.random()), 1 + int(random.random() < 0.3), over,
    )  # fmt: skip


class Kills:
    """The harness on one set of data."""

    def __init__(self, top: Path, warm: Warm, verbs: list[Verb]) -> None:
        self.top, self.warm, self.verbs = top, warm, verbs
        self.data = make_data(top / "data", warm)
        self._undisturbed: dict[tuple[str, int, int], Undisturbed] = {}
        self._real_seconds: dict[int, float] = {}

    def undisturbed(self, verb: Verb, ranks: int, seed: int) -> Undisturbed:
        """The result of a command, computed once. Two runs must agree, or nothing could be compared."""
        key = (verb.name, ranks, seed)
        if key not in self._undisturbed:
            folder = self.top / f"{verb.name}-{ranks}-{seed}"
            ended = self.warm.run(verb.command(self.data, folder, seed=seed), ranks=ranks, fault=Fault(folder))
            assert ended.code == 0, f"{verb.name} fails undisturbed: {ended.text}"
            self._undisturbed[key] = Undisturbed(folder, outputs(folder), ended.seconds, ended.operations[0])
        return self._undisturbed[key]

    def play(self, case: Case) -> list[str]:
        """Do it; what went wrong, in words."""
        wanted = self.undisturbed(case.verb, case.ranks, 0)
        old = self.undisturbed(case.verb, case.ranks, 1) if case.over else None
        out = self.top / f"case-{case.number}" / "out"
        out.parent.mkdir(parents=True)
        extra: tuple[str, ...] = ()
        if old is not None:
            shutil.copytree(old.folder, out)
            extra = ("--overwrite",)
        command = case.verb.command(self.data, out, extra=extra)
        wrong = []
        for _ in range(case.rounds):
            ended = self._disturbed(case, command, wanted, out)
            wrong += _of_the_end(ended)
            found = outputs(out)
            if old is not None and differences(found, old.outputs) and differences(found, wanted.outputs):
                wrong.append(f"a mixture after the kill: {differences(found, wanted.outputs)} differ from the new one")
            if not any(ended.codes):
                break
        ended = self.warm.run(command, ranks=case.ranks)
        if ended.code and not refused(ended):
            wrong.append(f"the run after it ends with {ended.codes}: {ended.text.strip()[-400:]}")
        if changed := differences(outputs(out), wanted.outputs):
            wrong.append(f"other bits: {changed}")
        if rest := left_over(out):
            wrong.append(f"left over: {rest}")
        if not wrong:
            shutil.rmtree(out.parent)
        return wrong

    def launched(self, verb: Verb, ranks: int, number: int, moment: float) -> list[str]:
        """Kill the real launcher at a share of a whole run: its ranks end too, and the next run has the same bits."""
        wanted = self.undisturbed(verb, ranks, 0)
        out = self.top / f"launched-{verb.name}-{ranks}-{number}" / "out"
        command = verb.command(self.data, out)
        if ranks not in self._real_seconds:
            started = time.monotonic()
            assert Launched(verb.command(self.data, out.parent / "whole"), ranks).wait()[0] == 0
            self._real_seconds[ranks] = time.monotonic() - started
        job = Launched(command, ranks)
        time.sleep(moment * self._real_seconds[ranks])
        job.kill_launcher()
        _, text = job.wait()
        wrong = [f"{len(left)} processes still ran after 30 seconds"] if (left := job.remaining()) else []
        wrong += [f"a raw traceback: ...{text[-600:]}"] if "Traceback (most recent call last)" in text else []
        code, text = Launched(command, ranks).wait()
        if code and "already holds" not in text:
            wrong.append(f"the run after it ends with {code}: {text[-400:]}")
        if changed := differences(outputs(out), wanted.outputs):
            wrong.append(f"other bits: {changed}")
        return wrong + ([f"left over: {rest}"] if (rest := left_over(out)) else [])

    def _disturbed(self, case: Case, command: list[str], wanted: Undisturbed, out: Path) -> Ended:
        if case.way == "kill at a file operation":
            fault = Fault(out, 1 + int(case.moment * max(wanted.operations, 1)), KILL)
            # Rank 0 is the one that writes.
            return self.warm.start(command, ranks=case.ranks, fault=fault, faulty_rank=0).wait()
        job = self.warm.start(command, ranks=case.ranks)
        time.sleep(case.moment * wanted.seconds)
        ranks = list(range(case.ranks)) if case.everybody else [case.rank]
        _disturb(job, case.way, ranks)
        if case.way == "kill" and len(ranks) < case.ranks:
            # torchrun ends the others as soon as it sees that one has died.
            time.sleep(PAUSE_SECONDS)
            job.send(signal.SIGTERM)
        return job.wait()


def _disturb(job: Job, way: str, ranks: list[int]) -> None:
    if way == "kill":
        job.send(signal.SIGKILL, ranks)
    elif way == "terminate":
        job.send(signal.SIGTERM)
    elif way == "interrupt twice":
        job.send(signal.SIGINT)
        time.sleep(PAUSE_SECONDS / 10)
        job.send(signal.SIGINT)
    else:
        job.send(signal.SIGSTOP, ranks)
        time.sleep(PAUSE_SECONDS)
        job.send(signal.SIGCONT, ranks)


def _of_the_end(ended: Ended) -> list[str]:
    wrong = [f"rank {rank} did not end with the others" for rank, code in enumerate(ended.codes) if code == LATE]
    return wrong + ([f"a raw traceback: ...{ended.text.strip()[-600:]}"] if ended.raw else [])


def run(top: Path, *, cases: int, seed: int, verbs: list[str] | None = None, first: int = 0) -> Counter:
    """So many kills; prints every case that went wrong, and counts them by command."""
    counts: Counter = Counter()
    chosen = available(verbs)
    with Warm(top / "warm") as warm:
        harness = Kills(top, warm, chosen)
        print(f"kills: seed {seed}, {cases} cases of {', '.join(verb.name for verb in chosen)}; files in {top}")
        for number in range(first, first + cases):
            case = case_of(seed, number, chosen)
            wrong = harness.play(case)
            counts[f"{case.verb.name} {'wrong' if wrong else 'as it should be'}"] += 1
            if wrong:
                print(f"WRONG {case}")
                for line in wrong:
                    print(f"    {line}", flush=True)
    print(f"kills: {dict(counts)}")
    return counts
