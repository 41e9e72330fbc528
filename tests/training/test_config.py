"""Numbers that cannot be meant, and options that would have no effect, are refused before anything is written."""

import numpy as np
import pytest
import torch

from memfast import schedules
from memfast.data import ArraySource
from memfast.foundation.errors import InputError
from memfast.objective import Ambient, DenoisingObjective
from memfast.timesteps import LogNormal, LossSecondMoment
from memfast.training import Canaries, Hook, LossGate, Monitor, Trainer, read_log

ITEMS = np.random.default_rng(0).integers(0, 256, (8, 4, 4), dtype=np.uint8)
AMBIENT = DenoisingObjective(schedules.linear(100), ambient=Ambient(timestep=50))
MODEL = {"kind": "mlp", "width": 8, "blocks": 1}


class Labelled(ArraySource):
    """Items of three classes."""

    def __init__(self):
        super().__init__(ITEMS, labels=np.arange(8) % 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr: expected a finite number above 0, received -1.0"),
        ({"lr": 0.0}, "lr: expected a finite number above 0"),
        ({"lr": float("nan")}, "lr: expected a finite number above 0, received nan"),
        ({"grad_clip": 0.0}, "grad_clip: expected a finite number above 0"),
        ({"weight_decay": -1.0}, "weight_decay: expected a finite number of at least 0"),
        ({"weight_decay": float("inf")}, "weight_decay: expected a finite number"),
        ({"warmup": -1}, "warmup: expected a whole number of at least 0"),
        ({"accumulate": 0}, "accumulate: expected a whole number of at least 1, received 0"),
        ({"batch_size": 0}, "batch_size: expected a whole number of at least 1"),
        ({"condition_dropout": 0.5}, "condition_dropout: expected 0 without labels"),
        ({"ambient_noise": "never"}, "ambient_noise: expected 'after_flip' or 'before_flip', received 'never'"),
        ({"ambient_noise": "before_flip"}, "an Ambient objective and hflip=True, received an objective without"),
        ({"ambient_noise": "before_flip", "objective": AMBIENT}, "hflip=True, received no flips"),
        ({"device": "bogus"}, "device: expected a device that PyTorch can use here, received bogus"),
        ({"model": {**MODEL, "width": 0}}, "model mlp: width: expected a whole number of at least 1, received 0"),
        ({"model": {**MODEL, "blocks": 0}}, "model mlp: blocks: expected a whole number of at least 1"),
        ({"model": {**MODEL, "width": "a"}}, "model mlp: width: expected a whole number .*'a'"),
        ({"model": {**MODEL, "item_shape": [3, 4, 4]}}, r"model item_shape: expected \[1, 4, 4\]"),
        ({"model": "mlp"}, "model: expected an nn.Module, a configuration with a kind, or None, received str 'mlp'"),
        (
            {"model": torch.nn.Identity()},
            "model: expected a network with parameters to train, received one without any",
        ),
        ({"model": torch.nn.Linear}, "model: expected .*, received the class Linear"),
        ({"objective": schedules.linear(9)}, "objective: expected a DenoisingObjective, or None, received Schedule"),
        ({"hooks": Monitor()}, r"hooks: expected a list of hooks, like \[Monitor\(\)\], received Monitor"),
        ({"hooks": [Monitor]}, "hooks: expected instances of memfast.training.Hook, received the class Monitor"),
        (
            {"hooks": [Monitor(), Monitor()]},
            "hooks: expected a name of its own for each, received 'monitor', 'monitor'",
        ),
        ({"labels": np.zeros(8)}, "labels: expected True, False or None: .*, received ndarray"),
        ({"data": Labelled(), "labels": True}, "labels: expected a network with classes, received one without"),
        ({"model": {"kind": "unet1d"}}, r"item_shape: expected \(C, L\) for unet1d, received \(1, 4, 4\)"),
        ({"skip": 0.5}, "skip: expected a LossGate, or None, received float 0.5"),
        ({"optimizer": "sgd"}, "optimizer: expected a function that makes an optimizer .* received str 'sgd'"),
        ({"optimizer": lambda parameters: None}, "optimizer: expected a function that returns an optimizer"),
        ({"data": np.zeros((8, 12), np.float32), "hflip": True}, "hflip: expected images, received signals"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_refused(options, message, tmp_path):
    given = {"model": MODEL, "batch_size": 4, "steps": 1, "progress": False, **options}
    with pytest.raises(InputError, match=message):
        Trainer(given.pop("model"), given.pop("data", ITEMS), out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


class Counter(Hook):
    """Keeps nothing from step to step, so that several need no names."""


def test_hooks_without_a_state_need_no_names(tmp_path):
    Trainer(MODEL, ITEMS, out=tmp_path, batch_size=4, steps=1, progress=False, hooks=[Counter(), Counter()]).run()


def test_the_network_that_is_chosen_for_labelled_data_has_their_classes(tmp_path):
    data = ArraySource(np.zeros((6, 12), np.float32), labels=np.arange(6) % 3)
    made = Trainer(None, data, out=tmp_path, batch_size=4, steps=1, progress=False, labels=True, condition_dropout=0.5)
    made.run()
    assert made.model.memfast_config["num_classes"] == made.num_classes == 3


def files_below(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"skip": LossGate(), "objective": DenoisingObjective(schedules.edm_continuous(), LogNormal(), "edm")}, "skip"),
        ({"hooks": [Monitor(every=1, held_out=ITEMS[:, :3])]}, "held_out"),
        ({"hooks": [Monitor(every=1, steps=2000)]}, "monitor steps: expected a whole number from 1 to 1000"),
        ({"optimizer": lambda parameters: torch.optim.SGD([*parameters, 1.0], lr=1.0)}, "can only optimize Tensors"),
    ],
    ids=["skip", "held-out", "monitor", "optimizer"],
)
def test_wrong_settings_cost_the_run_that_they_would_have_replaced_nothing(options, error, tmp_path):
    settings = {"batch_size": 4, "steps": 2, "progress": False}
    Trainer(MODEL, ITEMS, out=tmp_path, **settings).run()
    before = files_below(tmp_path)
    with pytest.raises((InputError, TypeError), match=error):
        Trainer(MODEL, ITEMS, out=tmp_path, overwrite=True, **settings, **options).run()
    assert files_below(tmp_path) == before


def test_a_run_that_replaces_another_keeps_nothing_of_it(tmp_path):
    settings = {"batch_size": 4, "steps": 1, "progress": False}
    Trainer(MODEL, Canaries(ITEMS[:1], 3).added_to(ITEMS), out=tmp_path, **settings).run()
    Trainer(MODEL, ITEMS, out=tmp_path, overwrite=True, **settings).run()
    with pytest.raises(InputError, match="a run trained with canaries"):
        Canaries.load(tmp_path)


def test_a_resumed_run_does_not_need_the_weights_it_started_from(tmp_path):
    settings = {"batch_size": 4, "progress": False}
    Trainer(MODEL, ITEMS, out=tmp_path / "first", steps=1, **settings).run()
    settings["start"] = tmp_path / "first"
    Trainer(MODEL, ITEMS, out=tmp_path / "second", steps=1, **settings).run()
    (tmp_path / "first").rename(tmp_path / "moved")
    assert Trainer(MODEL, ITEMS, out=tmp_path / "second", steps=2, resume=True, **settings).run().step == 2


def test_an_adaptive_density_begins_every_run_without_a_past(tmp_path):
    objective = DenoisingObjective(schedules.linear(4), LossSecondMoment(history=2))
    settings = {"batch_size": 8, "steps": 8, "log_every": 1, "lr": 1e-2, "progress": False}
    first = Trainer(MODEL, ITEMS, objective, out=tmp_path / "a", **settings)
    first.run()
    assert objective.density.warmed_up
    second = Trainer(MODEL, ITEMS, objective, out=tmp_path / "b", **settings)
    assert not second.objective.density.warmed_up
    second.run()
    log = [[entry["loss"] for entry in read_log(tmp_path / run)] for run in "ab"]
    assert log[0] == log[1]
