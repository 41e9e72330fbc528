"""Provenance says what it should, and equal content has equal hashes."""

import hashlib
import subprocess

import numpy as np

from memfast.foundation import provenance


def test_content_hash_is_sha256_of_dtype_shape_and_values():
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    expected = hashlib.sha256(b"|u1(3, 4)" + array.tobytes()).hexdigest()
    assert provenance.content_hash(array) == expected
    assert provenance.content_hash(np.asfortranarray(array)) == expected
    assert provenance.content_hash(array.reshape(4, 3)) != expected
    assert provenance.content_hash(array.astype(np.int8)) != expected


def test_large_arrays_are_hashed_in_blocks():
    array = np.random.default_rng(0).integers(0, 256, (40, 1 << 20), dtype=np.uint8)
    expected = hashlib.sha256(f"|u1{array.shape}".encode() + array.tobytes()).hexdigest()
    assert provenance.content_hash(array) == expected


def test_versions_and_machine():
    assert {"python", "torch", "numpy"} <= provenance.versions().keys()
    assert provenance.machine()["cores"] >= 1


def test_the_commit_is_marked_where_files_differ_apart_from_those_named(tmp_path):
    def git(*arguments):
        names = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(["git", *names, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    for name in ("code.py", "result.json"):
        (tmp_path / name).write_text("1")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    head = git("rev-parse", "HEAD")
    assert provenance.commit(tmp_path) == head
    (tmp_path / "result.json").write_text("2")
    assert provenance.commit(tmp_path) == f"{head}-dirty"
    assert provenance.commit(tmp_path, apart=["result.json", "missing"]) == head
    (tmp_path / "code.py").write_text("2")
    assert provenance.commit(tmp_path, apart=["result.json"]) == f"{head}-dirty"
    assert provenance.commit(tmp_path / "missing") is None
