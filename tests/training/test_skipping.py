"""The loss gate against its definition in plain Python."""

import numpy as np
import pytest
import torch

from memfast import schedules
from memfast.foundation.errors import InputError
from memfast.objective import DenoisingObjective
from memfast.runtime.distributed import Ranks
from memfast.training import LossGate


def test_low_losses_count_as_zero_after_the_warmup():
    generator = np.random.default_rng(0)
    gate = LossGate(ratio=0.8, bins=3, decay=0.9, warmup=2)
    gate.prepare(DenoisingObjective(schedules.linear(10)), torch.device("cpu"))
    means, skipped = {}, 0
    for step in range(30):
        losses, timesteps = generator.exponential(size=16).astype(np.float32), generator.integers(0, 10, 16)
        expected, groups = [], {}
        for loss, timestep in zip(losses, timesteps, strict=True):
            group = int(timestep) * 3 // 10
            skip = step >= 2 and group in means and loss < 0.8 * means[group]
            skipped += skip
            expected.append(0.0 if skip else float(loss))
            groups.setdefault(group, []).append(float(loss))
        parts = [
            gate.gate(torch.from_numpy(losses[half]), torch.from_numpy(timesteps[half]))
            for half in (slice(8), slice(8, 16))
        ]
        assert float(sum(parts)) / 2 == pytest.approx(np.mean(expected), rel=1e-5)
        gate.finish_step(Ranks())
        for group, values in groups.items():
            mean = np.mean(values)
            means[group] = 0.9 * means[group] + 0.1 * mean if group in means else mean
    assert skipped > 50
    assert gate.entry()["skipped"] == pytest.approx(skipped / 480)
    assert gate.entry()["skipped"] == 0


def test_skipped_samples_have_no_gradient():
    gate = LossGate(ratio=0.5, bins=1, warmup=0)
    gate.prepare(DenoisingObjective(schedules.linear(10)), torch.device("cpu"))
    gate.gate(torch.ones(4), torch.zeros(4, dtype=torch.int64))
    gate.finish_step(Ranks())
    losses = torch.tensor([0.4, 0.6], requires_grad=True)
    gate.gate(losses, torch.zeros(2, dtype=torch.int64)).backward()
    assert losses.grad.tolist() == [0.0, 0.5]


def test_bad_gates_are_refused():
    with pytest.raises(InputError, match="ratio: expected a finite number of at least 0"):
        LossGate(ratio=-1)
    with pytest.raises(InputError, match="bins: expected a whole number of at least 1"):
        LossGate(bins=0)
    continuous = DenoisingObjective(schedules.flow_continuous(), prediction_type="flow_prediction")
    with pytest.raises(InputError, match="skip: expected a schedule of timesteps"):
        LossGate().prepare(continuous, torch.device("cpu"))
