"""Exit codes, one-line causes, JSON on stdout, and nothing half-written."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from memfast.cli import main


@pytest.fixture
def sets(tmp_path):
    generator = np.random.default_rng(0)
    training = generator.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    generated = generator.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    generated[3] = training[17]
    generated[5] = training[40]
    generated[5, 0, 0, 0] ^= 1
    for name, images in (("train", training), ("gen", generated), ("held", training[::-1][:5] ^ 255)):
        (tmp_path / name).mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_audit_finds_what_was_planted(sets, capsys):
    out = sets / "out"
    arguments = [str(sets / "gen"), str(sets / "train"), "--test", str(sets / "held"), "--out", str(out), "--json"]
    assert main(["audit", *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["criteria"][0]["generated"]["count"] == 2
    rows = (out / "pairs.csv").read_text().splitlines()
    assert len(rows) == 11
    assert "3.png" in rows[1]
    assert "17.png" in rows[1]
    assert "5.png" in rows[2]
    assert "40.png" in rows[2]
    assert (out / "report.html").stat().st_size > 10_000
    assert not (out / ".progress").exists()


def test_near_duplicates_count_as_one_item(sets, capsys):
    image = np.asarray(Image.open(sets / "train/17.png")).copy()
    image[0, 0] ^= 1
    Image.fromarray(image).save(sets / "train/twin of 17.png")
    arguments = ["audit", str(sets / "gen"), str(sets / "train"), "--quiet", "--no-controls", "--json"]
    counts = []
    for more in ([], ["--near-duplicates", "0.01"]):
        assert main([*arguments, *more, "--out", str(sets / f"out{len(more)}")]) == 0
        result = json.loads(capsys.readouterr().out)
        entry = next(one for one in result["criteria"] if one["name"] == "calibrated")
        counts.append((result["parameters"]["near_duplicates"], entry["generated"]["count"]))
        listed = result["inputs"]["training"]["near_duplicates"]
    assert counts == [(None, 2), (0.01, 2)]
    assert listed["listed"] == [["17.png", "twin of 17.png"]]
    assert "Near-duplicates in the training set" in (sets / "out2/report.html").read_text()


def test_a_gate_that_is_not_met_is_exit_code_3(sets, capsys):
    arguments = ["audit", str(sets / "gen"), str(sets / "train"), "--quiet", "--no-controls"]
    assert main([*arguments, "--out", str(sets / "a"), "--max-memorized", "0.01"]) == 3
    told = capsys.readouterr().err
    assert "gate not met: 2 of 10 samples of gen (20.0 %) count as copies by nn_ratio, at most 1 % allowed" in told
    assert main([*arguments, "--out", str(sets / "b"), "--max-memorized", "0.2"]) == 0


def test_a_folder_used_again_holds_one_audits_files(sets, capsys):
    pair, out = [str(sets / "gen"), str(sets / "train")], sets / "out"
    more = ["--out", str(out), "--no-controls", "--quiet", "--overwrite"]
    assert main(["audit", *pair, *more, "--metrics", "precision", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["metrics"] == json.loads((out / "metrics.json").read_text())
    assert "pairs" not in printed
    assert main(["audit", *pair, *more]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "pairs.csv", "pairs.parquet", "pictures.safetensors", "report.html", "result.json",
    ]  # fmt: skip
    assert main(["audit", pair[0], str(sets / "held"), "--training", pair[1], *more]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["gen", "held", "report.html"]


def test_several_sets_side_by_side(sets):
    arguments = [str(sets / "gen"), str(sets / "held"), "--training", str(sets / "train"), "--no-controls", "--quiet"]
    assert main(["audit", *arguments, "--out", str(sets / "out")]) == 0
    assert (sets / "out/gen/result.json").exists()
    assert (sets / "out/held/result.json").exists()
    assert (sets / "out/report.html").exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--metrics", "nope"], "expected names among"),
        (["--run", "nowhere"], "nowhere: expected a run's folder"),
        (["--test-labels", "labels.txt"], "--test-labels: expected --test beside it, received no held-out set"),
        (["--near-duplicates", "0"], "--near-duplicates: expected a finite number above 0"),
    ],
    ids=["metric", "run", "labels", "near-duplicates"],
)
def test_mistakes_are_found_before_the_search(sets, capsys, monkeypatch, option, words):
    monkeypatch.chdir(sets)
    (sets / "labels.txt").write_text("1\n" * 5)
    out = sets / "out"
    assert main(["audit", str(sets / "gen"), str(sets / "train"), "--out", str(out), "--quiet", *option]) == 1
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_sets_are_labelled_by_their_folders_name_however_they_are_written(sets, monkeypatch):
    (sets / "gen/below").mkdir()
    monkeypatch.chdir(sets / "gen/below")
    arguments = ["..", str(sets / "held"), "--training", str(sets / "train"), "--no-controls", "--quiet"]
    assert main(["audit", *arguments, "--out", str(sets / "out/deep")]) == 0
    assert (sets / "out/deep/gen/result.json").exists()
    assert [path.name for path in (sets / "out").iterdir()] == ["deep"]


def test_a_folder_with_results_is_left_alone(sets, capsys):
    out = sets / "out"
    out.mkdir()
    (out / "result.json").write_text("precious")
    assert main(["audit", str(sets / "gen"), str(sets / "train"), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "already holds results" in error
    assert "Traceback" not in error
    assert (out / "result.json").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["audit", "nowhere", "nothing", "--out", "o"], 1, "nothing there"),
        (["audit", "one-path", "--out", "o"], 2, "expected GENERATED and TRAINING"),
        (["audit", "--no-such-option"], 2, "No such option"),
        (["audit", "b", "a" * 300, "--out", "o"], 1, "File name too long"),
        (["audit", "b", "broken.tar", "--out", "o"], 1, "a readable zip or tar archive"),
        (["audit", "a", "b", "--out", "o", "--seed", "-1"], 2, "--seed"),
        (["audit", "a", "b", "--out", "o", "--memory", "nan"], 1, "--memory: expected"),
        (["demo", "--out", "broken.tar/o"], 1, "Not a directory"),
        (["train", "--out", "o"], 1, "what to train on"),
        (["train", "--out", "o", "--data", "broken.tar", "--low", "5", "--high", "5"], 1, "low below high"),
        (["sample", "nowhere", "--out", "o"], 1, "run"),
        (["no-such-verb"], 2, "No such command"),
    ],
    ids=[
        "missing-path", "one-path", "option", "long-name", "damaged", "seed", "memory", "out-below-a-file",
        "no-data", "no-width", "no-run", "verb",
    ],
)  # fmt: skip
def test_wrong_usage_and_failures(arguments, code, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.tar").write_bytes(b"no archive" * 100)
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert words in error
    assert code == 2 or error.count("\n") == 1
    assert "Traceback" not in error


def test_ctrl_c_is_one_line_and_keeps_what_was_found(sets, capsys, monkeypatch):
    import memfast

    def stopped(*_, **__):
        raise KeyboardInterrupt

    arguments = ["audit", str(sets / "gen"), str(sets / "train"), "--out", str(sets / "out"), "--quiet"]
    with monkeypatch.context() as patched:
        patched.setattr(memfast, "audit", stopped)
        assert main(arguments) != 0
    of_older_typers = ("Aborted!", "Aborted.")
    assert capsys.readouterr().err.strip() in ("memfast: interrupted", *of_older_typers)
    assert main(arguments) == 0


@pytest.mark.parametrize("verb", ["demo", "train", "sample", "audit", "evaluate", "trace", "info"])
def test_every_verb_has_help(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_info_says_why_something_is_missing(capsys):
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in facts["backends"]}
    assert rows["reference"]["available"]
    assert all(row["available"] or row["reason"] for row in rows.values())
    assert main(["info"]) == 0
    assert "backend" in capsys.readouterr().out


def test_a_run_from_train_to_sample(sets, capsys):
    common = ["--quiet", "--json"]
    config = sets / "run.toml"
    config.write_text(
        f"[data]\npath = '{sets}/train'\n[model]\nkind = 'mlp'\nwidth = 16\nblocks = 1\n"
        "[training]\nsteps = 4\nbatch_size = 8\n"
    )
    assert main(["train", str(config), "--out", str(sets / "run"), "--low", "500", "--high", "900", *common]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 4
    assert main(["train", str(config), "--out", str(sets / "run"), *common]) == 1
    assert "already holds results" in capsys.readouterr().err
    for out, batch in (("s1", "64"), ("s2", "3")):
        arguments = [str(sets / "run"), "--out", str(sets / out), "-n", "7", "--steps", "5", "--batch-size", batch]
        assert main(["sample", *arguments, "--images", *common]) == 0
    capsys.readouterr()
    assert len(list((sets / "s1/images").iterdir())) == 7
    difference = np.load(sets / "s1/samples.npy").astype(int) - np.load(sets / "s2/samples.npy")
    assert np.abs(difference).max() <= 1
    assert main(["audit", str(sets / "s1/images"), str(sets / "train"), "--run", str(sets / "run"), "--out",
                 str(sets / "audit"), *common]) == 0  # fmt: skip


def test_a_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -m memfast info | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("memfast ")
    assert done.stderr == ""
