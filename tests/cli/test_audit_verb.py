"""`memfast audit`: its flags are its options, what was not read is said, names are told apart, kills block nothing."""

import inspect
import json
import os
import shutil

import numpy as np
import pytest
import typer

import memfast
from memfast.auditing import AuditConfig
from memfast.auditing.config import WORDS
from memfast.cli import audit as verb
from memfast.cli import main
from memfast.data import ArraySource
from memfast.data import reading as memfast_reading
from memfast.foundation.values import one_line

ONLY_PYTHON = {"require", "extraction", "planted", "confidence", "resamples", "pictures"}


@pytest.fixture
def sets(tmp_path):
    generator = np.random.default_rng(0)
    training, generated = (generator.integers(0, 256, (count, 8, 8), dtype=np.uint8) for count in (60, 12))
    generated[3] = training[17]
    for name, rows in (("train", training), ("gen", generated)):
        np.save(tmp_path / f"{name}.npy", rows)
    return tmp_path


def command(sets, *more, out="out"):
    return ["audit", str(sets / "gen.npy"), str(sets / "train.npy"), "--out", str(sets / out), "--no-controls", *more]


def test_signature_and_flags_are_the_options_with_their_defaults():
    options = {one.name: one for one in AuditConfig.__dataclass_fields__.values() if one.init}
    signature = inspect.signature(memfast.audit).parameters
    assert set(options) == set(WORDS)
    assert set(options) <= set(signature)
    for name, option in options.items():
        assert signature[name].default == option.default, name
    flags = inspect.signature(verb.run).parameters
    for name in set(options) - ONLY_PYTHON:
        assert flags[name].default == options[name].default, name
        told = flags[name].annotation.__metadata__[0]
        assert isinstance(told, typer.models.OptionInfo)
        assert told.help in (WORDS[name], "The seed of everything random.")
    assert set(signature) - set(options) == {
        "generated", "training", "test", "labels", "training_labels", "test_labels", "canaries", "checkpoint", "reuse",
        "progress",
    }  # fmt: skip


@pytest.fixture
def unread(monkeypatch):
    """Sources that say that an entry with a terminal's escape sequence in its name was not read."""
    real = memfast_reading.open_source

    class NotRead:
        reason, count, names = "broken links", 2, ("a\x1b[31m.png", "b\n.png")

    def opened(data, **options):
        source = real(data, **options)
        if isinstance(source, ArraySource):
            source.not_read = (NotRead(),)
        return source

    monkeypatch.setattr("memfast.data.open_source", opened)


@pytest.mark.usefixtures("unread")
def test_what_was_not_read_is_a_line_on_the_terminal_and_strict_is_exit_code_1(sets, capsys):
    assert main(command(sets, "--quiet")) == 0
    told = capsys.readouterr().out
    assert r"2 entries of the generated set were not read: 2 broken links (a\x1b[31m.png, b\n.png)" in told
    assert "\x1b" not in told
    assert main(command(sets, "--quiet", "--json", out="json")) == 0
    found = capsys.readouterr()
    assert json.loads(found.out)["inputs"]["training"]["not_read"][0]["count"] == 2
    assert r"memfast: 2 entries of the training set were not read" in found.err
    assert "\x1b" not in found.err
    assert main(command(sets, "--quiet", "--strict", out="strict")) == 1
    told = capsys.readouterr().err
    assert "expected nothing but items (strict, --strict), received 2 broken links" in told
    assert told.count("\n") == 1
    assert "\x1b" not in told
    assert not (sets / "strict/result.json").exists()


def test_a_gate_by_a_criterion_that_cannot_apply_is_an_error_before_the_search(sets, capsys, monkeypatch):
    from memfast.auditing.search import TrainingSearch

    searched, real = [], TrainingSearch.evidence
    monkeypatch.setattr(TrainingSearch, "evidence", lambda *one, **more: searched.append(1) or real(*one, **more))
    gate = ["--max-memorized", "0.5", "--quiet"]
    for number, criterion in enumerate(("absolute_tiles", "similarity,nn_ratio")):
        assert main(command(sets, *gate, "--criteria", criterion, out=f"out{number}")) == 1
        assert "expected a required criterion that applies to this data" in capsys.readouterr().err
    assert searched == []
    assert main(command(sets, *gate, "--criteria", "absolute,absolute_tiles")) == 0
    assert main(command(sets, "--quiet", "--max-memorized", "0.01", "--criteria", "absolute", out="b")) == 3
    assert "by absolute" in capsys.readouterr().err


def test_ranges_of_sets_are_given_by_name(sets, capsys):
    np.save(sets / "gen.npy", np.load(sets / "gen.npy") / 255.0)
    np.save(sets / "train.npy", np.load(sets / "train.npy") / 127.5 - 1)
    assert main(command(sets, "--quiet")) == 1
    told = capsys.readouterr().err
    assert "--value-range generated=0,1 --value-range training=-1,1" in told
    given = ["--value-range", "generated=0,1", "--value-range", "training=-1,1"]
    assert main(command(sets, "--quiet", "--json", *given, "--overwrite")) == 0
    assert json.loads(capsys.readouterr().out)["criteria"][0]["generated"]["count"] == 1
    for wrong, words in (
        ("1", "expected LOW,HIGH or SET=LOW,HIGH"),
        ("all=0,1", "received 'all'"),
        ("a,b", "received 'a,b'"),
    ):
        assert main(command(sets, "--value-range", wrong, out="c")) == 1
        assert words in capsys.readouterr().err
    assert main(command(sets, "--value-range", "0,1", "--value-range", "test=0,1", out="c")) == 1
    assert "received both" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runA/samples", "runB/samples"], ["runA-samples", "runB-samples"]),
        (["a/x/samples", "b/x/samples", "other"], ["a-x-samples", "b-x-samples", "other"]),
        (["samples.npy", "samples.npz"], ["samples", "samples-2"]),
        (["one/samples", "one/samples"], ["samples", "samples-2"]),
        (["file.npz::x", "file.npz::y"], ["file-x", "file-y"]),
        (["data::train", "data::test"], ["data-train", "data-test"]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_sets_of_one_name_are_told_apart_by_their_folders(paths, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list(verb._labels(paths).items()) == list(zip(names, paths, strict=True))


def test_a_kill_while_progress_is_removed_blocks_no_rerun(sets, capsys, monkeypatch):
    out = sets / "out"
    assert main(command(sets, "--quiet")) == 0
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    for name in ("..progress.x1y2.part", ".report.html.x1y2.part"):
        (out / name).mkdir()
        (out / name / "manifest.json").write_text("{")
    (out / ".result.json.ab.part").write_text("{")
    assert main(command(sets, "--quiet")) == 1
    assert "already holds results" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    for path in whole:
        (out / path).unlink()
    (out / "..progress.x1y2.part").mkdir()
    assert main(command(sets, "--quiet")) == 0

    def killed(path, *_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        assert main(command(sets, "--quiet", "--overwrite")) != 0
    assert main(command(sets, "--quiet", "--overwrite")) == 0
    assert sorted(os.listdir(out)) == sorted(whole)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain \u65e5\u672c\u3000text", "plain \u65e5\u672c\u3000text"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\r\nb", r"a\r\nb"),
        ("photo\u202egnp.exe", r"photo\u202egnp.exe"),
        ("\udcff", r"\udcff"),
    ],
)
def test_text_cannot_steer_a_terminal(text, shown):
    assert one_line(text) == shown


def test_names_in_errors_cannot_steer_a_terminal(sets, capsys):
    assert main(["audit", str(sets / "no\x1b[2Jthing"), str(sets / "train.npy"), "--out", str(sets / "o")]) == 1
    told = capsys.readouterr().err
    assert r"no\x1b[2Jthing" in told
    assert "\x1b" not in told


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("l.txt", f"1 2 {2**63}".encode(), "expected whole numbers of 64 bits, received 9223372036854775808"),
        ("l.txt", f"1 2 {10**30}".encode(), "expected whole numbers of 64 bits, received 1000000000"),
        ("l.txt", f"-1 2 {2**64 - 1}".encode(), "expected whole numbers of 64 bits"),
        ("l.txt", b"1.5 2", "invalid literal"),
        ("l.txt", b"\xff\xfe", "expected an npy file or a text file"),
        ("l.txt", b"", "received numbers of shape (0,)"),
        ("l.npy", b"", "No data left in file"),
        ("l.npy", b"\x93NUMPY\x01\x00v\x00{'descr'", "expected an npy file or a text file"),
    ],
)
def test_labels_that_cannot_be_used_are_named(sets, capsys, name, content, words):
    (sets / name).write_bytes(content)
    assert main(command(sets, "--labels", str(sets / name))) == 1
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_labels_beyond_63_bits_are_refused_in_python_too():
    items = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    with pytest.raises(memfast.InputError, match="labels: expected whole numbers of 64 bits with a sign"):
        memfast.audit(items, items, labels=np.full(5, 2**63, np.uint64), controls=False)


def test_a_folder_keeps_the_dots_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("samples.v1", "samples.v2"):
        (tmp_path / name).mkdir()
    assert list(verb._labels(["samples.v1", "samples.v2"])) == ["samples.v1", "samples.v2"]
