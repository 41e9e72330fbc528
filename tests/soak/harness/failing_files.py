"""Let each operation on files fail in turn: a full, broken or forbidden disk, half of a read, a wrong clock."""

import errno
import shutil
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.soak.harness.kills import Kills, Undisturbed
from tests.soak.harness.processes import CHANGES, FAIL, JUMP, KEEP_FAILING, LATE, READS, SHORTEN, Ended, Fault, Warm
from tests.soak.harness.verbs import Verb, available, differences, left_over, outputs, refused


@dataclass(frozen=True)
class Trouble:
    """One kind of fault."""

    name: str
    kinds: int
    action: int
    error: int = 0


TROUBLES = (
    Trouble("full disk", CHANGES, KEEP_FAILING, errno.ENOSPC),
    Trouble("broken disk", CHANGES, FAIL, errno.EIO),
    Trouble("forbidden", CHANGES, FAIL, errno.EACCES),
    Trouble("unreadable", READS, FAIL, errno.EIO),
    Trouble("short read", READS, SHORTEN),
)


class FailingFiles(Kills):
    """Commands on files that fail."""

    def position(self, verb: Verb, trouble: Trouble, position: int, *, over: bool = True) -> list[str]:
        """Run with the n-th operation failing, then again without; what went wrong, in words."""
        out = self._prepared(verb, f"{trouble.name}-{position}", over)
        folder = self.top if trouble.kinds == READS else out.parent
        fault = Fault(folder, position, trouble.action, trouble.error, trouble.kinds)
        ended = self.warm.run(self._command(verb, out, over), fault=fault)
        return self._judged(verb, out, ended, over)

    def operations(self, verb: Verb, trouble: Trouble) -> int:
        """How many operations of this kind a whole run has."""
        out = self._prepared(verb, "counting", over=False)
        folder = self.top if trouble.kinds == READS else out.parent
        ended = self.warm.run(self._command(verb, out, over=False), fault=Fault(folder, kinds=trouble.kinds))
        shutil.rmtree(out.parent)
        return ended.operations[0]

    def wrong_clock(self, verb: Verb) -> list[str]:
        """The clock jumps by a day, forwards and backwards, at every look."""
        out = self._prepared(verb, "clock", over=False)
        ended = self.warm.run(self._command(verb, out, over=False), fault=Fault(out, action=JUMP))
        return self._judged(verb, out, ended, over=False)

    def removed_folder(self, verb: Verb, moment: float) -> list[str]:
        """Somebody removes the output folder while the command runs."""
        out = self._prepared(verb, f"removed-{moment}", over=False)
        return self._meanwhile(verb, out, moment, lambda: shutil.rmtree(out, ignore_errors=True))

    def replaced_file(self, verb: Verb, moment: float) -> list[str]:
        """Somebody replaces the training set by another one of the same size while the command runs."""
        out = self._prepared(verb, f"replaced-{moment}", over=False)
        path, kept = self.data / "training.npy", self.top / "kept.npy"
        shutil.copy(path, kept)
        other = self.top / "other.npy"
        np.save(other, np.load(path)[::-1])
        try:
            ended, _ = self._while_running(verb, out, moment, lambda: shutil.move(other, path))
        finally:
            shutil.move(kept, path)
        return self._judged(verb, out, ended, over=False, must_equal=False)

    def one_rank(self, verb: Verb, ranks: int, trouble: Trouble, *, memory: int = 0) -> list[str]:
        """One rank alone meets a fault where it reads data, or has too little memory: all end together."""
        fault = Fault(self.data, 2, trouble.action, trouble.error, trouble.kinds)
        out = self._prepared(verb, f"rank-{trouble.name}-{memory}", over=False)
        ended = self.warm.start(
            self._command(verb, out, over=False), ranks=ranks, fault=None if memory else fault, faulty_rank=ranks - 1,
            memory=memory,
        ).wait()  # fmt: skip
        wrong = [] if all(ended.codes) else [f"not every rank failed: {ended.codes}"]
        return wrong + self._judged(verb, out, ended, over=False, ranks=ranks)

    def _meanwhile(self, verb: Verb, out: Path, moment: float, do) -> list[str]:
        ended, done = self._while_running(verb, out, moment, do)
        if ended.code == 0 and done and differences(outputs(out), self.undisturbed(verb, 1, 0).outputs):
            # It had ended before, or it succeeded without a result.
            return ["it ends with 0 and has no whole result"] if ended.seconds > 1.2 * done else []
        return self._judged(verb, out, ended, over=False)

    def _while_running(self, verb: Verb, out: Path, moment: float, do) -> tuple[Ended, float]:
        job = self.warm.start(self._command(verb, out, over=False))
        after = moment * self.undisturbed(verb, 1, 0).seconds
        at: list[float] = []
        timer = threading.Timer(after, lambda: (do(), at.append(time.monotonic() - job.started)))
        timer.start()
        ended = job.wait()
        timer.cancel()
        timer.join()
        return ended, at[0] if at else 0.0

    def _prepared(self, verb: Verb, name: str, over: bool) -> Path:
        out = self.top / f"{verb.name}-{name}".replace(" ", "-") / "out"
        out.parent.mkdir(parents=True)
        if over and verb.name != "train":
            shutil.copytree(self.undisturbed(verb, 1, 1).folder, out)
        return out

    def _command(self, verb: Verb, out: Path, over: bool) -> list[str]:
        return verb.command(self.data, out, extra=("--overwrite",) if over and verb.name != "train" else ())

    def _judged(
        self, verb: Verb, out: Path, ended: Ended, over: bool, *, must_equal: bool = True, ranks: int = 1
    ) -> list[str]:
        wanted: Undisturbed = self.undisturbed(verb, ranks, 0)
        wrong = [] if ended.code in (0, 1) and LATE not in ended.codes else [f"it ends with {ended.codes}"]
        if ended.raw or (ended.code == 1 and "memfast: " not in ended.text):
            wrong.append(f"a raw error: ...{ended.text.strip()[-600:]}")
        found = outputs(out)
        if must_equal and ended.code == 0 and differences(found, wanted.outputs):
            wrong.append(f"it ends with 0 and other bits: {differences(found, wanted.outputs)}")
        if over and verb.name != "train":
            old = self.undisturbed(verb, ranks, 1).outputs
            if differences(found, old) and differences(found, wanted.outputs):
                wrong.append(f"a mixture: {differences(found, wanted.outputs)}")
        again = self.warm.run(self._command(verb, out, over), ranks=ranks)
        if again.code and not refused(again):
            wrong.append(f"the next run ends with {again.codes}: {again.text.strip()[-400:]}")
        elif must_equal and (changed := differences(outputs(out), wanted.outputs)):
            wrong.append(f"other bits in the next run: {changed}")
        if rest := left_over(out):
            wrong.append(f"left over: {rest}")
        if not wrong:
            shutil.rmtree(out.parent)
        return wrong


def run(top: Path, *, every: int, verbs: list[str] | None = None, seed: int = 0) -> Counter:
    """Every n-th position of every trouble of every command, from a first one that the seed gives."""
    counts: Counter = Counter()
    with Warm(top / "warm") as warm:
        harness = FailingFiles(top, warm, available(verbs))
        print(f"failing files: every {every}. operation, seed {seed}; files in {top}", flush=True)
        for verb in harness.verbs:
            for trouble in TROUBLES:
                total = harness.operations(verb, trouble)
                for position in range(1 + seed % every, total + 1, every):
                    wrong = harness.position(verb, trouble, position)
                    tell(counts, f"{verb.name}, {trouble.name} at operation {position} of {total}", wrong)
            tell(counts, f"{verb.name}, wrong clock", harness.wrong_clock(verb))
            for moment in (0.3, 0.6, 0.9):
                tell(counts, f"{verb.name}, folder removed at {moment}", harness.removed_folder(verb, moment))
                tell(counts, f"{verb.name}, file replaced at {moment}", harness.replaced_file(verb, moment))
            for ranks in verb.ranks[1:]:
                wrong = harness.one_rank(verb, ranks, TROUBLES[3])
                tell(counts, f"{verb.name}, rank {ranks - 1} of {ranks} cannot read", wrong)
    print(f"failing files: {dict(counts)}")
    return counts


def tell(counts: Counter, what: str, wrong: list[str]) -> None:
    """Count a case, and print it where it went wrong."""
    counts[f"{what.partition(',')[0]} {'wrong' if wrong else 'as it should be'}"] += 1
    if wrong:
        print(f"WRONG {what}")
        for line in wrong:
            print(f"    {line}", flush=True)
