"""The files of a result: one generation whatever kills the writer, an error whatever damages a file, old ones read."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

import memfast
from memfast.auditing import AuditResult
from memfast.auditing.result import FILES
from memfast.foundation.errors import InputError, MemfastError, OutputError
from memfast.reports import render

FIRST_SCHEMA = Path(__file__).parent / "results" / "schema-1"


def images(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 6), dtype=np.uint8)


@pytest.fixture(scope="module")
def results():
    """Two results: one with labels, canaries, features and pictures; one with neither canaries nor pictures."""
    training, generated, test = images(40, 0), images(12, 1), images(14, 2)
    generated[:4] = training[:4]
    more = {"labels": np.arange(12) % 2, "canaries": training[5:8], "features": "pixels", "planted": 4, "k": 10}
    old = memfast.audit(generated, training, test, near_duplicates=0.02, **more)
    return old, memfast.audit(generated[:5], training, controls=False, pictures=0)


def same(one, other):
    return (
        one.found == other.found
        and one.pairs == other.pairs
        and (one.pictures is None) == (other.pictures is None)
        and (one.pictures is None or np.array_equal(one.pictures.generated, other.pictures.generated))
    )


def killed_at(step, write):
    """Whether ``write`` ended in a child process that dies at its ``step``-th call that changes a folder."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    left = [step]

    def dying(real):
        def call(*arguments, **options):
            if not left[0]:
                os._exit(9)
            left[0] -= 1
            return real(*arguments, **options)

        return call

    for name in ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir", "remove"):
        setattr(os, name, dying(getattr(os, name)))
    try:
        write()
    finally:
        os._exit(0)


def test_a_reader_sees_the_old_or_the_new_result_whatever_kills_the_writer(results, tmp_path):
    old, new = results
    old.report(tmp_path / "old")
    seen, step, done = set(), 0, False
    while not done:
        folder = tmp_path / str(step)
        shutil.copytree(tmp_path / "old", folder)
        done = killed_at(step, lambda folder=folder: new.report(folder))
        loaded = AuditResult.load(folder)
        seen.add("old" if same(loaded, old) else "new" if same(loaded, new) else "mixture")
        assert ("4 of 12" in (folder / "report.html").read_text()) == same(loaded, old)
        new.save(folder)
        assert same(AuditResult.load(folder), new)
        assert sorted(path.name for path in folder.iterdir()) == ["pairs.csv", "pairs.parquet", "result.json"]
        step += 1
    assert seen == {"old", "new"}
    assert step > 10


def test_a_full_disk_is_one_error_and_leaves_the_old_result(results, tmp_path, monkeypatch):
    old, new = results
    old.report(tmp_path)
    real, left = os.fsync, [0]

    def full(handle):
        if not left[0]:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        return real(handle)

    for step in range(5):
        left[0] = step
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(OutputError, match="No space left on device"):
                new.report(tmp_path)
        assert same(AuditResult.load(tmp_path), old)
        assert set(os.listdir(tmp_path)) <= set(FILES)


def test_a_folder_that_was_removed_meanwhile_is_made_again(results, tmp_path):
    old, new = results
    old.report(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    new.report(tmp_path / "out")
    assert same(AuditResult.load(tmp_path / "out"), new)


def test_the_first_schema_is_read_and_becomes_this_one(tmp_path):
    result = AuditResult.load(FIRST_SCHEMA)
    written = json.loads((FIRST_SCHEMA / "result.json").read_text())
    assert result.figures["schema"] == "memfast.audit/2"
    for name, value in written.items():
        if name != "schema":
            assert holds(result.figures[name], value), name
    assert result.pairs.columns["generated_name"][0] == "sample 0.png"
    assert result.fraction("nn_ratio") == pytest.approx(written["criteria"][0]["generated"]["fraction"])
    assert "came back" in result.summary()
    assert "sample 0.png" in render([result.report_run("x")])
    result.save(tmp_path)
    assert same(AuditResult.load(tmp_path), result)


def holds(value, part):
    """Whether ``value`` holds all of ``part``: later schemas add fields."""
    if isinstance(part, dict):
        return all(name in value and holds(value[name], one) for name, one in part.items())
    if isinstance(part, list):
        return len(value) == len(part) and all(map(holds, value, part))
    return value == part


def test_figures_may_be_given_as_plain_values(results):
    old, _ = results
    assert same(AuditResult(old.figures, old.pairs, old.pictures), old)
    assert json.loads(json.dumps(old.figures, allow_nan=False)) == old.figures
    with pytest.raises(InputError, match=r"figures\.search\.exactness: expected exact"):
        AuditResult({**old.figures, "search": {**old.figures["search"], "exactness": "guessed"}}, old.pairs)


def test_typed_and_plain_access_agree(results):
    old, _ = results
    entry = old.found.criterion("nn_ratio")
    assert old.criteria[0] is entry is old.found.headline
    assert old.criterion("nn_ratio")["generated"]["count"] == entry.copies.count == 4
    assert old.headline == old.criterion("nn_ratio")
    assert "criteria=" not in repr(old)


def mutated(content, seed):
    """The bytes with one kind of damage: a flipped bit, an exchanged, inserted or lost part, an early end."""
    chance = random.Random(seed)
    content, at = bytearray(content), chance.randrange(max(1, len(content)))
    match seed % 6:
        case 0:
            content[at] ^= 1 << chance.randrange(8)
        case 1:
            del content[at : at + chance.randrange(1, 40)]
        case 2:
            del content[at:]
        case 3:
            content[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9)))
        case 4:
            content[at : at + 1] = chance.choice([b"-", b"9", b"1e999", b"null", b'"', b"[", b"{}", b"NaN"])
        case 5:
            other = chance.randrange(max(1, len(content)))
            content[at : at + 8], content[other : other + 8] = content[other : other + 8], content[at : at + 8]
    return bytes(content)


OTHERS = [
    b"", b"[]", b"null", b"{}", b"1", b'"text"', b"[" * 200_000, b'{"schema": "memfast.audit/2"}',
    b'{"schema": ' + b"[" * 5000 + b"]" * 5000 + b"}", b"\xff\xfe\x00", b"9" * 10_000, b'{"schema": "memfast.audit/1"}',
]  # fmt: skip


def readable(folder, *, page=False):
    """Read a result and everything of it; True where it is whole, False where an error of ours says what is wrong."""
    try:
        result = AuditResult.load(folder)
    except MemfastError:
        return False
    result.summary()
    if page:
        render([result.report_run("x")])
    return True


@pytest.mark.parametrize("name", ["result.json", "pairs.csv", "pictures.safetensors"])
def test_a_damaged_file_is_an_error_of_ours(results, tmp_path, name):
    old, _ = results
    old.save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for damage in [*OTHERS, *(mutated(whole, seed) for seed in range(36))]:
        (tmp_path / name).write_bytes(damage)
        same_values = name == "result.json" and plain_equal(damage, whole)
        assert readable(tmp_path) == (damage == whole or same_values), damage[:80]
    (tmp_path / name).unlink()
    assert not readable(tmp_path)
    (tmp_path / name).mkdir()
    assert not readable(tmp_path)


def plain_equal(damage, whole):
    try:
        return json.loads(damage) == json.loads(whole)
    except (ValueError, RecursionError):
        return False


@pytest.mark.parametrize("name", ["result.json", "pairs.csv", "pictures.safetensors"])
def test_a_damaged_file_of_the_first_schema_is_no_raw_error(tmp_path, name):
    shutil.copytree(FIRST_SCHEMA, tmp_path / "result")
    whole = (FIRST_SCHEMA / name).read_bytes()
    for damage in [*OTHERS, *(mutated(whole, seed) for seed in range(60))]:
        (tmp_path / "result" / name).write_bytes(damage)
        readable(tmp_path / "result", page=name == "result.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "pairs.csv").write_text("a,b\n1,2\n"), "expected the file that the audit wrote"),
        (lambda folder: (folder / "pairs.csv").unlink(), "received no such file"),
        (lambda folder: (folder / "pictures.safetensors").unlink(), "received no such file"),
        (lambda folder: shutil.copy(FIRST_SCHEMA / "pairs.csv", folder / "pairs.csv"), "received another file"),
    ],
)
def test_files_of_another_result_are_refused_by_their_hashes(results, tmp_path, change, words):
    results[0].save(tmp_path)
    change(tmp_path)
    with pytest.raises(InputError, match=words):
        AuditResult.load(tmp_path)


def test_an_edited_figure_is_refused(results, tmp_path):
    results[0].save(tmp_path)
    figures = json.loads((tmp_path / "result.json").read_text())
    figures["criteria"][0]["generated"]["count"] = 0
    (tmp_path / "result.json").write_text(json.dumps(figures))
    with pytest.raises(InputError, match="its hash differs"):
        AuditResult.load(tmp_path)


def test_pictures_that_the_result_did_not_have_are_refused(results, tmp_path):
    results[1].save(tmp_path)
    shutil.copy(FIRST_SCHEMA / "pictures.safetensors", tmp_path / "pictures.safetensors")
    with pytest.raises(InputError, match="a file that the audit did not write"):
        AuditResult.load(tmp_path)


def test_a_half_moved_generation_is_finished_by_its_reader(results, tmp_path):
    results[0].save(tmp_path / "new")
    results[1].save(tmp_path / "out")
    (tmp_path / "out" / ".pairs.csv.x1y2.part").write_text("left by a killed process")
    shutil.move(tmp_path / "new", tmp_path / "out" / ".generation")
    assert same(AuditResult.load(tmp_path / "out"), results[0])
    results[0].save(tmp_path / "out")
    assert set(os.listdir(tmp_path / "out")) <= set(FILES)
