"""One writer for a folder: a live owner keeps others out, a dead one does not."""

import json
import os
import socket
import subprocess
import sys

import pytest

from memfast.foundation.errors import OutputError
from memfast.runtime.lock import ABANDONED_SECONDS, FolderLock


def owner(path):
    return json.loads(path.read_text())


def test_a_second_owner_is_refused_and_the_first_is_named(tmp_path):
    path = tmp_path / "run.lock"
    first, second = FolderLock(path, "a training run"), FolderLock(path, "a training run")
    first.acquire()
    first.acquire()  # by the same owner: nothing happens
    assert (owner(path)["pid"], owner(path)["host"]) == (os.getpid(), socket.gethostname())
    with pytest.raises(OutputError, match=rf"a training run \(process {os.getpid()} on .*\) is writing there"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_live_process_is_kept_and_that_of_a_killed_one_is_taken(tmp_path):
    path = tmp_path / "run.lock"
    code = (
        "import sys, time; from memfast.runtime.lock import FolderLock; "
        f"FolderLock({str(path)!r}, 'a test').acquire(); print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    lock = FolderLock(path, "a training run")
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=f"a test \\(process {process.pid} on"):
            lock.acquire()
    finally:
        process.kill()
        process.wait()
    lock.acquire()
    assert owner(path)["pid"] == os.getpid()
    lock.release()


def test_a_process_number_that_was_given_again_is_not_the_owner(tmp_path):
    path = tmp_path / "run.lock"
    lock = FolderLock(path, "a training run")
    lock.acquire()
    left = {**owner(path), "token": "of an earlier process"}
    lock.release()
    for changed in ({}, {"pid": os.getppid(), "process_started": 1}, {"pid": "x"}, {"pid": -1}, {"pid": 2**70}):
        path.write_text(json.dumps({**left, **changed}))
        lock.acquire()
        lock.release()


@pytest.mark.parametrize("content", ['{"host": "elsewhere", "pid": 1}', "", "[1]", "[" * 5000])
def test_where_nobody_can_look_the_last_sign_of_life_counts(tmp_path, content):
    path = tmp_path / "run.lock"
    path.write_text(content)
    lock = FolderLock(path, "a training run")
    with pytest.raises(OutputError, match=r"is writing there; its last sign of life is \d s old"):
        lock.acquire()
    old = path.stat().st_mtime - ABANDONED_SECONDS - 5
    os.utime(path, (old, old))
    lock.acquire()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_an_owner_notices_that_it_lost_the_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lock = FolderLock(folder / "run.lock", "a training run")
    lock.check()
    lock.acquire()
    lock.check()
    (folder / "run.lock").write_text('{"what": "another", "pid": 7, "host": "elsewhere", "token": "x"}')
    with pytest.raises(OutputError, match=r"another \(process 7 on elsewhere, since None\) has taken the folder over"):
        lock.check()
    lock.release()
    assert (folder / "run.lock").exists()  # it is the other's
    (folder / "run.lock").unlink()
    lock.acquire()
    (folder / "run.lock").unlink()
    folder.rmdir()
    with pytest.raises(OutputError, match="the folder or its lock was removed while a training run wrote to it"):
        lock.check()
    lock.release()


def test_a_folder_that_cannot_be_written_to_is_a_clear_error(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*run\.lock: No such file or directory"):
        FolderLock(tmp_path / "nowhere" / "run.lock", "a training run").acquire()
