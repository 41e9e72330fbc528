"""A trace of a run: every figure against its definition, taken from the states themselves."""

import csv
import json

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.trace import test_bed
from memfast import trace
from memfast.detectors import Wen
from memfast.foundation.errors import InputError
from memfast.foundation.spreadsheet import unguarded
from memfast.models import load_run
from memfast.objective import ideal_denoiser
from memfast.sampling import Heun, SamplingRequest, choose_sampler, ddim

STEPS, SEEDS, GUIDANCE = 7, [0, 3, 5], 4.0


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    return test_bed.build(
        tmp_path_factory.mktemp("bed") / "run", steps=30, width=24, blocks=1, images=3, classes=2, per_class=2
    )


@pytest.fixture(scope="module")
def run(bed):
    return load_run(bed.folder)


@pytest.fixture(scope="module")
def traced(bed, run):
    return trace.trace_run(
        run, labels=[0, 1, 2, 3], seeds=SEEDS, steps=STEPS, guidance=GUIDANCE, targets=[*bed.targets[:3], None],
        memorized=[True, False, True, False], bank=bed.targets, keep_states=True, sweep=(1.0,), rows=3,
    )  # fmt: skip


class Plain:
    """The same run, written down by hand: states and both branches."""

    both_branches = True

    def __init__(self, run, label):
        self.steps = []
        ddim(
            run.model, run.schedule, shape=run.item_shape, sample_ids=torch.tensor(SEEDS), labels=label, steps=STEPS,
            guidance=GUIDANCE, prediction_type=run.prediction_type, callback=self.steps.append,
        )  # fmt: skip


def flat(tensor):
    return tensor.double().flatten(1).numpy()


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize("label", [0, 2])
def test_every_figure_equals_its_definition(bed, run, traced, label):
    steps, entry = Plain(run, label).steps, traced.to_dict()["conditions"][label]
    x = flat(run.format.to_network(torch.as_tensor(bed.targets[label : label + 1])))
    z = flat(steps[0].state)
    w_target = np.zeros((STEPS + 1, len(SEEDS)))
    w_initial = np.zeros_like(w_target)
    for number, step in enumerate(steps):
        state = flat(step.state)
        for k in range(len(SEEDS)):
            (w_target[number, k], w_initial[number, k]), *_ = np.linalg.lstsq(
                np.stack([x[0], z[k]], 1), state[k], rcond=None
            )
        rest = state - w_target[number][:, None] * x - w_initial[number][:, None] * z
        rms = np.sqrt((rest**2).mean(1)).mean()
        assert entry["residual"]["mean"][number] == pytest.approx(rms, rel=1e-6, abs=1e-12)
        pairs = [np.linalg.norm(state[a] - state[b]) for a in range(3) for b in range(a)]
        assert entry["diversity"][number] == pytest.approx(np.mean(pairs), rel=1e-9)
        if step.x0_hat is None:
            continue
        noises = {"guided": step.noise_hat, "conditional": step.conditional, "unconditional": step.unconditional}
        for name, noise in noises.items():
            noise = flat(noise)
            estimate = flat(step.x0_hat) if name == "guided" else (state - step.sigma * noise) / step.alpha
            assert entry["loss"][name][number] == pytest.approx(((estimate - x) ** 2).sum(1).mean(), rel=1e-6)
            assert entry["alignment_target"][name][number] == pytest.approx(cosines(estimate, x).mean(), abs=1e-9)
            assert entry["alignment_initial"][name][number] == pytest.approx(cosines(noise, z).mean(), abs=1e-9)
        gap = np.linalg.norm(flat(noises["conditional"]) - flat(noises["unconditional"]), axis=1)
        assert entry["branch_gap"][number] == pytest.approx(gap.mean(), rel=1e-6)
        bank = run.format.to_network(torch.as_tensor(bed.targets))
        weight = ideal_denoiser(step.state, bank, step.alpha, step.sigma).max_weight.mean()
        assert entry["posterior"]["max_weight"][number] == pytest.approx(float(weight), abs=1e-12)
    np.testing.assert_allclose(entry["w_target"]["mean"], w_target.mean(1), atol=1e-10)
    np.testing.assert_allclose(entry["w_initial"]["mean"], w_initial.mean(1), atol=1e-10)
    low, high = stats.t.interval(0.95, 2, w_target[3].mean(), stats.sem(w_target[3]))
    assert entry["w_target"]["low"][3] == pytest.approx(low)
    assert entry["w_target"]["high"][3] == pytest.approx(high)
    bars = np.array([step.alpha_bar for step in steps])
    assert entry["d1"] == pytest.approx(np.sum(w_target.mean(1) - np.sqrt(bars)), abs=1e-9)
    assert entry["d2"] == pytest.approx(np.sum(np.sqrt(1 - bars) - w_initial.mean(1)), abs=1e-9)
    assert entry["seeds"][1]["d1"] == pytest.approx(np.sum(w_target[:, 1] - np.sqrt(bars)), abs=1e-9)
    np.testing.assert_allclose(traced.to_dict()["alpha_bar"], bars)
    rms = np.sqrt(((flat(steps[-1].state) - x) ** 2).mean(1))
    np.testing.assert_allclose(entry["similarity"]["per_seed"], -rms, rtol=1e-6)


def test_what_the_first_state_tells(bed, run, traced):
    entry, step = traced.to_dict()["conditions"][0], Plain(run, 0).steps[0]
    targets = run.format.to_network(torch.as_tensor(bed.targets[:3]))
    mean = targets.double().mean(0)
    assert entry["overestimation"] == pytest.approx(trace.overestimation(step.x0_hat, targets[0], mean), rel=1e-6)
    noise = step.state
    noised = step.alpha * targets[0] + step.sigma * noise
    with torch.no_grad():
        x0 = run.model(noised, torch.full((3,), step.timestep), torch.zeros(3, dtype=torch.int64))
    assert run.prediction_type == "sample"
    expected = float((x0 - targets[0]).double().square().mean().sqrt())
    assert entry["normalised_loss"] == pytest.approx(expected, rel=1e-4)


def test_a_condition_without_a_target_has_empty_fields(traced):
    entry = traced.to_dict()["conditions"][3]
    assert entry["has_target"] is False
    assert entry["d1"] is None
    assert entry["overestimation"] is None
    assert entry["similarity"]["per_seed"] is None
    assert set(entry["w_target"]["mean"]) == {None}
    assert entry["diversity"][0] > 0
    assert entry["branch_gap"][0] >= 0
    assert all(value is not None for value in entry["detectors"].values())


def test_seeds_are_the_same_for_all_conditions_and_batches_change_nothing(bed, run, traced):
    states = traced.states.reshape(STEPS + 1, 4, len(SEEDS), -1)
    assert all(torch.equal(states[0, 0], states[0, other]) for other in range(1, 4))
    alone = trace.trace_run(
        run, labels=[2], seeds=SEEDS, steps=STEPS, guidance=GUIDANCE, targets=bed.targets[2:3], keep_states=True
    )
    torch.testing.assert_close(alone.states.reshape(STEPS + 1, len(SEEDS), -1), states[:, 2], rtol=1e-4, atol=1e-5)
    assert torch.equal(alone.states[-1], alone.samples)


def test_the_final_sample_as_target(bed, run):
    result = trace.trace_run(
        run, labels=[0, 1], seeds=2, steps=STEPS, guidance=GUIDANCE, target="final", keep_states=True
    )
    direct = trace.decompose(result.states, result.samples, result.states[0])
    for place in range(2):
        entry = result.to_dict()["conditions"][place]
        rows = slice(2 * place, 2 * place + 2)
        np.testing.assert_allclose(entry["w_target"]["mean"], direct.w_target[:, rows].mean(1), atol=1e-12)
        assert entry["w_target"]["mean"][-1] == pytest.approx(1.0)
        assert entry["similarity"]["mean"] is None
        assert entry["has_target"] is False
        assert entry["d1"] is not None


def test_guidance_one_still_measures_both_branches_and_a_sweep_is_a_run_of_its_own(bed, run, traced):
    alone = trace.trace_run(
        run, labels=[0, 1, 2, 3], seeds=SEEDS, steps=STEPS, guidance=1.0, targets=[*bed.targets[:3], None]
    )
    entry, swept = alone.to_dict()["conditions"][0], traced.to_dict()["guidance_sweep"]
    assert entry["branch_gap"] is not None
    assert swept[0]["guidance"] == 1.0
    row = swept[0]["conditions"][0]
    assert row["d1"] == pytest.approx(entry["d1"], abs=1e-5)
    assert row["similarity"] == pytest.approx(entry["similarity"]["mean"], rel=1e-5)
    assert row["early_loss"] == pytest.approx(np.mean(entry["loss"]["guided"][:1]), rel=1e-5)


def test_saved_as_strict_json_and_a_table(traced, tmp_path):
    folder = traced.save(tmp_path / "trace")
    content = json.loads((folder / "trace.json").read_text(), parse_constant=pytest.fail)
    assert content == traced.to_dict()
    assert content["kind"] == "trace"
    lines = (folder / "trace.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 * len(SEEDS)
    assert content["detection"]["wen"]["positives"] == 2
    assert content["correlations"]["d1"]["n"] == 3
    assert content["provenance"]["versions"]["torch"]


BAD = [
    ({"labels": [4]}, "labels: expected labels from 0 to 3"),
    ({"labels": [0.5, 1]}, r"labels: expected labels from 0 to 3, received \[0.5, 1"),
    ({"labels": ["a", "b"]}, r"labels: expected labels from 0 to 3, received \['a', 'b'\]"),
    ({"labels": None}, "guidance: expected 1 without labels"),
    ({"labels": None, "guidance": 1, "sweep": [3]}, r"sweep: expected none without labels.*received \[3\]"),
    ({"guidance": float("nan")}, "guidance: expected a finite scale, received nan"),
    ({"guidance": "7"}, "guidance: expected a scale, a rule, or a rule's options, received '7'"),
    ({"sweep": [float("inf")]}, "guidance: expected a finite scale, received inf"),
    ({"targets": None}, "target of '0': expected a training item, received none.*or None in its place"),
    ({"targets": 1}, "target of '1': expected a training item, received none"),
    ({"seeds": [[0, 1], [0, 2]]}, "seeds: expected the same seeds for every condition, received lists that differ"),
    ({"seeds": 10**15}, "seeds: expected at most 2,000: every two of them are compared, received 1,000,000,000,000"),
    ({"seeds": range(2001)}, "seeds: expected at most 2,000: every two of them are compared, received 2,001"),
    ({"seeds": [1, 1]}, "seeds: expected a count, or different numbers"),
    ({"seeds": [0.5]}, r"seeds: expected a count, or different numbers from 0, received \[0.5\]"),
    ({"seeds": [1 << 70]}, "seeds: expected a count, or different numbers from 0"),
    ({"memorized": ["no", "no"]}, "memorized: expected True, False or None per condition"),
    ({"memorized": [0.7, 0]}, "memorized: expected True, False or None per condition"),
    ({"seeds": 2.5}, "seeds: expected a count, or different numbers from 0, received 2.5"),
    ({"memorized": [True]}, "memorized: expected 2 flags"),
    ({"target": "last"}, "target: expected 'train' or 'final'"),
    ({"method": "euler"}, "method: expected one of ddim, ddpm, heun"),
    ({"detectors": ["ren"]}, "detector ren: expected a trace with attention maps"),
    ({"detectors": ["nearest_ratio"]}, "detector nearest_ratio: expected a trace with a bank"),
]


@pytest.mark.parametrize(
    ("change", "message"), BAD, ids=[f"{number}-{next(iter(change))}" for number, (change, _) in enumerate(BAD)]
)
def test_bad_input(bed, run, change, message):
    options = {"labels": [0, 1], "seeds": 2, "steps": 2, "targets": bed.targets[:2], **change}
    if isinstance(options["targets"], int):
        options["targets"] = bed.targets[: options["targets"]]
    if options["labels"] is None:
        options["targets"] = bed.targets[:1]
    with pytest.raises(InputError, match=message):
        trace.trace_run(run, **options)


def test_a_target_parallel_to_the_initial_noise_and_a_run_that_diverged_are_named(bed, run):
    from memfast.sampling import initial_noise

    noise = initial_noise(torch.tensor([1]), run.item_shape)[0]
    options = {"labels": [0, 1], "seeds": 2, "steps": 2, "guidance": 1.0}
    with pytest.raises(InputError, match="target of '1', seed 1: expected an item that is not parallel"):
        trace.trace_run(run, targets=[-2 * noise.roll(1, -1), -2 * noise], **options)
    broken = load_run(bed.folder)
    with torch.no_grad():
        broken.model.condition.classes.weight[1] = float("nan")
    with pytest.raises(InputError, match=r"sample of '1', seed 0: expected finite values, received NaN.*timestep 999"):
        trace.trace_run(broken, targets=bed.targets[:2], **options)
    with pytest.raises(InputError, match=r"sample of '1', seed 0: expected finite values, received NaN.*timestep 499"):
        trace.trace_run(broken, target="final", **options)


def test_names_in_the_table_are_no_formulas_and_keep_their_commas(bed, run, tmp_path):
    names = ["=cmd|' /C calc'!A0", '<b>a</b>, "b"', "-1+\r\n2", "plain"]
    found = trace.trace_run(run, labels=[0, 1, 2, 3], names=names, seeds=1, steps=2, targets=[*bed.targets[:3], None])
    with open(found.save(tmp_path) / "trace.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [unguarded(row["condition"]) for row in rows] == names
    assert [row["condition"].startswith("'") for row in rows] == [True, False, True, False]
    assert [float(row["d1"]) for row in rows[:3]] == [entry["d1"] for entry in found.to_dict()["conditions"][:3]]
    assert rows[3]["d1"] == rows[0]["memorized"] == ""
    assert names[1] not in found.report(tmp_path).read_text()


def test_a_run_at_guidance_one_ends_as_an_unwatched_one(bed, run):
    """To the bit, though the unconditional branch is measured as well."""
    found = trace.trace_run(run, labels=[1], seeds=SEEDS, steps=STEPS, guidance=1, targets=bed.targets[1:2])
    plain = ddim(
        run.model, run.schedule, shape=run.item_shape, sample_ids=torch.tensor(SEEDS), labels=1, steps=STEPS,
        prediction_type=run.prediction_type,
    )  # fmt: skip
    assert torch.equal(found.samples, plain)


def test_a_bank_of_one_item_leaves_the_ratio_out(bed, run):
    found = trace.trace_run(run, labels=[0], seeds=2, steps=2, targets=bed.targets[:1], bank=bed.targets[:1])
    assert "nearest_distance" in found.to_dict()["conditions"][0]["detectors"]
    assert "nearest_ratio" not in found.to_dict()["conditions"][0]["detectors"]


def test_features_may_come_from_a_network(bed, run):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(196, 5))
    options = {"labels": [0, 1], "seeds": SEEDS, "steps": 2, "targets": bed.targets[:2]}
    found = trace.trace_run(run, features=("network", network), **options)
    own, goal = (
        flat(network(items).detach())
        for items in (found.samples, run.format.to_network(torch.from_numpy(bed.targets[:2])))
    )
    for place, entry in enumerate(found.to_dict()["conditions"]):
        rows = own[place * len(SEEDS) : (place + 1) * len(SEEDS)]
        assert np.allclose(entry["similarity"]["per_seed"], cosines(rows, goal[place]), rtol=0, atol=1e-6)
        assert entry["similarity"]["name"] == "cosine of network"
    with pytest.raises(InputError, match=r"features: expected one row for each of 6 items, received \[1, 196\]"):
        trace.trace_run(run, features=("mean", lambda items: items.flatten(1).mean(0, keepdim=True)), **options)


@pytest.mark.parametrize("method", [{"name": "ddim", "eta": 0.7}, Heun(churn=5.0)], ids=["dictionary", "sampler"])
def test_samplers_and_detectors_with_options(bed, run, method):
    options = {"labels": [1], "seeds": SEEDS, "steps": STEPS, "guidance": 2.0, "targets": bed.targets[1:2]}
    found = trace.trace_run(run, method=method, detectors=[Wen(steps=2), "wen_first"], **options)
    request = SamplingRequest(
        schedule=run.schedule, shape=run.item_shape, sample_ids=torch.tensor(SEEDS), labels=1, steps=STEPS,
        guidance=2.0, prediction_type=run.prediction_type,
    )  # fmt: skip
    sampler = choose_sampler(method)
    torch.testing.assert_close(found.samples, sampler.sample(run.model, request), rtol=1e-5, atol=1e-6)
    assert choose_sampler(found.sampler.method) == sampler
    entry = found.conditions[0]
    assert entry.detectors["wen"] == pytest.approx(np.mean(entry.branch_gap[:2]), rel=1e-6)
    assert entry.detectors["wen_first"] == pytest.approx(entry.branch_gap[0], rel=1e-6)
    assert found.sampler.spacing == sampler.default_spacing
