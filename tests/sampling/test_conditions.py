"""Optimised conditions and starts: against loops over torch.optim written here, sample by sample."""

import pytest
import torch

from memfast import models, sampling, schedules
from memfast.foundation.errors import InputError
from memfast.models.embedding import embed_labels
from memfast.sampling import branch_difference, ddim, optimise_condition, optimise_start

SHAPE = (1, 6, 6)
SCHEDULE = schedules.linear(1000)
CONFIGURATIONS = [
    {"kind": "mlp", "item_shape": SHAPE, "width": 24, "blocks": 1, "num_classes": 3},
    {"kind": "unet2d", "item_shape": SHAPE, "widths": (8, 8), "num_classes": 3},
    {"kind": "unet1d", "item_shape": (1, 20), "widths": (8, 8), "num_classes": 3},
]


def build(configuration):
    torch.manual_seed(1)
    network = models.build(configuration)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


@pytest.fixture
def network():
    return build(CONFIGURATIONS[0])


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda c: c["kind"])
def test_embedded_labels_are_the_labels(configuration):
    network = build(configuration)
    shape = configuration["item_shape"]
    x, times, labels = torch.randn(4, *shape), torch.tensor([0, 5, 300, 999]), torch.tensor([0, 1, 2, 1])
    embedded = embed_labels(network, labels)
    assert embedded.dtype == torch.float32
    assert torch.equal(network(x, times, embedded), network(x, times, labels))
    samples = {"shape": shape, "count": 4, "steps": 5, "guidance": 2.0}
    assert torch.equal(
        ddim(network, SCHEDULE, labels=embedded, **samples), ddim(network, SCHEDULE, labels=labels, **samples)
    )
    moved = embedded.clone().requires_grad_()
    network(x, times, moved).sum().backward()
    assert moved.grad.abs().sum() > 0


def test_saved_weights_do_not_know_of_it():
    network = build(CONFIGURATIONS[1])
    assert "network.class_embedding.weight" in network.state_dict()


def gap(network, noise, embedding):
    level = sampling.levels(SCHEDULE, 10)[0]
    times = torch.full((len(noise),), level.timestep)
    return network(noise, times, embedding) - network(noise, times, None)


def test_conditions_are_those_of_one_adamw_per_sample(network):
    """Each sample by itself, with its own stop: a loop over samples with PyTorch's optimizer and nothing of ours."""
    labels, options = torch.tensor([0, 1, 2, 2, 0]), {"shape": SHAPE, "count": 5, "seed": 4, "steps": 10}
    untouched = optimise_condition(network, SCHEDULE, labels, target_loss=None, iterations=0, **options)
    target = float(untouched.first_loss.median()) * 0.98
    found = optimise_condition(network, SCHEDULE, labels, target_loss=target, **options)
    noise = sampling.initial_noise(torch.arange(5), SHAPE, 4)
    taken = []
    for row in range(5):
        value = embed_labels(network, labels[row : row + 1]).clone().requires_grad_()
        optimizer = torch.optim.AdamW([value], lr=0.05)
        steps = 0
        while steps < 10 and (loss := gap(network, noise[row : row + 1], value).norm()) > target:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
        taken.append(steps)
        torch.testing.assert_close(found.values[row : row + 1], value.detach(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.loss[row].float(), gap(network, noise[row : row + 1], value).norm().detach())
    assert found.iterations.tolist() == taken
    assert len(set(taken)) > 1, "the samples of this test must not stop together"
    assert found.reached.tolist() == [bool(loss <= target) for loss in found.loss]
    assert (found.loss <= found.first_loss).all()


def test_the_papers_norm_is_one_number_over_the_batch(network):
    labels = torch.tensor([1, 1, 1, 1])
    found = optimise_condition(
        network, SCHEDULE, labels, shape=SHAPE, count=4, steps=10, target_loss=None, iterations=3, norm="batch",
        weight_decay=0.0,
    )  # fmt: skip
    noise = sampling.initial_noise(torch.arange(4), SHAPE)
    value = embed_labels(network, labels[:1]).clone().requires_grad_()
    optimizer = torch.optim.AdamW([value], lr=0.05, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        gap(network, noise, value.expand(4, -1)).norm().backward()
        optimizer.step()
    torch.testing.assert_close(found.values, value.detach().expand(4, -1), rtol=1e-4, atol=1e-4)
    single = optimise_condition(network, SCHEDULE, 1, shape=SHAPE, count=4, steps=10, target_loss=None, iterations=0)
    torch.testing.assert_close(found.first_loss[0], single.first_loss.square().sum().sqrt(), rtol=1e-6, atol=0)


def test_a_target_that_is_met_changes_nothing(network):
    found = optimise_condition(network, SCHEDULE, [0, 1], shape=SHAPE, count=2, target_loss=1e9)
    assert torch.equal(found.values, embed_labels(network, torch.tensor([0, 1])))
    assert found.iterations.tolist() == [0, 0]
    assert found.reached.all()


def test_starts_are_those_of_one_adam_per_sample(network):
    labels, options = torch.tensor([0, 1, 2, 0]), {"shape": SHAPE, "count": 4, "seed": 2, "steps": 10}
    untouched = optimise_start(network, SCHEDULE, labels, threshold=None, iterations=0, **options)
    threshold = float(untouched.first_loss.median()) * 0.98
    found = optimise_start(network, SCHEDULE, labels, threshold=threshold, **options)
    noise = sampling.initial_noise(torch.arange(4), SHAPE, 2)
    taken = []
    for row in range(4):
        value, label = noise[row : row + 1].clone().requires_grad_(), labels[row : row + 1]
        optimizer = torch.optim.Adam([value], lr=0.05)

        def loss_of(x, label=label):
            direction = gap(network, x, label)
            return gap(network, x + direction / direction.norm(), label).norm() + 0.05 * x.norm()

        steps = 0
        while steps < 10 and (loss := loss_of(value)) > threshold:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
        taken.append(steps)
        torch.testing.assert_close(found.values[row : row + 1], value.detach(), rtol=1e-4, atol=1e-4)
    assert found.iterations.tolist() == taken
    assert len(set(taken)) > 1, "the samples of this test must not stop together"
    assert (found.loss <= found.first_loss).all()


def test_a_ve_start_is_optimised_in_units_of_its_sigma(network):
    schedule = schedules.edm(50)
    options = {"shape": SHAPE, "count": 3, "steps": 8, "threshold": None, "prediction_type": "edm"}
    found = optimise_start(network, schedule, 1, iterations=0, **options)
    sigma = sampling.levels(schedule, 8)[0].sigma
    assert sigma > 10
    torch.testing.assert_close(found.values, sigma * sampling.initial_noise(torch.arange(3), SHAPE))
    moved = optimise_start(network, schedule, 1, iterations=2, **options)
    assert ((moved.values - found.values).abs().amax(dim=(1, 2, 3)) / sigma).max() < 0.11


@pytest.mark.parametrize("work", [optimise_condition, optimise_start])
def test_batches_and_what_is_given_do_not_change_the_result(network, work):
    options = {"shape": SHAPE, "steps": 10, "iterations": 4}
    options["target_loss" if work is optimise_condition else "threshold"] = None
    labels = torch.tensor([0, 1, 2, 1, 0, 2, 1])
    whole = work(network, SCHEDULE, labels, count=7, **options)
    parts = work(network, SCHEDULE, labels, count=7, batch_size=3, **options)
    torch.testing.assert_close(parts.values, whole.values, rtol=1e-4, atol=1e-4)
    initial = sampling.initial_noise(torch.arange(7), SHAPE)
    assert torch.equal(work(network, SCHEDULE, labels, initial=initial, **options).values, whole.values)
    network.train()
    work(network, SCHEDULE, labels, count=7, **options)
    assert network.training
    network.eval()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_branch_difference_differentiates_forward_and_backward(network):
    level = sampling.levels(SCHEDULE, 10)[3]
    labels = torch.tensor([0, 2])
    function = branch_difference(network, level, labels, prediction_type="v_prediction")
    x, direction = torch.randn(2, *SHAPE), torch.randn(2, *SHAPE)
    value, forward = torch.func.jvp(function, (x,), (direction,))
    times = torch.full((2,), level.timestep)
    torch.testing.assert_close(value, level.alpha * (network(x, times, labels) - network(x, times, None)))
    small = 1e-3
    numeric = (function(x + small * direction) - function(x - small * direction)) / (2 * small)
    torch.testing.assert_close(forward, numeric, rtol=2e-2, atol=2e-3)


def test_bad_input_is_refused_in_words(network):
    plain = models.build({"kind": "mlp", "item_shape": SHAPE, "width": 8, "blocks": 1})
    options = {"shape": SHAPE, "count": 2, "target_loss": 1.0}
    with pytest.raises(InputError, match=r"network: expected a network of memfast\.models with classes"):
        optimise_condition(plain, SCHEDULE, 0, **options)
    with pytest.raises(InputError, match="labels: expected 0 to 2, received 0 to 7"):
        optimise_condition(network, SCHEDULE, [0, 7], **options)
    with pytest.raises(InputError, match="one condition for all"):
        optimise_condition(network, SCHEDULE, [0, 1], norm="batch", **options)
    with pytest.raises(InputError, match="norm: expected one of image, batch"):
        optimise_condition(network, SCHEDULE, [0, 1], norm="l1", **options)
    with pytest.raises(InputError, match="labels: expected one per sample"):
        optimise_start(network, SCHEDULE, None, shape=SHAPE, count=2, threshold=1.0)
    with pytest.raises(InputError, match="iterations: expected a whole number of at least 0"):
        optimise_start(network, SCHEDULE, 0, shape=SHAPE, count=2, threshold=1.0, iterations=-1)
    with pytest.raises(InputError, match="count: expected at least one sample"):
        optimise_start(network, SCHEDULE, 0, shape=SHAPE, count=0, threshold=1.0)
