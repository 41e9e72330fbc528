"""What each process runs in ``test_sharding.py``: short trainings, recording what the network was given."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from memfast import schedules, timesteps
from memfast.foundation.errors import MemfastError
from memfast.objective import DenoisingObjective
from memfast.training import Hook, LossGate, Monitor, NotFiniteError, Trainer

DATA = np.random.default_rng(0).normal(size=(22, 12)).astype(np.float32)


class Record(Hook):
    """Notes the sample ids, timesteps and noised items of every training call of the objective."""

    name = "record"

    def __init__(self, file):
        self.file, self.seen = file, []

    def begin(self, run):
        noise = run.objective.noise

        def spy(*args, **kwargs):
            batch = noise(*args, **kwargs)
            sums = batch.x_t.double().sum((1, 2))
            self.seen.append([batch.sample_ids.tolist(), batch.timesteps.tolist(), sums.tolist()])
            return batch

        run.objective.noise = spy

    def end(self, run):
        Path(f"{self.file}-{run.ranks.rank}.json").write_text(json.dumps(self.seen))


class Learned(Hook):
    """Notes what each process has at the end: its density's state and its weights, as exact numbers."""

    name = "learned"

    def __init__(self, file):
        self.file = file

    def end(self, run):
        state = {name: tensor.tolist() for name, tensor in run.objective.state_dict().items()}
        weights = {name: tensor.flatten().tolist() for name, tensor in run.model.state_dict().items()}
        noted = {"density": state, "weights": weights, "probabilities": run.objective.probabilities.tolist()}
        Path(f"{self.file}-{run.ranks.rank}.json").write_text(json.dumps(noted))


class Fragile(torch.nn.Module):
    """NaN for items far from the others."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, timesteps, labels=None):
        return torch.where(x.abs().amax(-1, keepdim=True) > 50, torch.nan, self.scale * x)


def find_the_bad_item(out):
    """One item is out of range: only the process that draws it can name it."""
    data = DATA.copy()
    data[7] = 1e4
    objective = DenoisingObjective(schedules.cosine(100), timesteps.ConfidenceInterval(0, 10, tails="renormalize"))
    rank = os.environ.get("RANK", "0")
    try:
        Trainer(Fragile(), data, objective, out=out, steps=40, batch_size=8, device="cpu", progress=False).run()
    except NotFiniteError as error:
        Path(f"{out}-{rank}.txt").write_text(str(error))


def train(out, record, **options):
    where = timesteps.ConfidenceInterval(60, 100)
    objective = DenoisingObjective(schedules.linear(100), timesteps=where, stratified=True)
    model = {"kind": "mlp", "width": 15, "blocks": 2}
    hooks = [Record(f"{out}-{record}"), Monitor(every=4, samples=6, steps=2)]
    return Trainer(
        model, DATA, objective, out=out, batch_size=8, lr=1e-2, log_every=1, checkpoint_every=4, device="cpu",
        progress=False, hooks=hooks, **options,
    ).run()  # fmt: skip


def adapt(out, record, **options):
    """A density that learns from the losses, on so few timesteps that it is warm halfway through the first steps."""
    density = timesteps.LossSecondMoment(history=2, uniform_share=0.1)
    objective = DenoisingObjective(schedules.linear(5), density)
    hooks = [Record(f"{out}-{record}"), Learned(f"{out}-{record}-learned")]
    return Trainer(
        {"kind": "mlp", "width": 15, "blocks": 2}, DATA, objective, out=out, batch_size=8, accumulate=2, lr=1e-2,
        log_every=1, checkpoint_every=4, device="cpu", progress=False, hooks=hooks, **options,
    ).run()  # fmt: skip


class Features(torch.nn.Module):
    """Random features in a buffer, which each process would draw for itself."""

    def __init__(self):
        super().__init__()
        self.register_buffer("features", torch.randn(12, 8))
        self.last = torch.nn.Linear(8, 12)

    def forward(self, x, timesteps, labels=None):
        return self.last(x @ self.features)


def featured(out):
    torch.manual_seed(int(os.environ.get("RANK", "0")))
    hooks = [Learned(f"{out}-learned")]
    Trainer(Features(), DATA, out=out, steps=1, batch_size=8, device="cpu", progress=False, hooks=hooks).run()


def refused(out):
    """The folder holds something: every process must say so, and none may wait for another."""
    try:
        Trainer({"kind": "mlp"}, DATA, out=out, steps=1, batch_size=8, device="cpu", progress=False).run()
    except MemfastError as error:
        Path(f"{out}-refused-{os.environ.get('RANK', '0')}.txt").write_text(str(error))


def main(folder):
    train(f"{folder}/plain", "first", steps=6)
    train(f"{folder}/plain", "rest", steps=10, resume=True)
    train(f"{folder}/gated", "all", steps=6, accumulate=2, skip=LossGate(ratio=0.9, warmup=2, bins=3))
    train(f"{folder}/spread", "first", steps=6, shard=True, grad_clip=0.1)
    train(f"{folder}/spread", "rest", steps=10, shard=True, grad_clip=0.1, resume=True)
    train(f"{folder}/spread-gated", "all", steps=6, accumulate=2, shard=True,
          skip=LossGate(ratio=0.9, warmup=2, bins=3))  # fmt: skip
    adapt(f"{folder}/adaptive", "first", steps=8)
    adapt(f"{folder}/adaptive", "rest", steps=16, resume=True)
    find_the_bad_item(f"{folder}/bad")
    featured(f"{folder}/featured")
    refused(f"{folder}/featured")


if __name__ == "__main__":
    main(sys.argv[1])
