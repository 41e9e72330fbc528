"""Files are whole or absent, also when the disk fills up."""

import errno
import json

import numpy as np
import pytest

from memfast.foundation.errors import OutputError
from memfast.runtime import files


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "result.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError):
        _write_half(path)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_numbers_of_numpy_are_written_as_pythons(tmp_path):
    files.write_json(tmp_path / "a", {"a": np.int64(3), "b": [np.float32(0.5), np.True_]})
    assert (tmp_path / "a").read_text() == json.dumps({"a": 3, "b": [0.5, True]}, indent=2) + "\n"
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(tmp_path / "a", np.float32("nan"))
    with pytest.raises(TypeError, match="set has no place in a JSON file"):
        files.write_json(tmp_path / "a", {"a": {1}})


def test_text_that_is_no_utf8_is_written_readably(tmp_path):
    files.write_text(tmp_path / "a", "name \udcff")
    assert (tmp_path / "a").read_bytes() == b"name \\udcff"


def test_disk_full(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    files.write_text(path, "old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError, match=r"result\.json: No space left on device"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_output_folder_with_results_is_refused(tmp_path):
    files.claim_output_folder(tmp_path / "new")
    (tmp_path / "new/a").write_text("")
    with pytest.raises(OutputError, match="already holds results"):
        files.claim_output_folder(tmp_path / "new")
    assert files.claim_output_folder(tmp_path / "new", overwrite=True).is_dir()
    with pytest.raises(OutputError, match="received a file"):
        files.claim_output_folder(tmp_path / "new/a")
    with pytest.raises(OutputError, match=r"new/a/b for the results: Not a directory"):
        files.claim_output_folder(tmp_path / "new/a/b")
    with pytest.raises(OutputError, match=r"cannot write .*new/a/b"):
        files.write_text(tmp_path / "new/a/b", "text")


def _write_half(path):
    with files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError


def test_what_a_killed_process_left_is_no_result(tmp_path):
    """A command that was killed while it wrote its first file runs again as if it had never run."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / ".metrics.json.ab12_xyz.part").write_text("half")
    (folder / ".generation.zz00zz00.part").mkdir()
    files.claim_output_folder(folder)
    assert list(folder.iterdir()) == []
    (folder / ".notes.part").write_text("of the user")
    with pytest.raises(OutputError, match="already holds results"):
        files.claim_output_folder(folder)
    assert (folder / ".notes.part").read_text() == "of the user"
