"""Resume: bit-exact, whatever stopped the run; and everything that must be refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from memfast import models, schedules, timesteps
from memfast.foundation.errors import CheckpointError, InputError, OutputError
from memfast.objective import DenoisingObjective
from memfast.training import ConstantDecay, NotFiniteError, PowerFunction, Trainer, read_log

DATA = np.random.default_rng(0).normal(size=(30, 12)).astype(np.float32)
MODEL = {"kind": "mlp", "width": 16, "blocks": 1, "dropout": 0.1}


def trainer(out, **options):
    settings = {
        "steps": 14, "batch_size": 8, "lr": 1e-2, "checkpoint_every": 5, "log_every": 1, "device": "cpu",
        "progress": False, "ema": [0.9, PowerFunction(0.1)], "warmup": 4, "objective": objective(), "data": DATA,
        "model": MODEL,
    }  # fmt: skip
    settings.update(options)
    return Trainer(settings.pop("model"), settings.pop("data"), settings.pop("objective"), out=out, **settings)


def objective(**options):
    where = timesteps.ConfidenceInterval(low=60, high=100)
    return DenoisingObjective(schedules.linear(100), **{"timesteps": where, **options})


def curve(folder):
    return [(entry["step"], entry["loss"], entry["grad_norm"], entry["lr"]) for entry in read_log(folder)]


def final_tensors(folder):
    found = models.newest_checkpoint(folder)
    files = [name for name in found.state["files"] if name.endswith(".safetensors")]
    return {f"{file}/{name}": t for file in files for name, t in found.tensors(file).items()}


def assert_same_run(a, b):
    assert curve(a) == curve(b)
    left, right = final_tensors(a), final_tensors(b)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    result = trainer(folder).run()
    assert (result.step, result.stopped) == (14, "done")
    return folder


@pytest.mark.parametrize("stop", [5, 7, 10, 13])
def test_resume_after_any_checkpoint_is_the_uninterrupted_run(uninterrupted, tmp_path, stop):
    trainer(tmp_path / "run", steps=stop).run()
    torch.rand(100)  # the global generator's state must not matter
    result = trainer(tmp_path / "run", resume=True).run()
    assert result.step == 14
    assert_same_run(uninterrupted, tmp_path / "run")


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(uninterrupted, tmp_path):
    trainer(tmp_path / "a").run()
    assert_same_run(uninterrupted, tmp_path / "a")
    trainer(tmp_path / "b", seed=1).run()
    assert curve(tmp_path / "a") != curve(tmp_path / "b")


def test_a_log_interval_cut_by_a_checkpoint_is_whole_after_resume(tmp_path):
    trainer(tmp_path / "a", log_every=4).run()
    trainer(tmp_path / "b", log_every=4, steps=6).run()
    trainer(tmp_path / "b", log_every=4, resume=True).run()
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_accumulation_flips_labels_and_skipping_resume_exactly_too(tmp_path):
    from memfast.training import LossGate

    class Labelled(torch.utils.data.Dataset):
        def __len__(self):
            return 30

        def __getitem__(self, index):
            return np.random.default_rng(index).integers(0, 256, (8, 8), dtype=np.uint8), index % 3

    def options():
        return {
            "data": Labelled(), "model": {**MODEL, "num_classes": 3}, "hflip": True, "condition_dropout": 0.3,
            "accumulate": 2, "objective": objective(stratified=True), "skip": LossGate(ratio=0.9, warmup=3, bins=4),
        }  # fmt: skip

    trainer(tmp_path / "a", **options()).run()
    trainer(tmp_path / "b", steps=7, **options()).run()
    trainer(tmp_path / "b", resume=True, **options()).run()
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert max(entry["skipped"] for entry in read_log(tmp_path / "a")) > 0


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(uninterrupted, tmp_path):
    trainer(tmp_path, steps=10).run()
    newest = tmp_path / "checkpoints" / "step-00000010"
    file = newest / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.warns(RuntimeWarning, match=r"model\.safetensors: expected \d+ bytes.*truncated.*step-00000005"):
        trainer(tmp_path, resume=True).run()
    assert_same_run(uninterrupted, tmp_path)


def test_a_damaged_checkpoint_never_displaces_a_whole_one(uninterrupted, tmp_path):
    trainer(tmp_path, steps=10).run()
    file = tmp_path / "checkpoints" / "step-00000010" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.warns(RuntimeWarning, match="truncated"):
        trainer(tmp_path, steps=7, keep=1, resume=True).run()
    with pytest.warns(RuntimeWarning, match=r"truncated.*step-00000007"):
        trainer(tmp_path, keep=1, resume=True).run()
    assert_same_run(uninterrupted, tmp_path)


def test_a_run_resumes_where_less_memory_is_free_for_the_data(uninterrupted, tmp_path):
    trainer(tmp_path, steps=10, resident=True).run()
    trainer(tmp_path, resident=False, resume=True).run()
    assert_same_run(uninterrupted, tmp_path)


def test_a_run_resumes_where_its_data_were_moved(tmp_path):
    np.save(tmp_path / "here.npy", DATA)
    trainer(tmp_path / "run", data=str(tmp_path / "here.npy"), steps=5).run()
    (tmp_path / "here.npy").rename(tmp_path / "there.npy")
    assert trainer(tmp_path / "run", data=str(tmp_path / "there.npy"), steps=6, resume=True).run().step == 6
    np.save(tmp_path / "there.npy", DATA + 1)
    with pytest.raises(CheckpointError, match=r"data\.hash is"):
        trainer(tmp_path / "run", data=str(tmp_path / "there.npy"), steps=7, resume=True).run()


@pytest.mark.parametrize("content", [b'{"a":', b"[]", b"{}", b"\xff\xfe\x00"])
def test_a_damaged_description_is_one_clear_error(uninterrupted, tmp_path, content):
    shutil.copytree(uninterrupted, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_bytes(content)
    for use in (lambda: trainer(tmp_path / "run", resume=True).run(), lambda: models.load_run(tmp_path / "run")):
        with pytest.raises(CheckpointError, match=r"run\.json: .*damaged"):
            use()


@pytest.mark.parametrize("line", [b"\xff\xfe\x00", b"[1]", b'{"x": 1}', b'{"step"'])
def test_a_damaged_line_of_the_log_is_reported_and_the_others_are_kept(uninterrupted, tmp_path, line):
    whole = (uninterrupted / "log.jsonl").read_bytes().splitlines()
    (tmp_path / "log.jsonl").write_bytes(b"\n".join([*whole[:3], line, *whole[3:], b""]))
    with pytest.warns(RuntimeWarning, match=r"log\.jsonl: 1 lines are damaged and left out \(line 4\)"):
        assert read_log(tmp_path) == read_log(uninterrupted)


def test_a_last_line_that_a_kill_cut_short_is_no_damage(uninterrupted, tmp_path):
    content = (uninterrupted / "log.jsonl").read_bytes()
    (tmp_path / "log.jsonl").write_bytes(content[:-20])
    assert read_log(tmp_path) == read_log(uninterrupted)[:-1]


def test_lines_of_another_run_are_left_out(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    with open(tmp_path / "run/log.jsonl", "a") as file:
        file.write('{"step": 15, "loss": 1.0, "run": "another"}\n')
    with pytest.warns(RuntimeWarning, match=r"1 lines are of another run and left out \(line 15\)"):
        assert read_log(tmp_path / "run") == read_log(uninterrupted)


def test_a_checkpoint_that_lacks_a_part_says_which(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    newest = models.newest_checkpoint(tmp_path / "run").folder
    state = json.loads((newest / "state.json").read_text())
    for name, text in (("optimizer.safetensors", "it holds no optimizer.safetensors"), (None, "'losses_since_log'")):
        changed = {**state, "files": {file: one for file, one in state["files"].items() if file != name}}
        del changed["checksum"]  # as earlier versions wrote it
        if name is None:
            del changed["losses_since_log"]
        (newest / "state.json").write_text(json.dumps(changed))
        with pytest.raises(CheckpointError, match=text):
            trainer(tmp_path / "run", resume=True).run()


@pytest.mark.parametrize("damage", ["flip", "missing file", "no state", "half a state", "other files"])
def test_every_kind_of_damage_is_seen(tmp_path, damage):
    trainer(tmp_path, steps=10).run()
    newest = tmp_path / "checkpoints" / "step-00000010"
    if damage == "flip":
        content = bytearray((newest / "optimizer.safetensors").read_bytes())
        content[-5] ^= 1
        (newest / "optimizer.safetensors").write_bytes(content)
    elif damage == "missing file":
        (newest / "ema-0.9.safetensors").unlink()
    elif damage == "no state":
        (newest / "state.json").unlink()
    elif damage == "other files":
        state = json.loads((newest / "state.json").read_text())
        (newest / "state.json").write_text(json.dumps({**state, "files": list(state["files"])}))
    else:
        (newest / "state.json").write_text((newest / "state.json").read_text()[:40])
    with pytest.warns(RuntimeWarning, match="Using the previous checkpoint"):
        assert models.newest_checkpoint(tmp_path).step == 5
    for path in (tmp_path / "checkpoints").glob("step-*/state.json"):
        path.write_text("{}")
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        models.newest_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"objective": objective(timesteps=timesteps.Uniform())}, r"objective\.timesteps"),
        ({"objective": objective(prediction_type="v_prediction")}, r"objective\.prediction_type is 'epsilon' in the"),
        ({"objective": DenoisingObjective(schedules.linear(50))}, r"objective\.schedule\.T is 100 in the checkpoint"),
        ({"data": DATA[:, :10].copy()}, r"item_shape"),
        ({"data": DATA[:29].copy()}, r"data\.count is 30 in the checkpoint and 29 now"),
        ({"data": DATA + 1}, r"data\.hash"),
        ({"model": {**MODEL, "width": 17}}, r"model\.width is 16 in the checkpoint and 17 now"),
        ({"seed": 3}, r"training\.seed is 0 in the checkpoint and 3 now"),
        ({"ema": 0.9}, r"training\.ema has 2 entries in the checkpoint and 1 now"),
        (
            {"ema": [ConstantDecay(0.9, ramp=False), PowerFunction(0.1)]},
            r"training\.ema\[0\] is '0.9' in the checkpoint and '0.9 without a ramp' now",
        ),
        ({"lr": 0.5}, r"training\.lr\.base is 0\.01"),
        ({"weight_decay": 0.5}, r"training\.optimizer\.weight_decay is 0\.0"),
        ({"optimizer": lambda all: torch.optim.SGD(all, momentum=0.9)}, r"training\.optimizer\.name is 'AdamW'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_resume_of_another_run_names_the_field(uninterrupted, change, field):
    before = sorted(path.name for path in uninterrupted.rglob("*"))
    with pytest.raises(CheckpointError, match=f"(?s)cannot be resumed.*{field}"):
        trainer(uninterrupted, resume=True, **change).run()
    assert sorted(path.name for path in uninterrupted.rglob("*")) == before


def test_a_folder_with_results_is_not_overwritten_by_accident(uninterrupted, tmp_path):
    with pytest.raises(OutputError, match="already holds results"):
        trainer(uninterrupted).run()
    trainer(tmp_path, steps=10).run()
    trainer(tmp_path, steps=5, overwrite=True).run()
    assert models.newest_checkpoint(tmp_path).step == 5
    assert [entry["step"] for entry in read_log(tmp_path)] == [1, 2, 3, 4, 5]


def test_a_checkpoint_beyond_the_wanted_steps_is_refused(uninterrupted):
    with pytest.raises(CheckpointError, match=r"at step 14, beyond steps=3"):
        trainer(uninterrupted, resume=True, steps=3).run()


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    trainer(tmp_path, checkpoint_every=2, keep=2).run()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000012", "step-00000014"]


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    import safetensors.torch

    save, calls = safetensors.torch.save_file, []

    def failing(tensors, path, *args, **kwargs):
        calls.append(path)
        if len(calls) > 4:  # one checkpoint has four files
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        return save(tensors, path, *args, **kwargs)

    monkeypatch.setattr(safetensors.torch, "save_file", failing)
    with pytest.raises(OutputError, match=r"cannot write the checkpoint .*step-00000010.*No space left"):
        trainer(tmp_path).run()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
    assert models.newest_checkpoint(tmp_path).step == 5


class Bomb(torch.nn.Module):
    """Its output is NaN for one sample, once."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = torch.nn.Linear(12, 12), 0

    def forward(self, x, timesteps, labels=None):
        self.calls += 1
        output = self.layer(x)
        if self.calls >= 8:
            bad = torch.zeros(len(x), 1, 1)
            bad[2] = float("nan")
            output = output + bad
        return output


def test_a_loss_that_is_not_finite_names_its_samples_and_stops(tmp_path):
    with pytest.raises(
        NotFiniteError, match=r"step 8: the loss is nan. Samples: sample id \d+ \(item \d+, timestep \d+\)"
    ) as caught:
        trainer(tmp_path, model=Bomb()).run()
    record = json.loads((tmp_path / "not-finite.json").read_text())
    assert record["step"] == 8
    assert len(record["sample_ids"]) == 1
    from memfast.training import SampleOrder

    indices, ids = SampleOrder(0, 30, 8).batch(7)
    assert record["sample_ids"] == [int(ids[2])]
    assert record["data_indices"] == [int(indices[2])]
    assert f"sample id {int(ids[2])}" in str(caught.value)
    assert models.newest_checkpoint(tmp_path).step == 5


def test_a_gradient_that_is_not_finite_stops_the_run_too(tmp_path):
    class Edge(torch.nn.Module):
        """A square root at 0 from call 8 on: its value is finite, its slope is not."""

        def __init__(self):
            super().__init__()
            self.layer, self.calls = torch.nn.Linear(12, 12), 0

        def forward(self, x, timesteps, labels=None):
            self.calls += 1
            edge = (self.layer.weight * 0).sum().sqrt() if self.calls >= 8 else 0
            return self.layer(x) + edge

    with pytest.raises(NotFiniteError, match=r"step 8: the loss is \d.*, its gradient is not finite"):
        trainer(tmp_path, model=Edge()).run()
    record = json.loads((tmp_path / "not-finite.json").read_text())
    assert (record["step"], len(record["sample_ids"])) == (8, 8)
    assert models.newest_checkpoint(tmp_path).step == 5


def test_a_loss_that_is_not_finite_is_named_with_an_adaptive_density_too(tmp_path):
    adaptive = objective(timesteps=timesteps.LossSecondMoment())
    with pytest.raises(NotFiniteError, match=r"step 8: the loss is nan. Samples: sample id"):
        trainer(tmp_path, model=Bomb(), objective=adaptive).run()


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from test_trainer_resume import *
t = trainer({out!r}, steps=100000, checkpoint_every=5, log_every=1)
print("ready", flush=True)
t.run()
"""


def start_process(out):
    script = textwrap.dedent(SCRIPT).format(tests=os.path.dirname(__file__), out=str(out))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 600
    while not list(out.glob("checkpoints/step-*/state.json")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -2), (signal.SIGKILL, -9)], ids=lambda v: str(v)
)
def test_a_stopped_process_resumes_as_if_nothing_had_been(tmp_path, number, code):
    process = start_process(tmp_path / "run")
    try:
        process.send_signal(number)
        _, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    if number == signal.SIGINT:
        assert process.returncode in (130, -2, 1)
        assert "KeyboardInterrupt" in errors
    else:
        assert process.returncode == code
    reached = models.newest_checkpoint(tmp_path / "run").step
    logged = read_log(tmp_path / "run")[-1]["step"]
    if number != signal.SIGKILL:
        assert reached == logged  # the step under way was finished and kept
    steps = reached + 7
    trainer(tmp_path / "run", resume=True, steps=steps, log_every=1).run()
    trainer(tmp_path / "whole", steps=steps, log_every=1).run()
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_bad_arguments_are_refused_before_anything_is_written(tmp_path):
    cases = [
        ({"steps": None}, "steps, epochs: expected exactly one"),
        ({"epochs": 2}, "steps, epochs: expected exactly one"),
        ({"steps": 0}, "steps: expected a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size: expected a whole number of at least 1"),
        ({"batch_size": 9, "accumulate": 2}, "batch_size: expected a multiple of 2"),
        ({"precision": "float16"}, "precision: expected 'float32' or 'bfloat16'"),
        ({"compile": "yes"}, "compile: expected True, False or 'auto'"),
        ({"labels": True}, "labels: expected data with labels"),
        ({"condition_dropout": 1.5}, "condition_dropout"),
        ({"lr_decay": "step"}, "lr_decay: expected one of none, cosine"),
        ({"log_every": 0}, "log_every: expected a whole number of at least 1"),
        ({"data": np.zeros((0, 12), np.float32)}, "expected a non-empty array"),
        ({"data": np.zeros((5, 12), np.int32)}, "expected uint8"),
        ({"data": np.full((5, 12), np.nan, np.float32)}, "item 0: expected finite values"),
    ]
    for options, text in cases:
        with pytest.raises(InputError, match=text):
            trainer(tmp_path / "none", **options)
        assert not (tmp_path / "none").exists()
