"""What a run does to its folder: nothing before its first step, nothing to another run, and no damage goes unseen."""

import json
import os
import shutil
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch

from memfast import models, sampling, schedules
from memfast.data import ArraySource
from memfast.foundation.errors import CheckpointError, InputError, MemfastError, OutputError
from memfast.models.checkpoints import signed
from memfast.objective import DenoisingObjective
from memfast.training import Canaries, Hook, Monitor, NotFiniteError, Trainer, TrainingConfig, read_log

ITEMS = np.random.default_rng(0).integers(0, 256, (8, 4, 4), dtype=np.uint8)
MODEL = {"kind": "mlp", "width": 8, "blocks": 1}


def trainer(out, model=MODEL, data=ITEMS, **options):
    settings = {"steps": 4, "batch_size": 4, "log_every": 1, "device": "cpu", "progress": False, **options}
    return Trainer(model, data, DenoisingObjective(schedules.linear(50)), out=out, **settings)


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class WrongShape(torch.nn.Module):
    """Fails in its first step."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, timesteps, labels=None):
        return self.scale * x[:, :, :2]


class Tuple(WrongShape):
    def forward(self, x, timesteps, labels=None):
        return (self.scale * x,)


class NotANumber(WrongShape):
    def forward(self, x, timesteps, labels=None):
        return self.scale * x * torch.nan


class FailsAtTheStart(Hook):
    def begin(self, run):
        raise InputError("hook", expected="another start", received="this one")


FAILURES = {
    "shape": (WrongShape(), {}, InputError),
    "tuple": (Tuple(), {}, InputError),
    "nan": (NotANumber(), {}, NotFiniteError),
    "hook": (MODEL, {"hooks": [FailsAtTheStart()]}, InputError),
    "hook check": (MODEL, {"hooks": [Monitor(every=1, held_out=ITEMS[:, :3])]}, InputError),
}


def test_making_a_trainer_touches_nothing(tmp_path):
    trainer(tmp_path / "run").run()
    before = content(tmp_path)
    for options in ({}, {"resume": True}, {"overwrite": True}):
        made = trainer(tmp_path / "run", **options)
        assert (made.steps, len(made.source), made.format.item_shape) == (4, 8, (1, 4, 4))
        assert content(tmp_path) == before
    trainer(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("failure", FAILURES)
def test_a_run_whose_first_step_fails_costs_the_old_one_nothing(tmp_path, failure):
    model, options, error = FAILURES[failure]
    trainer(tmp_path / "run").run()
    before = content(tmp_path)
    with pytest.raises(error):
        trainer(tmp_path / "run", model, overwrite=True, **options).run()
    assert content(tmp_path) == before
    assert models.load_run(tmp_path / "run").step == 4


@pytest.mark.parametrize("there", [True, False], ids=["an empty folder", "no folder"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_first_step_does_not_block_the_corrected_run(tmp_path, failure, there):
    model, options, error = FAILURES[failure]
    if there:
        (tmp_path / "run").mkdir()
    with pytest.raises(error):
        trainer(tmp_path / "run", model, **options).run()
    assert trainer(tmp_path / "run").run().step == 4
    assert not (tmp_path / "run/not-finite.json").exists()


def test_what_a_hook_logs_before_the_first_step_is_kept(tmp_path):
    class Early(Hook):
        def begin(self, run):
            run.log({"step": 0, "note": 1.0})
            assert not run.out.exists()

    trainer(tmp_path / "run", hooks=[Early()]).run()
    assert [entry["step"] for entry in read_log(tmp_path / "run")] == [0, 1, 2, 3, 4]


def test_a_run_that_replaces_another_leaves_nothing_of_it(tmp_path):
    trainer(tmp_path, data=Canaries(ITEMS[:1], 3).added_to(ITEMS), checkpoint_every=1, tensorboard=True).run()
    old = {path.name for path in tmp_path.iterdir()}
    trainer(tmp_path, steps=2, overwrite=True).run()
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "log.jsonl", "checkpoints"} < old
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]


def test_two_live_runs_do_not_share_a_folder(tmp_path):
    inside, leave, ended = threading.Event(), threading.Event(), []

    class Waits(Hook):
        def after_step(self, run):
            inside.set()
            assert leave.wait(60)

    first = threading.Thread(target=lambda: ended.append(trainer(tmp_path / "run", steps=1, hooks=[Waits()]).run()))
    first.start()
    try:
        assert inside.wait(60)
        for options in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(OutputError, match=rf"a training run \(process {os.getpid()} on .* is writing there"):
                trainer(tmp_path / "run", **options).run()
    finally:
        leave.set()
        first.join()
    assert ended[0].step == 1
    assert not (tmp_path / "run/run.lock").exists()


def test_files_of_two_runs_that_were_mixed_are_told_apart(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        trainer(tmp_path / name, seed=seed).run()
    shutil.copy(tmp_path / "b/run.json", tmp_path / "a/run.json")
    with pytest.raises(CheckpointError, match=r"step-00000004: it belongs to another run than .*run\.json"):
        models.load_run(tmp_path / "a")
    with pytest.warns(RuntimeWarning, match="4 lines are of another run"):
        assert read_log(tmp_path / "a") == []


def test_a_folder_that_is_removed_while_the_run_writes_ends_it_with_an_error(tmp_path):
    class Removes(Hook):
        def after_step(self, run):
            if run.step == 2:
                shutil.rmtree(run.out)

    for every in (1, 1000):
        with pytest.raises(OutputError, match="removed while a training run wrote to it"):
            trainer(tmp_path / "run", hooks=[Removes()], log_every=every).run()


class KilledBetweenRenames(Hook):
    """Kills the process between the two renames that put a newer checkpoint in the place of an older one."""

    def after_step(self, run):
        rename = os.rename
        if run.step == 2:

            def spy(source, target):
                rename(source, target)
                if str(target).endswith(".replaced"):
                    os._exit(9)

            os.rename = spy
        run.save("within-budget")


def test_a_named_checkpoint_survives_a_kill_between_two_renames(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); from test_checkpoint import *; "
        f"trainer({str(tmp_path / 'run')!r}, hooks=[KilledBetweenRenames()], checkpoint_every=None).run()"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 9
    assert not (tmp_path / "run/checkpoints/within-budget").exists()
    assert models.load_run(tmp_path / "run", checkpoint="within-budget").step == 1
    # The run itself had no numbered checkpoint: resumed, it starts again, and what was replaced is put back first.
    trainer(tmp_path / "run", resume=True, hooks=[Hook()]).run()
    assert models.load_run(tmp_path / "run", checkpoint="within-budget").step == 1
    left = [path.name for path in (tmp_path / "run").rglob(".*")]
    assert left == []


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    trainer(tmp_path).run()
    for name in (".run.json.x.part", ".log.jsonl.x.part", "checkpoints/.step-00000009.x.part/model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"half")
    trainer(tmp_path, steps=5, resume=True).run()
    assert list(tmp_path.rglob(".*")) == []


def test_every_entry_of_the_log_reaches_the_hooks(tmp_path):
    class Sees(Hook):
        def __init__(self):
            self.entries = []

        def on_log(self, entry):
            self.entries.append(entry)

    sees = Sees()
    trainer(tmp_path, log_every=3, hooks=[sees, Monitor(every=2, samples=2, steps=2)]).run()
    assert sees.entries == read_log(tmp_path)
    assert [entry["step"] for entry in sees.entries] == [2, 3, 4, 4]


def test_a_run_shorter_than_its_log_interval_logs_its_mean_loss(tmp_path):
    trainer(tmp_path / "each").run()
    trainer(tmp_path / "once", log_every=50).run()
    (once,) = read_log(tmp_path / "once")
    assert (once["step"], once["partial"]) == (4, True)
    assert once["loss"] == pytest.approx(np.mean([entry["loss"] for entry in read_log(tmp_path / "each")]))
    trainer(tmp_path / "once", log_every=5, steps=6, resume=True).run()
    assert [entry["step"] for entry in read_log(tmp_path / "once")] == [5, 6]


def test_data_that_are_not_resident_are_compared_too(tmp_path):
    trainer(tmp_path, resident=False).run()
    with pytest.raises(CheckpointError, match=r"data\.hash is"):
        trainer(tmp_path, data=ITEMS[::-1].copy(), resident=False, steps=5, resume=True).run()


def test_runs_of_the_earlier_version_are_read_and_resumed(tmp_path):
    """Without ids, checksums and a hash of data that did not fit the memory."""
    trainer(tmp_path / "new", steps=6).run()
    trainer(tmp_path / "old").run()
    description = json.loads((tmp_path / "old/run.json").read_text())
    for name in ("run", "checksum"):
        del description[name]
    description["data"]["hash"], description["format"] = None, 1
    (tmp_path / "old/run.json").write_text(json.dumps(description))
    path = tmp_path / "old/checkpoints/step-00000004/state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({name: state[name] for name in state if name not in ("run", "checksum")}))
    lines = [json.loads(line) for line in (tmp_path / "old/log.jsonl").read_text().splitlines()]
    text = "".join(json.dumps({name: line[name] for name in line if name != "run"}) + "\n" for line in lines)
    (tmp_path / "old/log.jsonl").write_text(text)
    assert trainer(tmp_path / "old", steps=6, resume=True).run().step == 6
    one, two = (models.load_run(tmp_path / name).model.state_dict() for name in ("new", "old"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert [entry["loss"] for entry in read_log(tmp_path / "old")] == [
        entry["loss"] for entry in read_log(tmp_path / "new")
    ]


def mutations(content, generator):
    """Structure-blind damage: bytes flipped, cut, repeated, replaced."""
    yield b""
    yield content[: len(content) // 2]
    yield content[:-1]
    yield content + b"x"
    yield b"[" * 100_000
    yield b"null"
    yield b'{"format": 2}'
    for _ in range(5):
        changed = bytearray(content)
        changed[int(generator.integers(len(changed)))] ^= 1 << int(generator.integers(8))
        yield bytes(changed)


def wrong_types(content):
    """A JSON file whose entries are of other kinds one by one, with a checksum that fits."""
    values = json.loads(content)
    for name in values:
        for value in (None, {}, -1, [[1]]):
            yield json.dumps(signed({**values, name: value})).encode()


def use(folder):
    """Everything that reads a run's folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = models.load_run(folder)
        read_log(folder)
        made = trainer(folder, data=Canaries(ITEMS[:1], 3).added_to(ITEMS), steps=5, resume=True, hooks=[Counts()])
        made.run()
    return sampling.sample(run, 1, steps=2).tobytes()


class Counts(Hook):
    """A hook with a state."""

    name = "counts"
    count = 0

    def after_step(self, run):
        self.count += 1

    def state(self):
        return {"count": self.count}

    def load(self, state):
        self.count = int(state["count"])


def test_damage_to_any_file_of_a_run_is_an_error_of_ours_or_harmless(tmp_path):
    data = Canaries(ITEMS[:1], 3).added_to(ITEMS)
    trainer(tmp_path / "run", data=data, hooks=[Counts()], keep=1).run()
    generator = np.random.default_rng(0)
    right = use_copy(tmp_path, None, None)
    assert isinstance(right, bytes)
    refused = 0
    for path in sorted(path for path in (tmp_path / "run").rglob("*") if path.is_file()):
        relative = path.relative_to(tmp_path / "run")
        cases = [*mutations(path.read_bytes(), generator)]
        if path.name in ("run.json", "state.json"):
            cases += wrong_types(path.read_bytes())
        for case in cases:
            outcome = use_copy(tmp_path, relative, case)
            assert outcome == right or isinstance(outcome, MemfastError), (relative, case[:80], outcome)
            refused += isinstance(outcome, MemfastError)
    assert refused > 100


def use_copy(folder, relative, case):
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / "run", copy)
    if relative is not None:
        (copy / relative).write_bytes(case)
    try:
        return use(copy)
    except MemfastError as error:
        return error


def test_damaged_canaries_are_an_error_of_ours(tmp_path):
    trainer(tmp_path / "run", data=Canaries(ITEMS[:2], [1, 3]).added_to(ITEMS)).run()
    generator = np.random.default_rng(0)
    for name in ("canaries.json", "canaries.npy"):
        whole = (tmp_path / "run" / name).read_bytes()
        for case in mutations(whole, generator):
            (tmp_path / "run" / name).write_bytes(case)
            try:
                found = Canaries.load(tmp_path / "run")
                assert found.repeats.tolist() == [1, 3]
                assert np.array_equal(found.items.block(0, 2), ITEMS[:2])
            except MemfastError:
                pass
        (tmp_path / "run" / name).write_bytes(whole)


def test_options_can_be_given_as_one_configuration(tmp_path):
    config = TrainingConfig(steps=3, batch_size=4, device="cpu", progress=False)
    assert Trainer(MODEL, ITEMS, out=tmp_path / "run", config=config).run().step == 3
    with pytest.raises(TypeError, match="got config= and lr: give one or the other"):
        Trainer(MODEL, ITEMS, out=tmp_path / "run", config=config, lr=1.0)


def test_names_of_the_earlier_version_still_work_in_hooks(tmp_path):
    seen = []

    class Old(Hook):
        def after_step(self, trainer):
            with pytest.warns(DeprecationWarning, match=r"run\.world is deprecated.*use run\.ranks"):
                assert trainer.world is trainer.ranks
            with pytest.warns(DeprecationWarning, match=r"use run\.losses"):
                assert trainer.ledger is trainer.losses
            seen.append(trainer.step)
            if trainer.step == 2:
                trainer.stopped = "enough"

    assert trainer(tmp_path, hooks=[Old()]).run().stopped == "enough"
    assert seen == [1, 2]


def test_a_hook_can_draw_samples_from_the_same_noise_at_any_time(tmp_path):
    drawn = []

    class Draws(Hook):
        def after_step(self, run):
            drawn.append(run.sample(3, steps=2, seed=5))

    labels = ArraySource(ITEMS, labels=np.arange(8) % 2)
    trainer(tmp_path, {**MODEL, "num_classes": 2}, labels, hooks=[Draws()], steps=2).run()
    assert all(one.shape == (3, 4, 4) and one.dtype == np.uint8 for one in drawn)
    again = models.load_run(tmp_path)
    values = sampling.sample(again, 3, steps=2, seed=5, labels=torch.tensor([0, 1, 0]))
    assert np.array_equal(values, drawn[1])
