"""What each process runs in ``test_failing_together.py``: a training in which something goes wrong on one rank only."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from memfast.foundation.errors import MemfastError
from memfast.training import Hook, Trainer

DATA = np.random.default_rng(0).normal(size=(22, 12)).astype(np.float32)


class Fails(Hook):
    """Raises after step 3, on one rank."""

    def __init__(self, rank, error):
        self.rank, self.error = rank, error

    def after_step(self, run):
        if run.step == 3 and run.ranks.rank == self.rank:
            Path(f"{run.out}-failed").write_text(str(time.time()))
            raise self.error


class Dies(Hook):
    """Is killed after step 3, on rank 1."""

    def after_step(self, run):
        if run.step == 3 and run.ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


class HalfUsed(torch.nn.Module):
    """One of its two layers has no part in the loss."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = torch.nn.Linear(12, 12), torch.nn.Linear(12, 12)

    def forward(self, x, timesteps, labels=None):
        return self.used(x)


def train(out, model=None, **options):
    model = model or {"kind": "mlp", "width": 15, "blocks": 2}
    settings = {"steps": 300, "batch_size": 8, "log_every": 1000, "device": "cpu", "progress": False, **options}
    return Trainer(model, DATA, out=out, **settings).run()


CASES = {
    "hook-1": lambda out: train(out, hooks=[Fails(1, ValueError("a user's own mistake"))]),
    "hook-0": lambda out: train(out, hooks=[Fails(0, OSError(errno.ENOSPC, "No space left on device"))]),
    "killed": lambda out: train(out, hooks=[Dies()]),
    "unused": lambda out: [
        train(f"{out}-allowed", HalfUsed(), steps=4, find_unused_parameters=True),
        train(out, HalfUsed()),
    ],
}

if __name__ == "__main__":
    case, out = sys.argv[1:]
    try:
        CASES[case](out)
    except (MemfastError, ValueError, OSError) as error:
        print(f"{time.time()} {type(error).__name__}: {error}", flush=True)
        sys.exit(1)
