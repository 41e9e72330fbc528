"""What a report is told of a training run, from the run's own files."""

import numpy as np
import pytest

from memfast import schedules
from memfast.cli.story import training_story
from memfast.objective import DenoisingObjective
from memfast.reports import ReportRun, render
from memfast.training import Monitor, Trainer, read_log


@pytest.mark.parametrize("with_floor", [True, False], ids=["floor", "no floor"])
def test_the_monitors_curve_reaches_the_report(tmp_path, with_floor):
    generator = np.random.default_rng(0)
    data, held_out = generator.normal(size=(2, 20, 12)).astype(np.float32)
    monitor = Monitor(every=2, samples=6, steps=2, held_out=held_out if with_floor else None)
    Trainer(
        {"kind": "mlp", "width": 8, "blocks": 1}, data, DenoisingObjective(schedules.linear(50)), out=tmp_path / "run",
        steps=6, batch_size=8, log_every=3, checkpoint_every=None, device="cpu", progress=False, hooks=[monitor],
    ).run()  # fmt: skip
    story = training_story(tmp_path / "run")
    log = read_log(tmp_path / "run")
    assert story["steps"] == [3, 6]
    assert story["loss"] == [entry["loss"] for entry in log if "loss" in entry]
    audits = story["audits"]
    assert audits["steps"] == [2, 4, 6]
    assert audits["fraction"] == [entry["memorized"] for entry in monitor.curve]
    assert all(low <= high for low, high in zip(audits["low"], audits["high"], strict=True))
    assert (audits["floor"] is not None) == with_floor
    page = render([ReportRun("a run", training=story)])
    assert "Memorized fraction while training" in page
    assert ("held-out" in page) == with_floor
    del story["audits"]
    assert "Memorized fraction while training" not in render([ReportRun("a run", training=story)])
