"""`memfast audit` with metrics, features and labels, and on two processes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from memfast.cli import main


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    generator = np.random.default_rng(0)
    training, test, generated = (
        generator.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8) for count in (120, 110, 60)
    )
    generated[:15] = training[30:45]
    training[100] = training[3]
    for name, images in (("train", training), ("held", test), ("gen", generated)):
        np.save(folder / f"{name}.npy", images)
    np.save(folder / "labels.npy", np.arange(60) // 20)
    (folder / "train.txt").write_text("\n".join(str(number // 40) for number in range(120)))
    (folder / "test.txt").write_text(", ".join(str(number % 2) for number in range(110)))
    return folder


def command(sets, out, *more):
    paths = [sets / "gen.npy", sets / "train.npy", "--test", sets / "held.npy", "--out", out]
    return ["audit", *map(str, paths), *more]


def figures(folder):
    """The result without what belongs to the machine and the moment."""
    read = json.loads((folder / "result.json").read_text())
    return {name: value for name, value in read.items() if name != "provenance"}


def test_metrics_share_the_sets_and_say_what_they_cost(sets, tmp_path, capsys, monkeypatch):
    from memfast import data

    opened, real = [], data.open_source

    def spy(what, **options):
        opened.append(what)
        return real(what, **options)

    monkeypatch.setattr(data, "open_source", spy)
    labels = ["--labels", str(sets / "labels.npy"), "--test-labels", str(sets / "test.txt")]
    assert main(command(sets, tmp_path / "out", "--metrics", "all", *labels)) == 0
    read = [one.rpartition("/")[2] for one in opened if isinstance(one, str)]
    assert read == ["train.npy", "held.npy", "gen.npy"]
    told = capsys.readouterr().err
    first = next(line for line in told.splitlines() if "expected (" in line)
    assert first.startswith("audit: about")
    assert told.index("audit: about") < told.index("evaluate")
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["auth_pct"]["floor"] > metrics["auth_pct"]["value"]
    assert set(metrics["precision"]["per_class"]) == {"0", "1", "2"}
    page = (tmp_path / "out/report.html").read_text()
    assert "auth_pct" in page
    assert "Where the sets lie" in page
    classes = figures(tmp_path / "out")["per_class"]["classes"]
    assert [row["criteria"]["nn_ratio"]["count"] for row in classes] == [15, 0, 0]
    assert [row["held_out"] and row["held_out"]["nn_ratio"]["total"] for row in classes] == [55, 55, None]


def test_features_similarity_and_training_labels(sets, tmp_path):
    more = ["--features", "pixels", "--similarity", "0.99,0.6", "--training-labels", str(sets / "train.txt"), "--quiet"]
    assert main(command(sets, tmp_path / "out", "--criteria", "nndr,similarity", *more, "--no-controls")) == 0
    found = figures(tmp_path / "out")
    assert [entry["name"] for entry in found["criteria"]] == ["nn_ratio", "similarity"]
    similarity = found["criteria"][1]
    assert similarity["generated"]["count"] == 15
    assert [level["threshold"] for level in similarity["levels"]] == [0.6, 0.99]
    assert found["features"] == {"name": "pixels", "width": 192}
    assert found["per_class"]["labels_of"] == "nearest training item"
    assert sum(row["held_out"]["nn_ratio"]["total"] for row in found["per_class"]["classes"]) == 110


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--similarity", "0.9"], "--similarity: expected --features beside it"),
        (["--similarity", "much", "--features", "pixels"], "expected thresholds separated by commas"),
        (["--similarity", "1.5", "--features", "pixels"], "a cosine in [-1, 1)"),
        (["--features", "no-such-network"], "received 'no-such-network'"),
        (["--labels", "nowhere.npy"], "--labels nowhere.npy: expected an npy file or a text file of whole numbers"),
        (["--labels", "{sets}/gen.npy"], "received uint8 of shape (60, 8, 8, 3)"),
        (["--labels", "{sets}/train.txt"], "labels: expected 60 labels, received shape [120]"),
    ],
)
def test_bad_options_are_named(sets, tmp_path, capsys, more, words):
    assert main(command(sets, tmp_path / "out", "--quiet", *(one.format(sets=sets) for one in more))) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out/result.json").exists()


def test_labels_of_several_sets_are_refused(sets, tmp_path, capsys):
    paths = [str(sets / "gen.npy"), str(sets / "held.npy"), "--training", str(sets / "train.npy")]
    assert main(["audit", *paths, "--out", str(tmp_path / "out"), "--labels", str(sets / "labels.npy")]) == 1
    assert "expected one generated set, received 2" in capsys.readouterr().err


def test_an_unfinished_audit_is_taken_up_again(sets, tmp_path, monkeypatch):
    from memfast.auditing import AuditResult

    out = tmp_path / "out"

    def killed(*args, **options):
        AuditResult.save(args[0], out)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AuditResult, "report", killed)
        assert main(command(sets, out, "--quiet", "--no-controls")) != 0
    assert (out / ".progress").is_dir()
    assert (out / "result.json").exists()
    assert main(command(sets, out, "--quiet", "--no-controls")) == 0
    assert not (out / ".progress").exists()
    assert main(command(sets, out, "--quiet", "--no-controls")) == 1


def test_overwrite_starts_again_where_the_unfinished_audit_was_another(sets, tmp_path, monkeypatch, capsys):
    from memfast.auditing import AuditResult

    out = tmp_path / "out"

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AuditResult, "report", killed)
        assert main(command(sets, out, "--quiet", "--no-controls")) != 0
    assert main(command(sets, out, "--quiet", "--no-controls", "-k", "7")) == 1
    assert "k was 50, is now 7" in capsys.readouterr().err
    assert main(command(sets, out, "--quiet", "--no-controls", "-k", "7", "--overwrite")) == 0
    assert "Starting again, as --overwrite says." in capsys.readouterr().err
    assert figures(out)["parameters"]["k"] == 7


def ranks(port, *arguments):
    """Two processes, as torchrun would start them."""
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    started = []
    for rank in (0, 1):
        words = [one.format(rank=rank) for one in arguments]
        environment = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        started.append(
            subprocess.Popen([sys.executable, "-m", "memfast", *words], env=environment, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )  # fmt: skip
    try:
        ended = [process.communicate(timeout=600) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(started, ended, strict=True)]


def test_two_processes_give_the_result_of_one(sets, tmp_path, free_port):
    more = ["--features", "pixels", "--json", "--quiet"]
    assert main([*command(sets, tmp_path / "one", *more)]) == 0
    (code, shown, _), (other, silent, trouble) = ranks(free_port(), *command(sets, tmp_path / "two", *more))
    assert (code, other) == (0, 0), trouble
    assert json.loads(shown)["criteria"][0]["generated"]["count"] == 15
    assert silent == ""
    assert figures(tmp_path / "two") == figures(tmp_path / "one")
    assert (tmp_path / "two/pairs.csv").read_bytes() == (tmp_path / "one/pairs.csv").read_bytes()
    assert not (tmp_path / "two/.progress").exists()


def test_one_failing_rank_ends_both_with_its_cause(sets, tmp_path, free_port):
    (tmp_path / "labels0.txt").write_text(" ".join("1" * 60))
    (tmp_path / "labels1.txt").write_text("1 2 3")
    labels = ["--labels", str(tmp_path) + "/labels{rank}.txt", "--quiet"]
    (code, _, told), (other, _, own) = ranks(free_port(), *command(sets, tmp_path / "out", *labels))
    assert (code, other) == (1, 1)
    assert "rank 1 of 2 failed: InputError: labels: expected 60 labels, received shape [3]" in told
    assert "labels: expected 60 labels, received shape [3]" in own
    assert "Traceback" not in told + own
    assert not (tmp_path / "out/result.json").exists()
