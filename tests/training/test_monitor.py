"""The monitor, the budget, the control rule and canaries, on networks whose copying is known."""

import numpy as np
import pytest
import torch

from memfast import audit, models, sampling, schedules, timesteps
from memfast.criteria import Absolute, AbsoluteTiles, Authenticity, Calibrated, NnRatio, Similarity
from memfast.foundation.errors import CheckpointError, InputError
from memfast.objective import DenoisingObjective
from memfast.training import Canaries, Control, Monitor, Trainer, read_log
from memfast.training.control import Steering
from memfast.training.monitor import default_interval

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype=np.uint8)
HELD_OUT = np.random.default_rng(1).integers(0, 256, (30, 6, 6), dtype=np.uint8)
CLEAN = IMAGES.astype(np.float64).reshape(20, -1) / 127.5 - 1


class Memorizer(torch.nn.Module):
    """The ideal denoiser of the training set from call ``after`` on, a constant grey before: its copying is known."""

    def __init__(self, after=-1, data=CLEAN):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.int64))
        self.after, self.data = after, torch.from_numpy(data)
        self.schedule = schedules.cosine(100)

    def forward(self, x, timesteps, labels=None):
        if self.training:
            self.steps_seen += 1
        if self.steps_seen <= self.after:
            return 0 * x + self.unused
        alpha = torch.from_numpy(self.schedule.alpha.copy())[timesteps].view(-1, 1)
        sigma = torch.from_numpy(self.schedule.sigma.copy())[timesteps].view(-1, 1)
        flat = x.double().flatten(1)
        distances = (flat[:, None] - alpha[:, :, None] * self.data[None]).square().sum(-1)
        x0 = torch.softmax(-distances / (2 * sigma**2), 1) @ self.data
        return x0.reshape(x.shape).float() + 0 * self.unused


def trainer(out, model, monitor, data=IMAGES, **options):
    where = timesteps.ConfidenceInterval(low=40, high=60)
    objective = DenoisingObjective(schedules.cosine(100), timesteps=where, prediction_type="sample")
    settings = {
        "steps": 12,
        "batch_size": 4,
        "log_every": 4,
        "checkpoint_every": None,
        "device": "cpu",
        "progress": False,
    }
    settings |= {"ema": None, **options}
    return Trainer(model, data, objective, out=out, hooks=[monitor], **settings)


def curve(folder):
    return [entry for entry in read_log(folder) if "memorized" in entry]


def test_the_memorizer_is_found_out_and_the_grey_network_is_not(tmp_path):
    monitor = Monitor(every=4, samples=30, steps=10, held_out=HELD_OUT)
    trainer(tmp_path, Memorizer(after=6), monitor).run()
    first, second, third = curve(tmp_path)
    assert [entry["step"] for entry in (first, second, third)] == [4, 8, 12]
    assert first["memorized"] == 0
    assert second["memorized"] == third["memorized"] == 1
    assert second["nearest"] < 1 / 255
    assert second["memorized_floor"] == 0
    assert second["memorized_total"] == 30
    assert second["memorized_low"] == pytest.approx(0.8865, abs=1e-3)  # Wilson, 30 of 30
    assert first["memorized_high"] == pytest.approx(0.1135, abs=1e-3)
    assert monitor.curve == [first, second, third]


@pytest.mark.parametrize(
    ("criterion", "neighbours"),
    [
        (NnRatio(0.97), 2),
        (Absolute(0.38), 2),
        (Calibrated(0.9, alpha=1.0), 20),
        (Calibrated(0.93, alpha=1.0, neighbours=5), 5),
    ],
    ids=["nn_ratio", "absolute", "calibrated", "calibrated-5"],
)
def test_a_criterion_judges_as_in_an_audit(tmp_path, criterion, neighbours):
    """The held-out floor at thresholds that only some items pass."""
    monitor = Monitor(every=12, samples=30, steps=2, held_out=HELD_OUT, criterion=criterion)
    trainer(tmp_path, Memorizer(), monitor).run()
    assert monitor.neighbours == neighbours
    audited = audit(HELD_OUT, IMAGES, k=neighbours, criteria=criterion, controls=False)
    assert curve(tmp_path)[0]["memorized_floor"] == audited.fraction(criterion.name)
    assert 0 < audited.fraction(criterion.name) < 1


def test_the_budget_stops_the_run_and_keeps_the_last_checkpoint_within_it(tmp_path):
    result = trainer(
        tmp_path, Memorizer(after=6), Monitor(every=2, samples=10, steps=5, stop_when_memorized=0.01)
    ).run()
    assert (result.step, result.stopped) == (8, "memorized")
    kept = models.load_run(tmp_path, model=Memorizer(after=6), checkpoint="within-budget")
    assert kept.step == 6
    assert models.load_run(tmp_path, model=Memorizer(after=6)).step == 8
    grey = sampling.sample(kept, 5, steps=5)
    assert len(np.unique(grey)) == 1


def test_a_run_that_the_budget_ended_stays_ended_when_it_is_resumed(tmp_path):
    def again(**options):
        return trainer(
            tmp_path, Memorizer(after=6), Monitor(every=2, samples=10, steps=5, stop_when_memorized=0.01), **options
        ).run()

    again()
    resumed = again(resume=True)
    assert (resumed.step, resumed.stopped) == (8, "memorized")


@pytest.mark.parametrize(
    "limits", [{"stop_when_memorized": 0.01}, {"control": Control(target=0.1)}, {}], ids=["budget", "control", "none"]
)
def test_a_budget_is_never_left_unaudited_because_the_run_is_short(tmp_path, limits):
    assert default_interval(10, 5, 4) > 12
    result = trainer(tmp_path, Memorizer(), Monitor(samples=10, steps=5, **limits)).run()
    assert [entry["step"] for entry in curve(tmp_path)] == ([12] if limits else [])
    assert result.stopped == ("memorized" if "stop_when_memorized" in limits else "done")


def test_duplicates_do_not_hide_copies(tmp_path):
    monitor = Monitor(every=12, samples=20, steps=5)
    trainer(tmp_path, Memorizer(), monitor, data=np.concatenate([IMAGES, IMAGES, IMAGES[:3]])).run()
    assert curve(tmp_path)[-1]["memorized"] == 1


def test_monitoring_does_not_change_the_training(tmp_path):
    config = {"kind": "mlp", "width": 8, "blocks": 1, "dropout": 0.2}
    trainer(tmp_path / "a", config, Monitor(every=3, samples=8, steps=3), log_every=1, ema=0.9).run()
    trainer(tmp_path / "b", config, Monitor(every=100, samples=8, steps=3), log_every=1, ema=0.9).run()
    losses = [[entry["loss"] for entry in read_log(tmp_path / name) if "loss" in entry] for name in "ab"]
    assert losses[0] == losses[1]
    a, b = (models.load_run(tmp_path / name).model.state_dict() for name in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_canaries_come_back_one_by_one(tmp_path):
    canaries = Canaries(HELD_OUT[:3], repeats=[1, 2, 40])
    data = canaries.added_to(IMAGES)
    assert len(data) == 63
    assert np.array_equal(data.take([62, 0, 20]), np.stack([HELD_OUT[2], IMAGES[0], HELD_OUT[0]]))
    assert np.array_equal(data.block(19, 24), np.concatenate([IMAGES[19:20], HELD_OUT[[0, 1, 1, 2]]]))
    assert data.item_name(22) == "canary 1, copy 2 of 2"
    everything = data.block(0, 63).reshape(63, -1) / 127.5 - 1
    monitor = Monitor(every=12, samples=200, steps=50)
    trainer(tmp_path, Memorizer(data=everything), monitor, data=data).run()
    found = curve(tmp_path)[-1]
    # The ideal memorizer's samples are distributed as the items: 1, 2 and 40 of 63.
    assert found["memorized"] == 1
    expected = 200 * np.array([1, 2, 40]) / 63
    assert (np.abs(np.array(found["canaries"]) - expected) < 5 * np.sqrt(expected) + 1).all()


def test_streamed_data_are_audited_like_resident_data(tmp_path):
    data = np.concatenate([IMAGES, IMAGES[:3]])
    for name, resident in (("a", True), ("b", False)):
        monitor = Monitor(every=6, samples=20, steps=5, held_out=HELD_OUT)
        trainer(tmp_path / name, Memorizer(after=6), monitor, data=data, resident=resident).run()
    assert curve(tmp_path / "a") == curve(tmp_path / "b")
    assert curve(tmp_path / "a")[-1]["memorized"] == 1


def test_a_run_keeps_its_canaries_for_the_audit(tmp_path):
    canaries = Canaries(HELD_OUT[:3], repeats=[1, 2, 40])
    trainer(tmp_path, Memorizer(), Monitor(every=100), data=canaries.added_to(IMAGES)).run()
    kept = Canaries.load(tmp_path)
    assert kept.describe() == canaries.describe()
    assert np.array_equal(kept.items.block(0, 3), HELD_OUT[:3])
    np.save(tmp_path / "canaries.npy", HELD_OUT[1:4])
    with pytest.raises(InputError, match=r"canaries\.json: expected the hash of the canaries beside it"):
        Canaries.load(tmp_path)
    with pytest.raises(InputError, match="expected a run trained with canaries"):
        Canaries.load(tmp_path / "checkpoints")


def test_control_moves_later_above_the_target_and_earlier_below(tmp_path):
    control = Control(target=0.5, stride=0.1, lead=0, caution=1)
    monitor = Monitor(every=2, samples=20, steps=5, control=control)
    made = trainer(tmp_path, Memorizer(after=6), monitor, steps=11)
    made.run()
    means = [entry["control_mean"] for entry in curve(tmp_path)]
    assert means == [40, 30, 20, 30, 40]
    drawn_from = timesteps.ConfidenceInterval(low=30, high=50).probabilities(100)
    assert made.objective.thresholds.tolist() == timesteps.thresholds(drawn_from).tolist()


def test_control_rests_while_the_interval_holds_the_target():
    control = Control(target=0.1, stride=0.2)
    assert control.move(500, 1000, 0.2, (0.05, 0.3)) == 500
    assert control.move(500, 1000, 0.15, (0.12, 0.3)) == pytest.approx(600)
    assert control.move(500, 1000, 0.0, (0.0, 0.05)) == 450


def test_the_interval_stays_where_it_keeps_its_shape():
    """Beyond the schedule the tail is spread over all timesteps: a later mean would train low noise more often."""
    control = Control(target=0.1)
    assert control.bounds(500, 200, 1000) == (100, 900)
    assert control.bounds(950, 200, 1000) == (100, 950)
    assert Control(target=0.1, least=0.3, greatest=0.7).bounds(500, 200, 1000) == (300, 700)
    low_noise = [
        timesteps.ConfidenceInterval.from_mean_width(mean, 200).probabilities(1000)[:100].sum()
        for mean in (600, 900, 1000, 1200)
    ]
    assert low_noise == sorted(low_noise)
    for fraction, end in ((1.0, 900), (0.0, 100)):
        where = timesteps.ConfidenceInterval.from_mean_width(500, 200)
        steering = Steering(control, DenoisingObjective(schedules.linear(1000), timesteps=where))
        for step in range(1, 31):
            steering.steer(step, fraction, (fraction, fraction))
        assert steering.mean == end


def test_control_judges_where_the_fraction_is_heading():
    control = Control(target=0.1, stride=0.2, lead=3, caution=0.25)
    # 4 % and rising by 2 % an audit arrives by itself; by 4 % it will pass the target: later.
    assert control.move(500, 1000, 0.04, (0.02, 0.07), before=0.02) == 500
    assert control.move(500, 1000, 0.04, (0.02, 0.07), before=0.0) == pytest.approx(500 + 200 * 0.6)
    assert control.move(500, 1000, 0.04, (0.02, 0.07), before=0.04) == pytest.approx(500 - 200 * 0.25 * 0.6)
    # 20 % and falling by 3 % an audit is on its way; one that stays there is not.
    assert control.move(500, 1000, 0.2, (0.16, 0.25), before=0.23) == 500
    assert control.move(500, 1000, 0.2, (0.16, 0.25), before=0.2) == 700


def test_monitor_and_control_resume_exactly(tmp_path):
    def make(folder, **options):
        model = {"kind": "mlp", "width": 8, "blocks": 1}
        monitor = Monitor(every=3, samples=10, steps=3, control=Control(target=0.5), held_out=HELD_OUT)
        return trainer(folder, model, monitor, log_every=1, checkpoint_every=4, ema=0.9, **options)

    make(tmp_path / "a").run()
    make(tmp_path / "b", steps=8).run()
    make(tmp_path / "b", resume=True).run()

    def log(name):
        return [{k: v for k, v in e.items() if k != "samples_per_second"} for e in read_log(tmp_path / name)]

    assert log("a") == log("b")
    assert len({entry["control_mean"] for entry in curve(tmp_path / "a")}) > 1
    monitor = Monitor(every=3, samples=10, steps=3, control=Control(target=0.4))
    with pytest.raises(CheckpointError, match=r"training\.hooks\[0\]\.control\.target is 0\.5"):
        trainer(tmp_path / "a", {"kind": "mlp", "width": 8, "blocks": 1}, monitor, ema=0.9, resume=True).run()


def test_one_monitor_serves_run_after_run(tmp_path):
    monitor, model = Monitor(every=3, samples=10, steps=3, stop_when_memorized=0.5), Memorizer()
    first = trainer(tmp_path / "a", model, monitor).run()
    model.steps_seen.zero_()
    again = trainer(tmp_path / "b", model, monitor).run()
    assert first.stopped == again.stopped == "memorized"
    assert curve(tmp_path / "a") == curve(tmp_path / "b") == monitor.curve
    short = Monitor(samples=10, steps=3)
    grey = {"kind": "mlp", "width": 8, "blocks": 1}
    trainer(tmp_path / "c", grey, short, steps=2).run()
    assert trainer(tmp_path / "c", grey, short, steps=3, resume=True).run().step == 3


def test_resume_compares_what_the_monitor_judges_by(tmp_path):
    def run(**options):
        model = {"kind": "mlp", "width": 8, "blocks": 1}
        monitor = Monitor(every=3, samples=4, steps=2, **options)
        return trainer(tmp_path, model, monitor, steps=3, resume=True).run()

    run(criterion=Calibrated(neighbours=3))
    for options, field in (
        ({"criterion": Calibrated(neighbours=4)}, r"hooks\[0\]\.criterion\.neighbours is 3"),
        ({"criterion": Calibrated(neighbours=3), "neighbours": 4}, r"hooks\[0\]\.neighbours is 3"),
    ):
        with pytest.raises(CheckpointError, match=field):
            run(**options)


def test_nearest_is_in_the_units_of_the_absolute_criterion(tmp_path):
    def distance(threshold):
        hook = Monitor(every=12, samples=10, steps=3, criterion=Absolute(threshold))
        trainer(tmp_path / f"{threshold:.6g}", {"kind": "mlp", "width": 8, "blocks": 1}, hook).run()
        return hook.curve[0]

    nearest = distance(0.5)["nearest"]
    assert 0 < nearest < 1
    # A mean lies between the least and the greatest, so a bound of three times the mean holds some samples.
    assert distance(3 * nearest)["memorized"] > 0
    assert distance(nearest / 50)["memorized"] == 0


def test_bad_monitors_are_refused(tmp_path):
    with pytest.raises(InputError, match="monitor samples: expected a whole number of at least 1"):
        Monitor(samples=0)
    with pytest.raises(InputError, match="stop_when_memorized: expected a finite number of at least 0 and below 1"):
        Monitor(stop_when_memorized=1.0)
    for criterion in (Similarity(), Authenticity(), AbsoluteTiles()):
        with pytest.raises(InputError, match=f"monitor criterion: expected one of distances.*'{criterion.name}'"):
            Monitor(criterion=criterion)
    with pytest.raises(InputError, match=r"monitor criterion: .* 'nn_ratio' with neighbours=1"):
        Monitor(neighbours=1)
    for criterion, text in (("nn_rato", "one of nn_ratio"), (NnRatio, "a criterion, like"), (0.3, "a criterion")):
        with pytest.raises(InputError, match=f"monitor criterion: expected {text}"):
            Monitor(criterion=criterion)
    with pytest.raises(InputError, match=r"monitor control: expected a Control, received 0\.02"):
        Monitor(control=0.02)
    with pytest.raises(InputError, match="monitor canaries: expected a Canaries, received array"):
        Monitor(canaries=IMAGES[:2])
    for name, options in (
        ("target", {"target": 0}),
        ("lead", {"target": 0.1, "lead": -1}),
        ("caution", {"target": 0.1, "caution": 0}),
        ("greatest", {"target": 0.1, "least": 0.5, "greatest": 0.5}),
    ):
        with pytest.raises(InputError, match=f"control {name}: expected a finite number"):
            Control(**options)
    with pytest.raises(InputError, match="repeats: expected at least 1"):
        Canaries(IMAGES, repeats=0)
    with pytest.raises(InputError, match="canaries: expected uint8 items"):
        Canaries(IMAGES[:, :5]).added_to(IMAGES)
    with pytest.raises(InputError, match="held_out: expected uint8 items"):
        trainer(tmp_path / "a", Memorizer(), Monitor(held_out=HELD_OUT[:, :3])).run()
    with pytest.raises(InputError, match="monitor: expected at least 2 different training items, received 1"):
        trainer(tmp_path / "b", Memorizer(), Monitor(every=4), data=np.concatenate([IMAGES[:1]] * 4)).run()
    objective = DenoisingObjective(schedules.cosine(100))
    with pytest.raises(InputError, match="control: expected an objective on a ConfidenceInterval"):
        Trainer(
            Memorizer(), IMAGES, objective, out=tmp_path / "c", steps=1, hooks=[Monitor(control=Control(target=0.1))]
        )


@pytest.mark.parametrize("repeats", [[1, 10, 100], 1.5, ["a", "b"], [0, 1]])
def test_repeats_that_do_not_fit_the_canaries_are_refused(repeats):
    with pytest.raises(InputError, match="repeats: expected"):
        Canaries(IMAGES[:2], repeats)


def test_the_default_interval_costs_three_percent_of_the_evaluations():
    for samples, steps, batch in [(200, 20, 64), (50, 10, 256), (1, 1, 1000)]:
        every = default_interval(samples, steps, batch)
        assert samples * steps / (3 * batch * every) <= 0.03
        assert samples * steps / (3 * batch * max(1, every - 1)) > 0.03 or every == 1


def test_the_memorizer_here_is_the_ideal_one_of_the_library():
    schedule, generator = schedules.cosine(100), torch.Generator().manual_seed(0)
    x = torch.randn(3, 1, 6, 6, generator=generator)
    ours = Memorizer().eval()(x, torch.tensor([80, 80, 80])).flatten(1)
    distances = (x.flatten(1).double()[:, None] - schedule.alpha[80] * torch.from_numpy(CLEAN)).square().sum(-1)
    weights = torch.softmax(-distances / (2 * schedule.sigma[80] ** 2), 1)
    torch.testing.assert_close(ours, (weights @ torch.from_numpy(CLEAN)).float())
