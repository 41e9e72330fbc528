"""The step against the plain loop, and the Trainer's options."""

import json

import numpy as np
import pytest
import torch

from memfast import models, ops, sampling, schedules, timesteps
from memfast.data import ArraySource
from memfast.foundation.errors import CheckpointError, InputError
from memfast.objective import Ambient, DenoisingObjective
from memfast.training import ConstantDecay, SampleOrder, Trainer, read_log
from memfast.training.optimizer import learning_rate

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
SMALL = {"kind": "mlp", "width": 16, "blocks": 1}


def trainer(out, data=IMAGES, model=SMALL, objective=None, **options):
    settings = {"steps": 6, "batch_size": 10, "lr": 1e-2, "log_every": 1, "device": "cpu", "progress": False}
    objective = objective or DenoisingObjective(schedules.linear(100))
    return Trainer(model, data, objective, out=out, **{**settings, **options})


def losses(folder):
    return [entry["loss"] for entry in read_log(folder) if "loss" in entry]


def plain_loop(steps, batch_size, lr, clip, decay, weight_decay):
    """The loop without the Trainer: the DDPM formula, torch's single-tensor AdamW, clip_grad_norm_ and lerp_."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.build({**SMALL, "item_shape": [1, 8, 8]})
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, foreach=False)
    order, objective, schedule = (
        SampleOrder(0, 40, batch_size),
        DenoisingObjective(schedules.linear(100)),
        schedules.linear(100),
    )
    curve = []
    for step in range(steps):
        indices, ids = order.batch(step)
        x0 = torch.from_numpy(IMAGES[indices.numpy()])[:, None].float() / 127.5 - 1
        t = ops.draw_timesteps(objective.thresholds, ids, ops.key(0, step))
        noise = ops.standard_normal(ids, 64, ops.key(0, step)).view_as(x0)
        alpha, sigma = (
            torch.from_numpy(v.copy()).float()[t].view(-1, 1, 1, 1) for v in (schedule.alpha, schedule.sigma)
        )
        loss = torch.nn.functional.mse_loss(model(alpha * x0 + sigma * noise, t), noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                average[name].lerp_(parameter, 1 - decay)
        curve.append(loss.item())
    return curve, model, average


def test_the_trainer_is_the_plain_loop(tmp_path):
    curve, model, average = plain_loop(12, 10, 1e-2, 0.3, 0.9, 0.1)
    trainer(
        tmp_path, steps=12, grad_clip=0.3, ema=ConstantDecay(0.9, ramp=False), weight_decay=0.1, checkpoint_every=None
    ).run()
    np.testing.assert_allclose(losses(tmp_path), curve, rtol=1e-4)
    trained, averaged = models.load_run(tmp_path, weights="model"), models.load_run(tmp_path)
    assert averaged.weights == "0.9"
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(trained.model.get_parameter(name), parameter, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(averaged.model.get_parameter(name), average[name], rtol=1e-3, atol=1e-5)


def test_accumulated_parts_are_one_batch(tmp_path):
    trainer(tmp_path / "a").run()
    trainer(tmp_path / "b", accumulate=5).run()
    np.testing.assert_allclose(losses(tmp_path / "a"), losses(tmp_path / "b"), rtol=1e-4)


def test_accumulated_parts_are_drawn_from_one_adaptive_density(tmp_path):
    for name, parts in (("a", 1), ("b", 5)):
        where = timesteps.LossSecondMoment(history=1, uniform_share=0.1)
        objective = DenoisingObjective(schedules.linear(4, 0.01, 0.3), where, loss_weight="importance")
        trainer(tmp_path / name, objective=objective, accumulate=parts).run()
        assert where.warmed_up
    np.testing.assert_allclose(losses(tmp_path / "a"), losses(tmp_path / "b"), rtol=1e-4)


@pytest.mark.parametrize("batch", [10, 63])
def test_streamed_data_train_exactly_like_resident_data(tmp_path, batch):
    trainer(tmp_path / "a", batch_size=batch).run()
    trainer(tmp_path / "b", batch_size=batch, resident=False).run()
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_compiled_training_agrees_with_eager_training(tmp_path):
    trainer(tmp_path / "a", steps=4, compile=False).run()
    trainer(tmp_path / "b", steps=4, compile=True).run()
    np.testing.assert_allclose(losses(tmp_path / "a"), losses(tmp_path / "b"), rtol=1e-4)


def test_bfloat16_autocast_trains_close_to_float32_and_keeps_float32_weights(tmp_path):
    trainer(tmp_path / "a").run()
    trainer(tmp_path / "b", precision="bfloat16").run()
    np.testing.assert_allclose(losses(tmp_path / "a"), losses(tmp_path / "b"), rtol=3e-2)
    assert all(p.dtype == torch.float32 for p in models.load_run(tmp_path / "b").model.parameters())


OBJECTIVES = {
    "flow": DenoisingObjective(schedules.flow(100), prediction_type="flow_prediction"),
    "edm": DenoisingObjective(
        schedules.edm_continuous(), timesteps.LogNormal(), prediction_type="edm", loss_weight="edm"
    ),
    "ambient": DenoisingObjective(schedules.cosine(100), prediction_type="v_prediction", ambient=Ambient(timestep=50)),
    "adaptive": DenoisingObjective(schedules.linear(100), timesteps.LossSecondMoment(history=2)),
    "plan": DenoisingObjective(
        schedules.linear(100),
        timesteps.DensitySchedule(((0, timesteps.Uniform()), (3, timesteps.ConfidenceInterval(60, 100)))),
    ),
}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_every_kind_of_objective_trains_resumes_and_samples(tmp_path, objective):
    def again():
        return DenoisingObjective.from_dict(objective.to_dict())

    trainer(tmp_path / "a", objective=again(), checkpoint_every=2).run()
    trainer(tmp_path / "b", objective=again(), steps=4).run()
    trainer(tmp_path / "b", objective=again(), resume=True).run()
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    images = sampling.sample(models.load_run(tmp_path / "a"), 3, steps=5, method="heun")
    assert images.shape == (3, 8, 8)
    assert images.dtype == np.uint8


def test_labels_reach_the_network_and_some_are_dropped(tmp_path):
    seen = []

    class Spy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(8, 8)

        def forward(self, x, times, labels=None):
            seen.append(labels)
            return self.layer(x)

    labels = np.arange(40) % 4
    source = ArraySource(IMAGES, labels=labels)
    trainer(tmp_path, source, Spy(), labels=True, condition_dropout=0.25, steps=60).run()
    given = torch.cat(seen)
    order = SampleOrder(0, 40, 10)
    true = torch.cat([torch.from_numpy(labels)[order.batch(step)[0]] for step in range(60)])
    dropped = given == 4
    assert torch.equal(given[~dropped], true[~dropped])
    assert abs(dropped.float().mean() - 0.25) < 0.07
    with pytest.raises(InputError, match=r"labels: expected labels from 0 to 2, received labels from 0 to 3"):
        trainer(tmp_path / "b", source, {**SMALL, "num_classes": 3})


def test_flips_are_half_of_the_draws_and_a_function_of_the_draw(tmp_path):
    def seen(folder):
        inputs = []

        class Spy(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.scale = torch.nn.Parameter(torch.ones(1))

            def forward(self, x, times, labels=None):
                inputs.append(x.detach())
                return self.scale * x

        objective = DenoisingObjective(schedules.linear(100), timesteps.ConfidenceInterval(0, 1, tails="renormalize"))
        trainer(folder, IMAGES, Spy(), objective, hflip=True, steps=40).run()
        return torch.cat(inputs)

    first, order = seen(tmp_path / "a"), SampleOrder(0, 40, 10)
    assert torch.equal(first, seen(tmp_path / "b"))
    clean = (
        torch.cat([torch.from_numpy(IMAGES[order.batch(step)[0].numpy()]) for step in range(40)])[:, None] / 127.5 - 1
    )
    straight = (first - clean).abs().mean((1, 2, 3)) < 0.2
    flipped = (first - clean.flip(-1)).abs().mean((1, 2, 3)) < 0.2
    assert (straight ^ flipped).all()
    assert abs(flipped.float().mean() - 0.5) < 0.1


@pytest.mark.parametrize("order", ["after_flip", "before_flip"])
def test_the_fixed_noise_is_added_after_the_flip_or_flipped_along(tmp_path, order):
    """At the ambient level itself no fresh noise is added: the network sees the noisy copies as they are."""
    seen = []

    class Spy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, x, times, labels=None):
            seen.append(x.detach().double())
            return self.scale * x

    schedule, level = schedules.cosine(100), 50
    only = timesteps.Custom([float(row == level) for row in range(100)])
    objective = DenoisingObjective(schedule, only, prediction_type="v_prediction", ambient=Ambient(timestep=level))
    trainer(tmp_path, IMAGES, Spy(), objective, hflip=True, ambient_noise=order, steps=12).run()
    indices = torch.cat([SampleOrder(0, 40, 10).batch(step)[0] for step in range(12)])
    clean = torch.from_numpy(IMAGES[indices.numpy()])[:, None].double() / 127.5 - 1
    fixed = ops.standard_normal(indices, 64, ops.key(0, 0), stream="fixed").view_as(clean).double()
    straight = schedule.alpha[level] * clean + schedule.sigma[level] * fixed
    if order == "before_flip":
        flipped = straight.flip(-1)
    else:
        flipped = schedule.alpha[level] * clean.flip(-1) + schedule.sigma[level] * fixed
    given = torch.cat(seen)
    is_straight, is_flipped = ((given - one).abs().amax((1, 2, 3)) < 1e-5 for one in (straight, flipped))
    assert (is_straight ^ is_flipped).all()
    assert 0.3 < is_flipped.float().mean() < 0.7


@pytest.mark.parametrize("source", ["run", "file", "diffusers"])
def test_fine_tuning_starts_from_the_given_weights(tmp_path, source):
    model = {"kind": "unet2d", "widths": [8, 8], "attention": [False, False]} if source == "diffusers" else SMALL
    trainer(tmp_path / "first", model=model).run()
    start = tmp_path / "first"
    if source == "file":
        start = models.newest_checkpoint(start).folder / "model.safetensors"
    if source == "diffusers":
        models.load_run(start, weights="model").model.network.save_pretrained(tmp_path / "saved")
        start = tmp_path / "saved"
    tuned = trainer(tmp_path / "second", model=model, start=start)
    wanted = models.load_run(tmp_path / "first", weights=None if source == "run" else "model").model.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in tuned.model.state_dict().items())
    with pytest.raises(CheckpointError, match="its weights are not this model's"):
        trainer(tmp_path / "third", model={**SMALL, "width": 18}, start=start)
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize("source", ["run", "checkpoint", "diffusers"])
def test_weights_bring_their_network_along(tmp_path, source):
    model = {"kind": "unet2d", "widths": [8, 8], "attention": [False, False]} if source == "diffusers" else SMALL
    trainer(tmp_path / "first", model=model, ema=None).run()
    start = first = tmp_path / "first"
    if source == "checkpoint":
        start = models.newest_checkpoint(first).folder
    if source == "diffusers":
        start = tmp_path / "saved"
        models.load_run(first).model.network.save_pretrained(start)
    tuned = trainer(tmp_path / "second", model=None, start=start, steps=1)
    wanted = models.load_run(first).model.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in tuned.model.state_dict().items())
    tuned.run()
    if start == tmp_path / "saved":
        start.rename(tmp_path / "moved")
    assert trainer(tmp_path / "second", model=None, start=start, steps=2, resume=True).run().step == 2
    if source == "diffusers":
        with pytest.raises(InputError, match=r"training data: expected images of 1 channels, .* items \(3, 8, 8\)"):
            trainer(tmp_path / "third", np.zeros((4, 8, 8, 3), np.uint8), model=None, start=tmp_path / "moved")


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(step, base=2.0, warmup=4, decay="cosine", total=14) for step in range(15)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    np.testing.assert_allclose(rates[4:], 1 + np.cos(np.pi * np.arange(11) / 10), atol=1e-12)


def test_run_json_tells_what_was_run_and_the_log_what_happened(tmp_path):
    result = trainer(tmp_path, epochs=2.5, steps=None, log_every=3).run()
    assert result.step == 10
    settings = json.loads((tmp_path / "run.json").read_text())
    assert settings["model"]["width"] == 16
    assert settings["objective"]["schedule"] == {"name": "linear", "T": 100, "beta_start": 1e-4, "beta_end": 0.02}
    assert (
        settings["versions"]["torch"] == torch.__version__.split("+")[0]
        or settings["versions"]["torch"] == torch.__version__
    )
    log = read_log(tmp_path)
    # The last step has an entry of its own, although no log step followed it.
    assert [entry["step"] for entry in log] == [3, 6, 9, 10]
    assert [entry.get("partial", False) for entry in log] == [False, False, False, True]
    assert all(entry["samples_per_second"] > 0 and entry["grad_norm"] > 0 for entry in log)


def test_tensorboard_files_are_written(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer(tmp_path, tensorboard=True).run()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    np.testing.assert_allclose([event.value for event in events.Scalars("loss")], losses(tmp_path), rtol=1e-6)


def test_another_optimizer_trains_and_resumes(tmp_path):
    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)

    trainer(tmp_path / "a", optimizer=sgd).run()
    trainer(tmp_path / "b", optimizer=sgd, steps=3).run()
    trainer(tmp_path / "b", optimizer=sgd, resume=True).run()
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
