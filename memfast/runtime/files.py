"""Files and folders that are either whole or absent: written under a temporary name, flushed, renamed."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from memfast.foundation.errors import OutputError

_UNFINISHED = ".part"
_GENERATION = ".generation"
_REMOVED = "removed.json"
_REPLACED = ".replaced"
# The names that `tempfile` gives to what is being written here.
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}" + re.escape(_UNFINISHED))

# What stands in a file's text or header where its seal belongs, while the seal is computed.
EMPTY_SEAL = "sha256:" + "0" * 64
_SEAL = re.compile(rb"sha256:[0-9a-f]{64}")

Content = str | bytes | np.ndarray | Callable[[Path], None]


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


def write_together(
    folder: str | os.PathLike[str], contents: Mapping[str, Content], *, remove: Iterable[str] = ()
) -> None:
    """Write several files of a folder as one generation: readers see all of the old ones or all of the new ones.

    The files are written to a folder inside, flushed, and that folder gets its final name by one rename: from then on
    the new generation counts. Then the files move to their places; where the process is killed in between,
    ``finish_generation`` moves the rest.

    Args:
        folder: where the files belong.
        contents: name -> text, bytes, array (as npy) or a function that writes to the path it is given.
        remove: names of the old generation that the new one does not have.

    Raises:
        OutputError: a file could not be written; the old generation is whole.
    """
    folder = Path(folder)
    temporary: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        finish_generation(folder)
        remove_unfinished(folder, [_GENERATION[1:]])
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=f"{_GENERATION}.", suffix=_UNFINISHED))
        for name, content in contents.items():
            _fill(temporary / name, content)
            _flush_to_disk(temporary / name)
            os.chmod(temporary / name, 0o666 & ~_umask())
        gone = [name for name in remove if name not in contents]
        (temporary / _REMOVED).write_text(json.dumps(gone), encoding="utf-8")
        _flush_to_disk(temporary / _REMOVED)
        _flush_folder(temporary)
        os.rename(temporary, folder / _GENERATION)
        temporary = None
        _flush_folder(folder)
        finish_generation(folder)
    except OSError as error:
        raise OutputError(
            f"cannot write {', '.join(contents)} in {folder}: {error.strerror or error}. What was there is whole."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def finish_generation(folder: str | os.PathLike[str]) -> None:
    """Bring files that a killed ``write_together`` had completed to their places; call it before reading them.

    Raises:
        OutputError: they cannot be moved, for example because the folder is read-only.
    """
    folder = Path(folder)
    ready = folder / _GENERATION
    if not ready.is_dir():
        return
    try:
        if (ready / _REMOVED).is_file():
            for name in _names(ready / _REMOVED):
                (folder / Path(name).name).unlink(missing_ok=True)
        for path in sorted(ready.iterdir()):
            if path.name != _REMOVED:
                os.replace(path, folder / path.name)
        (ready / _REMOVED).unlink(missing_ok=True)
        ready.rmdir()
        _flush_folder(folder)
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(
            f"{folder}: a newer result lies in {ready.name} and cannot be moved to its place ({error}). "
            f"Move its files into {folder}, or write to another folder."
        ) from error


def seal(content: bytes) -> bytes:
    """``content`` with its first ``EMPTY_SEAL`` replaced by the SHA-256 of all of it: no byte can change unnoticed."""
    empty = EMPTY_SEAL.encode()
    if empty not in content:
        raise ValueError("the content has no place for a seal")
    return content.replace(empty, b"sha256:" + hashlib.sha256(content).hexdigest().encode(), 1)


def check_seal(content: bytes) -> None:
    """Raise unless ``content`` is as ``seal`` made it.

    Raises:
        ValueError: there is no seal, or a byte changed.
    """
    found = _SEAL.search(content)
    if found is None:
        raise ValueError("it has no checksum")
    bare = content[: found.start()] + EMPTY_SEAL.encode() + content[found.end() :]
    if found.group() != b"sha256:" + hashlib.sha256(bare).hexdigest().encode():
        raise ValueError("its checksum does not fit its content")


def remove_unfinished(folder: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Remove what a killed process left of files and folders of these names while it wrote them."""
    for name in names:
        for path in Path(folder).glob(f".{name}.*{_UNFINISHED}"):
            _remove(path)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it takes the name ``path``, on failure it is removed.

    Files are flushed before the rename. A folder that has the name already is renamed away first and removed after, so
    a kill leaves the old one, the new one, or, between two renames, the old one under a temporary name that
    ``restore_folder`` puts back.

    Raises:
        OutputError: it could not be written; what stood at ``path`` still does.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        restore_folder(path)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED))
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush_to_disk(file)
        temporary.chmod(0o777 & ~_umask())
        _flush_folder(temporary)
        old = replaced_folder(path)
        if path.exists():
            os.rename(path, old)
        try:
            os.rename(temporary, path)
        except OSError:
            if old.exists():
                os.rename(old, path)
            raise
        temporary = None
        _flush_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}. Nothing there was changed.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def restore_folder(path: str | os.PathLike[str]) -> None:
    """Put back the folder that a killed ``atomic_folder`` had renamed away, where no new one took its place."""
    path = Path(path)
    old = replaced_folder(path)
    if not old.is_dir():
        return
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        with suppress(OSError):
            os.rename(old, path)


def replaced_folder(path: str | os.PathLike[str]) -> Path:
    """Where ``atomic_folder`` keeps the folder that has the name ``path`` between its two renames."""
    return Path(path).parent / f".{Path(path).name}{_REPLACED}"


def restore_folders(parent: str | os.PathLike[str]) -> None:
    """``restore_folder`` for every folder in ``parent``."""
    for old in Path(parent).glob(f".*{_REPLACED}"):
        restore_folder(old.with_name(old.name[1 : -len(_REPLACED)]))


def remove_folder(path: str | os.PathLike[str]) -> None:
    """Remove a folder whole: it loses its name first, so that a kill in between leaves no half of it."""
    path = Path(path)
    with suppress(OSError):
        gone = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED))
        os.rename(path, gone / path.name)
        shutil.rmtree(gone, ignore_errors=True)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def claim_output_folder(folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Create ``folder`` for new results, or refuse one that already holds something.

    What a killed process left of files that it had not finished does not count, and is removed.

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
        held = list(folder.iterdir()) if folder.is_dir() else []
        unfinished = [path for path in held if _TEMPORARY.fullmatch(path.name)]
        if len(held) > len(unfinished) and not overwrite:
            raise OutputError(
                f"{folder}: expected a new or empty folder, received one that already holds results. "
                "Choose another folder, or pass --overwrite to replace them."
            )
        for path in unfinished:
            _remove(path)
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


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _names(path: Path) -> list[str]:
    names = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path.name} is damaged: expected a list of file names")
    return names


def _fill(path: Path, content: Content) -> None:
    if callable(content):
        content(path)
        return
    with open(path, "wb") as file:
        if isinstance(content, str):
            file.write(content.encode("utf-8", "backslashreplace"))
        elif isinstance(content, bytes):
            file.write(content)
        else:
            np.save(file, content, allow_pickle=False)


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
