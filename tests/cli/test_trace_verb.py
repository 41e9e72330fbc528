"""``memfast trace`` on a run: the same numbers as from Python, clear answers to bad input."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from memfast.cli import main
from memfast.cli.conditions import TracedCondition, read_conditions, targets_of
from memfast.data import ArraySource, ImageSource
from memfast.foundation.errors import InputError
from memfast.models import load_run
from memfast.objective import DenoisingObjective
from memfast.schedules import linear
from memfast.trace import trace_run
from memfast.training import Trainer

FEW = ["--seeds", "2", "--steps", "4", "--quiet"]
CLASSES = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three classes that has hardly been trained: numbers, not insight."""
    folder = tmp_path_factory.mktemp("trace") / "run"
    images = np.random.default_rng(0).integers(0, 256, (12, 6, 6), dtype=np.uint8)
    data = ImageSource(images, name="noise", labels=np.arange(12) % CLASSES)
    model = {"kind": "mlp", "width": 16, "blocks": 1, "num_classes": CLASSES}
    Trainer(
        model, data, DenoisingObjective(linear(1000)), out=folder, steps=4, batch_size=4, compile=False, progress=False,
        condition_dropout=0.5,
    ).run()  # fmt: skip
    np.save(folder / "targets.npy", images[:CLASSES])
    entries = [
        {"name": f"[b]kind {label}", "label": label, "memorized": label == 0, "target": label, "images": [1]}
        for label in range(CLASSES)
    ]
    (folder / "conditions.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trace") / "plain"
    data = np.random.default_rng(0).integers(0, 256, (8, 6, 6), dtype=np.uint8)
    Trainer(
        {"kind": "mlp", "width": 16, "blocks": 1}, data, DenoisingObjective(linear(1000)), out=folder, steps=2,
        batch_size=4, compile=False, progress=False,
    ).run()  # fmt: skip
    return folder


def test_a_run_is_traced_as_from_python(run, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--prompts", str(run / "conditions.json"), "--targets", str(run / "targets.npy"), "--sweep", "1,3"]
    assert main(["trace", str(run), *arguments, *FEW, "--keep-states", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "[b]kind 1" in printed
    assert f"page: {out / 'trace.html'}" in printed
    content = json.loads((out / "trace.json").read_text())
    expected = trace_run(
        load_run(run), labels=[0, 1, 2], names=[f"[b]kind {label}" for label in range(CLASSES)],
        memorized=[True, False, False], targets=np.load(run / "targets.npy"), seeds=2, steps=4, guidance=7.5,
        sweep=[1, 3], keep_states=True,
    )  # fmt: skip
    assert content.pop("provenance")["versions"]["memfast"]
    assert content == {key: value for key, value in expected.to_dict().items() if key != "provenance"}
    assert np.array_equal(np.load(out / "states.npy"), expected.states.numpy())
    rows = list(csv.DictReader((out / "trace.csv").open()))
    assert [(row["condition"], row["seed"]) for row in rows] == [
        (f"[b]kind {label}", str(seed)) for label in range(CLASSES) for seed in range(2)
    ]
    assert "[b]kind 1" in (out / "trace.html").read_text()
    assert {path.name for path in out.iterdir()} == {"trace.json", "trace.csv", "trace.html", "states.npy"}


def test_json_prints_the_facts_and_nothing_else(run, tmp_path, capsys):
    arguments = ["--labels", "2,0", "--targets", str(run / "targets.npy"), "--bank", str(run / "targets.npy"), "--json"]
    assert main(["trace", str(run), *arguments, *FEW, "--out", str(tmp_path)]) == 0
    facts = json.loads(capsys.readouterr().out)
    content = json.loads((tmp_path / "trace.json").read_text())
    assert [one["label"] for one in facts["conditions"]] == [2, 0]
    assert [one["d1"] for one in facts["conditions"]] == [one["d1"] for one in content["conditions"]]
    assert facts["correlations"] == content["correlations"]
    assert facts["detection"] is None
    assert content["conditions"][0]["seeds"][0]["nearest"]["index"] in range(CLASSES)
    assert Path(facts["page"]).is_file()


def test_targets_follow_labels_where_there_is_one_per_class(run, tmp_path):
    for name, labels in (("some", "2,0"), ("all", "0,1,2")):
        arguments = ["--labels", labels, "--targets", str(run / "targets.npy"), *FEW, "--out", str(tmp_path / name)]
        assert main(["trace", str(run), *arguments]) == 0
    some, every = (json.loads((tmp_path / name / "trace.json").read_text()) for name in ("some", "all"))
    # Two conditions in a batch or three: the network's own sums differ in their last bits.
    expected = [every["conditions"][label]["d1"] for label in (2, 0)]
    assert [one["d1"] for one in some["conditions"]] == pytest.approx(expected, rel=1e-4)


def test_without_targets_each_sample_is_its_own(run, plain_run, tmp_path):
    assert main(["trace", str(run), *FEW, "--out", str(tmp_path / "a")]) == 0
    assert main(["trace", str(plain_run), *FEW, "--out", str(tmp_path / "b")]) == 0
    with_classes, plain = (json.loads((tmp_path / name / "trace.json").read_text()) for name in ("a", "b"))
    assert with_classes["sampler"]["target"] == plain["sampler"]["target"] == "final"
    assert (with_classes["sampler"]["guidance"], plain["sampler"]["guidance"]) == (7.5, 1.0)
    assert [one["label"] for one in with_classes["conditions"]] == [0, 1, 2]
    assert plain["conditions"][0]["w_target"]["mean"][-1] == pytest.approx(1.0)
    assert "is measured against its own finished state" in (tmp_path / "b/trace.html").read_text()


@pytest.mark.parametrize("rule", ["delayed", "opposite", "dynamic"])
def test_a_guidance_rule_changes_the_run(run, tmp_path, rule):
    common = ["trace", str(run), "--labels", "0", *FEW]
    assert main([*common, "--guidance", "3", "--out", str(tmp_path / "a")]) == 0
    until = [] if rule == "dynamic" else ["--until", "0.5"]
    assert main([*common, "--guidance", "3", "--guidance-rule", rule, *until, "--out", str(tmp_path / "b")]) == 0
    one, other = (json.loads((tmp_path / name / "trace.json").read_text()) for name in ("a", "b"))
    assert other["sampler"]["guidance"]["scale"] == 3
    assert one["conditions"][0]["alignment_initial"]["guided"] != other["conditions"][0]["alignment_initial"]["guided"]


def test_a_rule_that_starts_at_once_is_the_plain_scale(run, tmp_path):
    common = ["trace", str(run), "--labels", "1", "--guidance", "3", *FEW]
    assert main([*common, "--out", str(tmp_path / "a")]) == 0
    assert main([*common, "--guidance-rule", "delayed", "--until", "1", "--out", str(tmp_path / "b")]) == 0
    one, other = (json.loads((tmp_path / name / "trace.json").read_text()) for name in ("a", "b"))
    assert np.allclose(one["conditions"][0]["d1"], other["conditions"][0]["d1"], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--labels", "0,9"], "labels from 0 to 2"),
        (["--labels", "0,x"], "--labels: expected whole numbers separated by commas"),
        (["--labels", "0", "--prompts", "c.txt"], "expected one of them"),
        (["--prompts", "nowhere.csv"], "No such file"),
        (["--prompts", "c.yaml"], "expected a .txt, .json, .jsonl or .csv file"),
        (["--prompts", "c.txt"], "condition 'a cat': expected a label from 0 to 2"),
        (["--prompts", "broken.json"], "broken.json: expected a .txt"),
        (["--prompts", "empty.txt"], "at least one condition"),
        (["--prompts", "bad.jsonl"], "entry 2: expected a prompt or a label, received keys nothing"),
        (["--prompts", "flag.csv"], "entry 1, memorized: expected true, false or nothing, received 'maybe'"),
        (["--targets", "two.npy"], "expected 3 items, one per condition"),
        (["--targets", "shape.npy"], "target of 'class 0': expected uint8 items"),
        (["--target", "train"], "expected --targets beside it"),
        (["--target", "both"], "--target: expected train or final"),
        (["--sweep", "1,two"], "--sweep: expected numbers"),
        (["--seeds", "0"], "seeds: expected a count"),
        (["--seeds", "1,1"], "seeds: expected a count, or different numbers"),
        (["--method", "euler"], "method: expected one of ddim, ddpm, heun"),
        (["--detectors", "crystal"], "detector: expected one of"),
        (["--features", "nope"], "features: expected"),
        (["--guidance-rule", "late"], "--guidance-rule: expected one of delayed, opposite, dynamic"),
        (["--weights", "nope"], "weights"),
        (["--device", "nope"], "--device: expected a device that PyTorch can use here, received nope ("),
        (["--device", "meta"], "--device: expected a device that PyTorch can use here, received meta ("),
        (["--dtype", "float16"], "--dtype: expected a diffusers pipeline, received a run"),
        (["--until", "0.5"], "--until: expected --guidance-rule delayed or opposite beside it, received no rule"),
        (["--guidance-rule", "dynamic", "--until", "0.5"], "--until: expected --guidance-rule delayed or opposite"),
        (["--guidance-rule", "delayed", "--until", "1.5"], "--until: expected a share from 0 to 1, or a whole"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_has_one_line_and_leaves_nothing(run, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("c.txt").write_text("a cat\n")
    Path("c.yaml").write_text("a: 1")
    Path("broken.json").write_text("[{")
    Path("empty.txt").write_text("\n")
    Path("bad.jsonl").write_text('{"prompt": "a"}\n{"nothing": 1}\n')
    Path("flag.csv").write_text("label,memorized\n0,maybe\n")
    np.save("two.npy", np.zeros((2, 6, 6), np.uint8))
    np.save("shape.npy", np.ones((3, 5, 6), np.uint8))
    assert main(["trace", str(run), *FEW, *arguments, "--out", "out"]) == 1
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not Path("out").exists()


@pytest.mark.parametrize("folder", ["", "nowhere", "file"])
def test_a_folder_that_is_neither(tmp_path, capsys, folder):
    (tmp_path / "file").write_text("x")
    assert main(["trace", str(tmp_path / folder), "--out", str(tmp_path / "out")]) == 1
    expected = "expected a run's folder with run.json or a diffusers pipeline's with model_index.json, received "
    received = {"": "neither", "nowhere": "nothing there", "file": "a file"}[folder]
    assert expected + received in capsys.readouterr().err


def test_results_are_not_overwritten_unasked(run, tmp_path, capsys):
    (tmp_path / "trace.json").write_text("precious")
    assert main(["trace", str(run), *FEW, "--out", str(tmp_path)]) == 1
    assert "already holds results" in capsys.readouterr().err
    assert (tmp_path / "trace.json").read_text() == "precious"
    assert main(["trace", str(run), *FEW, "--out", str(tmp_path), "--overwrite"]) == 0


def test_states_of_an_earlier_trace_do_not_stay_beside_a_new_one(run, tmp_path):
    for option, there in (("--keep-states", True), ("--overwrite", False)):
        assert main(["trace", str(run), *FEW, "--labels", "0", option, "--out", str(tmp_path)]) == 0
        assert (tmp_path / "states.npy").exists() == there


def test_nothing_is_printed_but_the_result(run, tmp_path, capfd):
    assert main(["trace", str(run), *FEW, "--out", str(tmp_path / "out")]) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert "\x1b" not in printed.out
    assert printed.out.endswith("trace.html\n")


def test_every_form_of_conditions_reads_the_same(tmp_path):
    entries = [
        {"prompt": "a cat, asleep", "name": "cat", "memorized": True, "target": 1},
        {"prompt": "a dog", "memorized": None, "target": "dog.png"},
    ]
    (tmp_path / "c.json").write_text(json.dumps(entries))
    renamed = [{"caption" if key == "prompt" else key: value for key, value in one.items()} for one in entries]
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps(one) for one in renamed))
    (tmp_path / "c.csv").write_text('prompt,name,memorized,target\n"a cat, asleep",cat,1,1\na dog,,,dog.png\n')
    expected = [
        TracedCondition("cat", prompt="a cat, asleep", memorized=True, target=1),
        TracedCondition("a dog", prompt="a dog", target="dog.png"),
    ]
    for suffix in ("json", "jsonl", "csv"):
        assert read_conditions(tmp_path / f"c.{suffix}") == expected
    (tmp_path / "c.txt").write_text("a cat\n\n7\n")
    assert read_conditions(tmp_path / "c.txt") == [
        TracedCondition("a cat", prompt="a cat"), TracedCondition("7", label=7, prompt="7"),
    ]  # fmt: skip


def test_targets_are_found_by_row_name_order_and_label():
    source = ArraySource(np.arange(4)[:, None], name="items", names=["a.png", "b.png", "c.png", "c.jpg"])

    def found(*conditions, **options):
        return [None if one is None else int(one[0]) for one in targets_of(conditions, source, **options)]

    assert found(*(TracedCondition("x") for _ in range(4))) == [0, 1, 2, 3]
    assert found(TracedCondition("x", target=3), TracedCondition("y"), TracedCondition("z", target="b")) == [3, None, 1]
    assert found(TracedCondition("x", target="c.jpg")) == [3]
    assert found(TracedCondition("x", label=2), TracedCondition("y", label=0), classes=4) == [2, 0]
    for wrong in (4, "d", "c"):
        with pytest.raises(InputError, match="target of 'x': expected a row from 0 to 3 or an item's name"):
            found(TracedCondition("x", target=wrong))
    with pytest.raises(InputError, match="expected 1 items, one per condition"):
        found(TracedCondition("x"))


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_an_earlier_trace_stays_whole_where_a_new_one_cannot_be_written(run, tmp_path, monkeypatch, capsys, written):
    common = ["trace", str(run), *FEW, "--keep-states", "--out", str(tmp_path)]
    assert main([*common, "--labels", "0"]) == 0
    (tmp_path / ".states.npy.0.part").write_text("what a killed process left")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    flush, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > written:
            raise OSError(28, "No space left on device")
        flush(handle)

    monkeypatch.setattr(os, "fsync", full)
    assert main([*common, "--labels", "1,2", "--overwrite"]) == 1
    assert "No space left on device. What was there is whole." in capsys.readouterr().err
    before.pop(".states.npy.0.part")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
