"""Several processes by torchrun: noise and order exactly as with one, the loss to tolerance, resume across them."""

import json
import os
import subprocess
import sys

import pytest
import torch

from memfast import models
from memfast.foundation.errors import InputError
from memfast.training import read_log
from memfast.training.processes import World

SCRIPT = """
import sys, json
import numpy as np, torch
torch.set_num_threads(1)
from memfast import schedules, timesteps
from memfast.objective import DenoisingObjective
from memfast.training import Hook, LossGate, Monitor, Trainer

data = np.random.default_rng(0).normal(size=(22, 12)).astype(np.float32)
out, options = sys.argv[1], json.loads(sys.argv[2])

class Record(Hook):
    name = "record"
    def begin(self, trainer):
        noise, self.seen = trainer.objective.noise, []
        def spy(*args, **kwargs):
            batch = noise(*args, **kwargs)
            if trainer.model.training:
                self.seen.append([batch.sample_ids.tolist(), batch.timesteps.tolist(), batch.x_t.double().sum((1, 2)).tolist()])
            return batch
        trainer.objective.noise = spy
    def end(self, trainer):
        open(f"{out}-seen-{trainer.world.rank}.json", "w").write(json.dumps(self.seen))

objective = DenoisingObjective(schedules.linear(100), timesteps=timesteps.ConfidenceInterval(60, 100), stratified=True)
hooks = [Record(), Monitor(every=4, samples=6, steps=2)]
skip = LossGate(ratio=0.9, warmup=2, bins=3) if options.pop("gate", False) else None
trainer = Trainer({"kind": "mlp", "width": 16, "blocks": 1}, data, objective, out=out, batch_size=8, lr=1e-2,
                  log_every=1, checkpoint_every=4, device="cpu", progress=False, hooks=hooks, skip=skip, compile=False,
                  **options)
trainer.run()
"""


def run(folder, ranks, **options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [*command, str(script), str(folder), json.dumps(options)], capture_output=True, text=True, env=environment
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return [json.loads((folder.parent / f"{folder.name}-seen-{rank}.json").read_text()) for rank in range(ranks)]


def losses(folder):
    return torch.tensor([entry["loss"] for entry in read_log(folder) if "loss" in entry], dtype=torch.float64)


def test_two_processes_are_one(tmp_path):
    (one,) = run(tmp_path / "one", 1, steps=10)
    two = run(tmp_path / "two", 2, steps=6)
    two_more = run(tmp_path / "two", 2, steps=10, resume=True)
    assert len(one) == 10
    for step in range(10):
        first, second = (two[rank][step] if step < 6 else two_more[rank][step - 6] for rank in (0, 1))
        assert [a + b for a, b in zip(first, second, strict=True)] == one[step]  # ids, timesteps, noised items: exactly
    torch.testing.assert_close(losses(tmp_path / "one"), losses(tmp_path / "two"), rtol=1e-4, atol=1e-5)
    a, b = (models.load_run(tmp_path / name).model.state_dict() for name in ("one", "two"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4)
    audits = [[entry["step"] for entry in read_log(tmp_path / name) if "memorized" in entry] for name in ("one", "two")]
    assert audits == [[4, 8], [4, 8]]


def test_accumulation_and_the_gate_agree_with_two_processes(tmp_path):
    (one,) = run(tmp_path / "one", 1, steps=6, accumulate=2, gate=True)
    first, second = run(tmp_path / "two", 2, steps=6, accumulate=2, gate=True)
    assert len(one) == len(first) == 12  # two parts a step

    def ids(*ranks):
        return [sorted(number for rank in ranks for part in rank[at : at + 2] for number in part[0]) for at in range(0, 12, 2)]

    assert ids(one) == ids(first, second)
    torch.testing.assert_close(losses(tmp_path / "one")[:2], losses(tmp_path / "two")[:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("batch", "size", "accumulate"), [(9, 2, 1), (8, 3, 1), (8, 2, 3), (8, 1, 0)])
def test_a_batch_that_does_not_divide_is_an_error(batch, size, accumulate):
    with pytest.raises(InputError, match=f"batch_size: expected a multiple of .*world size {size}"):
        World(0, size).check_batch(batch, accumulate)
    World(0, 2).check_batch(8, 2)
