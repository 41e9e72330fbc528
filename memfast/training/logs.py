"""The log of a run: one JSON object per line, and TensorBoard on request."""

import json
import os
from pathlib import Path
from typing import Any

from memfast.foundation.errors import MissingPackageError, OutputError
from memfast.runtime.files import write_text

LOG_FILE = "log.jsonl"


class RunLog:
    """Appends to ``log.jsonl``.

    A resumed run first drops what was logged after its checkpoint, so that its log equals that of a run that was never
    interrupted, but for the rates.

    Args:
        folder: the run's folder.
        after: keep the entries up to this step; None starts anew.
        tensorboard: also write TensorBoard's event files to ``folder/tensorboard``.
    """

    def __init__(self, folder: str | os.PathLike[str], *, after: int | None, tensorboard: bool = False) -> None:
        self.path = Path(folder) / LOG_FILE
        kept = [] if after is None else [entry for entry in read_log(folder) if entry["step"] <= after]
        write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))
        self._file = self.path.open("a", encoding="utf-8")
        self._board = _board(Path(folder) / "tensorboard", after) if tensorboard else None

    def write(self, entry: dict[str, Any]) -> None:
        """Append one entry; it has ``step``.

        Raises:
            OutputError: the disk is full.
        """
        try:
            self._file.write(json.dumps(entry, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}.") from error
        if self._board is not None:
            for name, value in entry.items():
                if name != "step" and isinstance(value, (int, float)):
                    self._board.add_scalar(name, value, entry["step"])

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The entries of a run's log, up to a line that is none: a kill may have cut the last one short."""
    path = Path(folder) / LOG_FILE
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not isinstance(entry, dict) or "step" not in entry:
            break
        entries.append(entry)
    return entries


def _board(folder: Path, after: int | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingPackageError("tensorboard", purpose="the TensorBoard log", extra="test") from error
    return SummaryWriter(str(folder), purge_step=None if after is None else after + 1)
