"""Numbers that cannot be meant, and options that would have no effect, are refused before anything is written."""

import numpy as np
import pytest

from memfast import schedules
from memfast.foundation.errors import InputError
from memfast.objective import Ambient, DenoisingObjective
from memfast.training import Trainer

ITEMS = np.random.default_rng(0).integers(0, 256, (8, 4, 4), dtype=np.uint8)
AMBIENT = DenoisingObjective(schedules.linear(100), ambient=Ambient(timestep=50))
MODEL = {"kind": "mlp", "width": 8, "blocks": 1}


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
        ({"model": {**MODEL, "width": 0}}, "model mlp: width: expected at least 1"),
        ({"model": {**MODEL, "blocks": 0}}, "model mlp: blocks: expected at least 1"),
        ({"model": {**MODEL, "width": "a"}}, "model mlp: expected options that fit together"),
        ({"model": {**MODEL, "item_shape": [3, 4, 4]}}, r"model item_shape: expected \[1, 4, 4\]"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_refused(options, message, tmp_path):
    given = {"model": MODEL, "batch_size": 4, "steps": 1, "progress": False, **options}
    with pytest.raises(InputError, match=message):
        Trainer(given.pop("model"), ITEMS, out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()
