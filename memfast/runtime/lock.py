"""One writer for a folder: a lock file that names its owner's host and process, taken over when the owner has died."""

import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from memfast.foundation.errors import OutputError

BEAT_SECONDS = 20.0
# A lock of another machine counts as abandoned when its owner has given no sign of life for this long.
ABANDONED_SECONDS = 120.0


class FolderLock:
    """A lock on a folder that exists, held until ``release``.

    A lock whose process has ended on this machine is taken over at once. On another machine nobody can look for the
    process, so the owner renews the file every 20 seconds, and after two minutes without a renewal the lock is
    taken over.

    Args:
        path: the lock file.
        what: what its owner does, for the error, for example ``"a training run"``.
    """

    # The tokens this process holds: a file that names our process id and none of these was left by an earlier process.
    _held: ClassVar[set[str]] = set()

    def __init__(self, path: str | os.PathLike[str], what: str) -> None:
        self.path, self.what = Path(path), what
        self._token: str | None = None
        self._stop = threading.Event()

    @property
    def held(self) -> bool:
        """Whether ``acquire`` succeeded and ``release`` has not been called."""
        return self._token is not None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            OutputError: another live process holds it, or the file cannot be written.
        """
        if self.held:
            return
        token = secrets.token_hex(8)
        owner = {
            "what": self.what, "host": socket.gethostname(), "pid": os.getpid(),
            "process_started": _started(os.getpid()), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "token": token,
        }  # fmt: skip
        try:
            while not self._create(json.dumps(owner)):
                self._remove_abandoned()
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}.") from error
        self._token = token
        FolderLock._held.add(token)
        self._stop = threading.Event()
        threading.Thread(target=self._beat, args=(self._stop,), name="memfast-lock", daemon=True).start()

    def check(self) -> None:
        """Raise where the lock is gone: the folder was removed, or another process has taken it over.

        Raises:
            OutputError: it is gone.
        """
        if self._token is None:
            return
        owner = _read(self.path)
        if owner is None:
            raise OutputError(f"{self.path.parent}: the folder or its lock was removed while {self.what} wrote to it.")
        if owner.get("token") != self._token:
            raise OutputError(f"{self.path.parent}: {_named(owner)} has taken the folder over.")

    def release(self) -> None:
        """Give the lock back; without one, nothing happens."""
        if self._token is None:
            return
        self._stop.set()
        owner = _read(self.path)
        if owner is not None and owner.get("token") == self._token:
            with suppress(OSError):
                self.path.unlink()
        FolderLock._held.discard(self._token)
        self._token = None

    def _create(self, content: str) -> bool:
        """Make the file with its content in one step; False where there is one."""
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        draft.write_text(content, encoding="utf-8")
        try:
            os.link(draft, self.path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            try:
                with open(self.path, "x", encoding="utf-8") as file:
                    file.write(content)
            except FileExistsError:
                return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _remove_abandoned(self) -> None:
        """Remove a lock whose owner has died.

        Raises:
            OutputError: the owner lives, or may live.
        """
        owner = _read(self.path)
        if owner is None and not self.path.exists():
            return
        quiet = self._quiet_seconds()
        if owner is None or owner.get("host") != socket.gethostname():
            dead = quiet > ABANDONED_SECONDS
        else:
            dead = not _lives(owner, FolderLock._held)
        if not dead:
            named = "another process" if owner is None else _named(owner)
            raise OutputError(
                f"{self.path.parent}: {named} is writing there; its last sign of life is {quiet:.0f} s old. "
                f"Wait until it ends, stop it, or choose another folder. If it has ended, remove {self.path.name}."
            )
        aside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        with suppress(FileNotFoundError):
            os.rename(self.path, aside)
            if _read(aside) != owner:  # somebody else was quicker: it is a new lock
                os.rename(aside, self.path)
                return
            aside.unlink(missing_ok=True)

    def _quiet_seconds(self) -> float:
        """Seconds since the lock was renewed, by the clock of the file system."""
        clock = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        try:
            clock.write_bytes(b"")
            return max(0.0, clock.stat().st_mtime - self.path.stat().st_mtime)
        except FileNotFoundError:
            return 0.0
        finally:
            clock.unlink(missing_ok=True)

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT_SECONDS):
            owner = _read(self.path)
            if owner is None or owner.get("token") != self._token:
                return
            with suppress(OSError):
                os.utime(self.path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _named(owner: dict[str, Any]) -> str:
    return f"{owner.get('what')} (process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')})"


def _lives(owner: dict[str, Any], held: set[str]) -> bool:
    pid = owner.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    if pid == os.getpid():
        return owner.get("token") in held
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # a process of somebody else
    # A number is given to another process in time: when it started tells them apart.
    return _started(pid) == owner.get("process_started")


def _started(pid: int) -> int | None:
    """When a process started, in the system's own unit; None where the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
