"""What a run starts from: other people's networks, weights that were trained for something else, memory."""

import json
import warnings

import numpy as np
import pytest
import torch

from memfast import models, sampling, schedules
from memfast.data import ArraySource
from memfast.objective import DenoisingObjective
from memfast.training import Trainer
from memfast.training import data as training_data

ITEMS = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
MODEL = {"kind": "mlp", "width": 8, "blocks": 1}


def trainer(out, model, data=ITEMS, objective=None, **options):
    settings = {"steps": 2, "batch_size": 4, "device": "cpu", "progress": False, **options}
    return Trainer(model, data, objective, out=out, **settings)


@pytest.fixture
def unet():
    diffusers = pytest.importorskip("diffusers", reason="the package diffusers is not installed")
    return lambda **options: diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 8), down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"), norm_num_groups=4, layers_per_block=1, **options,
    )  # fmt: skip


def test_a_unet_of_diffusers_is_trained_as_it_is_and_read_back(tmp_path, unet):
    network = unet()
    before = network.conv_in.weight.detach().clone()
    made = trainer(tmp_path, network)
    assert made.model.network is network
    made.run()
    assert not torch.equal(network.conv_in.weight, before)
    run = models.load_run(tmp_path, weights="model")
    assert torch.equal(run.model.network.conv_in.weight, network.conv_in.weight)
    assert sampling.sample(run, 2, steps=2).shape == (2, 8, 8, 3)


def test_the_classes_of_a_unet_of_diffusers_are_the_runs(tmp_path, unet):
    data = ArraySource(ITEMS, labels=np.arange(8) % 3)
    made = trainer(tmp_path, unet(num_class_embeds=4), data, labels=True, condition_dropout=0.5)
    made.run()
    assert made.num_classes == 3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"prediction_type": "v_prediction"},
            "prediction type 'epsilon', and this run trains them with 'v_prediction'",
        ),
        ({"schedule": schedules.cosine(1000)}, r"schedule \{'name': 'linear'.*'name': 'cosine'"),
        ({"schedule": schedules.linear(500)}, r"schedule .*'T': 1000.*'T': 500"),
    ],
)
def test_weights_that_were_trained_for_something_else_are_warned_of(tmp_path, options, text):
    trainer(tmp_path / "first", MODEL).run()
    other = DenoisingObjective(**{"schedule": schedules.linear(1000), **options})
    with pytest.warns(UserWarning, match=f"first: its weights were trained with {text}"):
        trainer(tmp_path / "second", MODEL, objective=other, start=tmp_path / "first")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer(tmp_path / "second", MODEL, start=tmp_path / "first")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"prediction_type": "v_prediction"}, "prediction type 'v_prediction'"),
        ({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}, "schedule .*scaled_linear"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "schedule .*cosine"),
        ({"num_train_timesteps": 100}, "schedule .*'T': 100"),
        ({"beta_end": 0.03}, "schedule .*0.03"),
        ({}, None),
    ],
)
def test_the_scheduler_beside_a_pipelines_weights_is_compared(tmp_path, unet, config, text):
    unet().save_pretrained(tmp_path / "pipeline/unet")
    (tmp_path / "pipeline/scheduler").mkdir()
    plain = {
        "_class_name": "DDPMScheduler", "prediction_type": "epsilon", "beta_schedule": "linear", "beta_start": 1e-4,
        "beta_end": 0.02, "num_train_timesteps": 1000, "trained_betas": None,
    }  # fmt: skip
    (tmp_path / "pipeline/scheduler/scheduler_config.json").write_text(json.dumps(plain | config))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(tmp_path / "run", None, start=tmp_path / "pipeline")
    said = [str(one.message) for one in caught if "its weights were trained with" in str(one.message)]
    assert len(said) == (text is not None)
    if text is not None:
        with pytest.warns(UserWarning, match=text):
            trainer(tmp_path / "run", None, start=tmp_path / "pipeline")


def test_the_schedules_of_diffusers_are_told_from_each_other():
    """By the schedulers' own numbers."""
    diffusers = pytest.importorskip("diffusers", reason="the package diffusers is not installed")
    for ours, name in ((schedules.linear, "linear"), (schedules.scaled_linear, "scaled_linear")):
        made = ours(1000, 0.001, 0.012)
        theirs = diffusers.DDPMScheduler(1000, 0.001, 0.012, name).alphas_cumprod.numpy()
        np.testing.assert_allclose(made.alpha**2, theirs, atol=1e-5)


def test_a_container_with_little_memory_reads_its_data_step_by_step(tmp_path, monkeypatch):
    resident = trainer(tmp_path / "a", MODEL)
    resident.run()
    monkeypatch.setattr(training_data, "free_memory", lambda: 1000)
    read = trainer(tmp_path / "b", MODEL)
    read.run()
    assert (resident.loader.resident, read.loader.resident) == (True, False)
    assert resident.run().loss == read.run().loss
