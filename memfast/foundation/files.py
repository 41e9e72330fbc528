"""Files that are either whole or absent: written to a temporary name, flushed, renamed."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from memfast.foundation.errors import OutputError

_UNFINISHED = ".part"


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path``, on failure it is removed.

    Raises:
        OutputError: the file could not be written (disk full, no permission); what stood at ``path`` still does.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _flush_to_disk(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}. Nothing there was changed.") from error
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                temporary.unlink()


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path``, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write ``content`` to ``path`` in UTF-8, atomically; what UTF-8 cannot hold (a file's name) as ``\\udcXX``."""
    with atomic_path(path) as temporary:
        _fill(temporary, content)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``json_text`` of ``content`` to ``path``, atomically."""
    write_text(path, json_text(content))


def json_text(content: Any) -> str:
    """``content`` as strict JSON (no NaN, no infinity); NumPy's numbers as Python's."""
    return json.dumps(content, indent=2, allow_nan=False, default=_plain) + "\n"


def write_npy(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write ``array`` as an npy file without pickles to ``path``, atomically."""
    with atomic_path(path) as temporary:
        _fill(temporary, array)


def write_together(folder: str | os.PathLike[str], contents: Mapping[str, str | np.ndarray]) -> None:
    """Write several files of a folder, texts as ``write_text`` does and arrays as ``write_npy``.

    None takes its place before all are whole and on the disk: whatever goes wrong until then changes nothing there.

    Raises:
        OutputError: a file could not be written.
    """
    with ExitStack() as places:
        for name, content in contents.items():
            temporary = places.enter_context(atomic_path(Path(folder) / name))
            _fill(temporary, content)
            _flush_to_disk(temporary)


def remove_unfinished(folder: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Remove what a killed process left of files of these names while it wrote them."""
    for name in names:
        for path in Path(folder).glob(f".{name}.*{_UNFINISHED}"):
            path.unlink(missing_ok=True)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def claim_output_folder(folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Create ``folder`` for new results, or refuse one that already holds something.

    Args:
        folder: the output folder.
        overwrite: accept a folder that holds results; its files are replaced one by one, none is deleted.

    Raises:
        OutputError: the folder is not empty and ``overwrite`` is off, it is a file, or it cannot be made.
    """
    folder = Path(folder)
    try:
        if folder.is_file():
            raise OutputError(f"{folder}: expected a folder for the results, received a file. Choose another name.")
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise OutputError(
                f"{folder}: expected a new or empty folder, received one that already holds results. "
                "Choose another folder, or pass --overwrite to replace them."
            )
        folder.mkdir(parents=True, exist_ok=True)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot use {folder} for the results: {error.strerror or error}.") from error
    return folder


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a JSON file")


def _fill(path: Path, content: str | np.ndarray) -> None:
    with open(path, "wb") as file:
        if isinstance(content, str):
            file.write(content.encode("utf-8", "backslashreplace"))
        else:
            np.save(file, content, allow_pickle=False)


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
