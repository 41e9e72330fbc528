"""Checkpoints written: a folder appears whole under its name or not at all, and the oldest are removed."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from memfast.foundation.errors import OutputError
from memfast.foundation.values import file_hash
from memfast.models.checkpoints import CHECKPOINTS, STATE_FILE, step_folder_name, step_folders

_PART_PREFIX = ".part-"


def save_checkpoint(
    run: str | os.PathLike[str],
    files: Mapping[str, Mapping[str, torch.Tensor]],
    state: Mapping[str, Any],
    *,
    name: str | None = None,
    keep: int | None = None,
) -> Path:
    """Write one checkpoint folder.

    Everything is written to a temporary folder beside it, flushed to the disk and renamed; then all but the newest
    ``keep`` numbered checkpoints are removed. A kill at any moment leaves the earlier ones whole.

    Args:
        run: the run's folder.
        files: tensors by file name, then by tensor name.
        state: what ``state.json`` holds besides the files' sizes and hashes; has ``step``.
        name: the folder's name; by default ``step-NNNNNNNN``. A named one is not counted by ``keep``.
        keep: how many numbered checkpoints to keep; None keeps all.

    Raises:
        OutputError: it could not be written (disk full, no permission); the earlier checkpoints are untouched.
    """
    folder = Path(run) / CHECKPOINTS
    target = folder / (name or step_folder_name(int(state["step"])))
    temporary: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_PART_PREFIX, dir=folder))
        listed = {file: _write_tensors(temporary / file, tensors) for file, tensors in files.items()}
        _write_state(temporary / STATE_FILE, {**state, "files": listed})
        temporary.chmod(0o755)
        _flush(temporary)
        _rename_over(temporary, target)
        _flush(folder)
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"cannot write the checkpoint {target}: {error}. The earlier checkpoints are whole."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    if keep is not None:
        # Those beyond this step were found damaged when the run was resumed: they must not displace whole ones.
        reached = [one for one in step_folders(run) if one.name <= step_folder_name(int(state["step"]))]
        for old in reached[: -max(1, keep)]:
            _remove(old)
    return target


def remove_leftovers(run: str | os.PathLike[str]) -> None:
    """Remove temporary folders that a killed process left behind."""
    folder = Path(run) / CHECKPOINTS
    for path in folder.glob(f"{_PART_PREFIX}*") if folder.is_dir() else ():
        shutil.rmtree(path, ignore_errors=True)


def remove_checkpoints(run: str | os.PathLike[str]) -> None:
    """Remove every checkpoint of a run that is being replaced."""
    shutil.rmtree(Path(run) / CHECKPOINTS, ignore_errors=True)


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # Shared memory is not representable in the file; a copy of each tensor also unties buffers that are views.
    try:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    _flush(path)
    return {"bytes": path.stat().st_size, "sha256": file_hash(path)}


def _write_state(path: Path, state: Mapping[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(state, indent=2, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _rename_over(source: Path, target: Path) -> None:
    """Give the finished folder its name; one that holds it already is renamed away first and then removed."""
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=_PART_PREFIX, dir=target.parent)) / target.name
        os.rename(target, old)
        try:
            os.rename(source, target)
        except OSError:
            os.rename(old, target)
            raise
        finally:
            shutil.rmtree(old.parent, ignore_errors=True)
    else:
        os.rename(source, target)


def _remove(folder: Path) -> None:
    """Remove a checkpoint: first it loses its name, so that a kill in between leaves no half of it."""
    with suppress(OSError):
        gone = Path(tempfile.mkdtemp(prefix=_PART_PREFIX, dir=folder.parent))
        os.rename(folder, gone / folder.name)
        shutil.rmtree(gone, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
