"""Densities that change while training: planned, and learned from the losses on one process and on two."""

import numpy as np
import pytest
import torch
import torch.multiprocessing as multiprocessing

from memfast import ops, schedules, timesteps
from memfast.foundation.errors import InputError
from memfast.objective import DenoisingObjective

T = 50


def _planned(weight="importance"):
    late = timesteps.ConfidenceInterval(30, 50)
    plan = timesteps.DensitySchedule(((0, timesteps.Uniform()), (100, late)), "linear")
    return DenoisingObjective(schedules.linear(T), plan, loss_weight=weight), late


def test_a_plan_moves_probabilities_thresholds_and_table_in_place():
    objective, late = _planned()
    table, thresholds = objective.table, objective.thresholds
    addresses = (table.data_ptr(), thresholds.data_ptr())
    assert np.allclose(objective.probabilities, 1 / T)
    objective.set_step(50)
    mixed = 0.5 / T + 0.5 * late.probabilities(T)
    assert np.allclose(objective.probabilities, mixed)
    assert (objective.table.data_ptr(), objective.thresholds.data_ptr()) == addresses
    fresh = DenoisingObjective(schedules.linear(T), timesteps.Custom(mixed), loss_weight="importance")
    assert torch.allclose(objective.table, fresh.table)
    assert (objective.thresholds - fresh.thresholds).abs().max() < 2**13
    objective.set_step(0)
    assert np.allclose(objective.probabilities, 1 / T)


def test_a_compiled_step_follows_the_plan_without_a_new_graph():
    objective, late = _planned("none")
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    step = torch.compile(lambda x0, ids, key: objective.noise(x0, ids, key).timesteps, fullgraph=True, backend=count)
    x0, ids = torch.zeros(4000, 1), torch.arange(4000)
    early = step(x0, ids, ops.key(0, 0))
    objective.set_step(100)
    after = step(x0, ids, ops.key(0, 0))
    assert len(graphs) == 1
    assert early.float().mean().item() == pytest.approx(24.5, abs=1)
    assert after.float().mean().item() + 1 == pytest.approx(late.mean(T), abs=1)


def _adaptive():
    return DenoisingObjective(schedules.linear(T), timesteps.LossSecondMoment(history=3), loss_weight="importance")


def _train(objective, rank=0, world=1, steps=100, batch=32):
    """Losses that grow with t: 'prediction' is sqrt(t) times the noise off."""
    for step in range(steps):
        ids = torch.arange(step * batch, (step + 1) * batch)[rank::world]
        x0 = torch.zeros(len(ids), 8)
        made = objective.noise(x0, ids, ops.key(0, step))
        noise = ops.standard_normal(ids, 8, made.key)
        prediction = noise + (made.timesteps.float().unsqueeze(1) + 1).sqrt()
        objective.observe(made, objective.loss(prediction, made, "none"))
    return objective


def test_an_adaptive_density_learns_the_unweighted_losses():
    objective = _train(_adaptive())
    t = np.arange(1, T + 1)
    assert np.allclose(objective.probabilities, 0.999 * t / t.sum() + 0.001 / T, rtol=1e-3)
    weights = objective.table[:, 3].double().numpy() ** 2
    assert np.allclose(weights * objective.probabilities * T, 1, rtol=1e-5)


def test_observing_between_loss_and_backward_leaves_the_gradient():
    objective = _train(_adaptive(), steps=60)
    ids = torch.arange(5000, 5032)
    made = objective.noise(torch.zeros(32, 8), ids, ops.key(0, 60))
    prediction = torch.ones(32, 8, requires_grad=True)
    losses = objective.loss(prediction, made, "none")
    (expected,) = torch.autograd.grad(losses.mean(), prediction, retain_graph=True)
    objective.observe(made, losses)
    losses.mean().backward()
    assert torch.equal(prediction.grad, expected)


def test_its_state_resumes():
    whole, half = _train(_adaptive(), steps=60), _train(_adaptive(), steps=40)
    resumed = _adaptive()
    resumed.load_state_dict({name: tensor.clone() for name, tensor in half.state_dict().items()})
    for objective in (half, resumed):
        for step in range(40, 60):
            ids = torch.arange(step * 32, (step + 1) * 32)
            made = objective.noise(torch.zeros(32, 8), ids, ops.key(0, step))
            noise = ops.standard_normal(ids, 8, made.key)
            prediction = noise + (made.timesteps.float().unsqueeze(1) + 1).sqrt()
            objective.observe(made, objective.loss(prediction, made, "none"))
    assert np.array_equal(resumed.probabilities, whole.probabilities)
    assert torch.equal(resumed.thresholds, whole.thresholds)
    assert DenoisingObjective(schedules.linear(T)).state_dict() == {}


def _rank(rank, world, address, results):
    torch.distributed.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=world)
    results[rank] = _train(_adaptive(), rank, world, steps=30).probabilities
    torch.distributed.destroy_process_group()


def test_two_ranks_learn_what_one_learns(tmp_path):
    with multiprocessing.get_context("spawn").Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(_rank, (2, str(tmp_path / "rendezvous"), results), nprocs=2)
        one = _train(_adaptive(), steps=30).probabilities
        assert np.array_equal(results[0], results[1])
        assert np.allclose(results[0], one, rtol=1e-6)


def learner():
    return timesteps.Mixture((timesteps.Uniform(), timesteps.LossSecondMoment(history=1)), (0.25, 0.75))


@pytest.mark.parametrize("wrapped", ["mixture", "schedule"])
def test_a_density_learns_inside_another_one_too(wrapped):
    mixed = learner()
    density = mixed if wrapped == "mixture" else timesteps.DensitySchedule(((0, timesteps.CosMap()), (1, mixed)))
    objective = DenoisingObjective(schedules.linear(4), density, loss_weight="importance")
    objective.set_step(3)
    batch = objective.noise(torch.zeros(4, 2), torch.arange(4), ops.key(0, 0))
    batch = batch._replace(timesteps=torch.arange(4))
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0])
    before = objective.probabilities
    objective.observe(batch, losses)
    p = np.array([1.0, 2.0, 3.0, 4.0]) * 4 * before
    expected = 0.25 / 4 + 0.75 * (0.999 * p / p.sum() + 0.001 / 4)
    np.testing.assert_allclose(objective.probabilities, expected, rtol=1e-12)
    np.testing.assert_array_equal(objective.thresholds.numpy()[:3], timesteps.thresholds(objective.probabilities))

    again = DenoisingObjective.from_dict(objective.to_dict())
    again.load_state_dict(objective.state_dict())
    again.set_step(3)
    np.testing.assert_array_equal(again.probabilities, objective.probabilities)
    assert torch.equal(again.table, objective.table)


def test_a_mixture_follows_a_schedule_inside_it():
    moving = timesteps.DensitySchedule(((0, timesteps.Uniform()), (5, timesteps.Custom([0, 0, 0, 1]))))
    objective = DenoisingObjective(schedules.linear(4), timesteps.Mixture((timesteps.Uniform(), moving), (1, 1)))
    np.testing.assert_allclose(objective.probabilities, [0.25] * 4)
    objective.set_step(5)
    np.testing.assert_allclose(objective.probabilities, [0.125, 0.125, 0.125, 0.625])
    objective.set_step(2)
    np.testing.assert_allclose(objective.probabilities, [0.25] * 4)


def test_a_density_that_changes_needs_a_schedule_of_rows_inside_another_one_too():
    with pytest.raises(InputError, match="a schedule of rows for a density that changes"):
        DenoisingObjective(schedules.vp_continuous(), learner())
