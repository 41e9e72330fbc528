"""Several files as one generation: whatever moment a writer is killed in, a reader sees all old or all new files."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from memfast.foundation.errors import OutputError
from memfast.runtime import files

OLD = {"result.json": "old", "pairs.csv": "old", "gone.bin": b"old"}

# The writer dies at the n-th call of the operations that change names; exit code 9 says that it did.
WRITER = """
import os, sys
import numpy as np
from memfast.runtime import files

folder, stop = sys.argv[1], int(sys.argv[2])
calls = 0

def dying(operation):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == stop:
            os._exit(9)
        return operation(*arguments, **options)
    return call

for name in ("rename", "replace", "unlink", "rmdir", "fsync", "open"):
    setattr(os, name, dying(getattr(os, name)))
files.write_together(folder, {"result.json": "new", "pairs.csv": "new", "array.npy": np.arange(3)}, remove=["gone.bin"])
"""


def seen(folder):
    """What a reader sees: names and contents, without the writer's own folders."""
    files.finish_generation(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_a_kill_at_any_moment_leaves_one_generation(tmp_path):
    outcomes = []
    for stop in range(1, 60):
        folder = tmp_path / str(stop)
        files.write_together(folder, OLD)
        code = subprocess.run([sys.executable, "-c", WRITER, str(folder), str(stop)], check=False).returncode
        found = seen(folder)
        if found == {name: text if isinstance(text, bytes) else text.encode() for name, text in OLD.items()}:
            outcomes.append("old")
        else:
            assert sorted(found) == ["array.npy", "pairs.csv", "result.json"]
            assert found["result.json"] == found["pairs.csv"] == b"new"
            assert np.load(folder / "array.npy").tolist() == [0, 1, 2]
            outcomes.append("new")
        files.write_together(folder, {"result.json": "third"})
        assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
        if code == 0:
            break
        assert code == 9
    else:
        pytest.fail("the writer never came to its end")
    assert outcomes == sorted(outcomes, reverse=True), "once the new generation counts, it stays"
    assert set(outcomes) == {"old", "new"}


def test_a_write_that_fails_leaves_the_old_generation_and_no_rest(tmp_path):
    files.write_together(tmp_path, OLD)

    def full_disk(path):
        path.write_bytes(b"some of it")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot write result.json, pictures.*No space left on device"):
        files.write_together(tmp_path, {"result.json": "new", "pictures": full_disk})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OLD)
    assert (tmp_path / "result.json").read_text() == "old"


@pytest.mark.parametrize("text", ["{no json", "3", '{"a": 1}', "[3]", "[" * 100_000, "\xff"])
def test_a_damaged_ready_generation_is_an_error_of_ours(tmp_path, text):
    files.write_together(tmp_path, OLD)
    ready = tmp_path / files._GENERATION
    ready.mkdir()
    (ready / files._REMOVED).write_text(text, encoding="latin-1")
    with pytest.raises(OutputError, match="a newer result lies in"):
        files.finish_generation(tmp_path)


def test_removed_names_cannot_leave_the_folder(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("stays")
    folder = tmp_path / "results"
    files.write_together(folder, OLD)
    ready = folder / files._GENERATION
    ready.mkdir()
    (ready / files._REMOVED).write_text(json.dumps(["../outside.txt"]))
    files.finish_generation(folder)
    assert outside.read_text() == "stays"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "checkpoint"
    with files.atomic_folder(target) as temporary:
        (temporary / "weights").write_text("first")
    with pytest.raises(RuntimeError, match="half way"):
        _write_half(target)
    assert (target / "weights").read_text() == "first"
    with files.atomic_folder(target) as temporary:
        (temporary / "weights").write_text("third")
    assert (target / "weights").read_text() == "third"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_folder_renamed_away_by_a_killed_writer_comes_back(tmp_path):
    target = tmp_path / "within-budget"
    with files.atomic_folder(target) as temporary:
        (temporary / "weights").write_text("kept")
    os.rename(target, tmp_path / f".within-budget{files._REPLACED}")
    files.restore_folder(target)
    assert (target / "weights").read_text() == "kept"
    # Where the new one took its place, the old one goes.
    (tmp_path / f".within-budget{files._REPLACED}").mkdir()
    files.restore_folder(target)
    assert [path.name for path in tmp_path.iterdir()] == ["within-budget"]


def _write_half(target):
    with files.atomic_folder(target) as temporary:
        (temporary / "weights").write_text("second")
        raise RuntimeError("half way")
