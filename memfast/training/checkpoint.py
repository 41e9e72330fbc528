"""The folder of a run, written: whose it is, what it says of the run, and its checkpoints.

A ``RunFolder`` changes nothing until ``claim``, which a new run calls after its first step succeeded. So a run that
cannot start leaves the folder, and a run that it would have replaced, as they were.
"""

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from memfast.data import Source
from memfast.data.canaries import ITEMS_FILE, REPEATS_FILE, WithCanaries
from memfast.foundation import provenance
from memfast.foundation.errors import CheckpointError, OutputError, first_line
from memfast.foundation.values import file_hash, first_difference
from memfast.models import newest_checkpoint
from memfast.models.checkpoints import (
    CHECKPOINTS,
    LOG_FILE,
    RUN_FILE,
    RUN_ID,
    STATE_FILE,
    Checkpoint,
    read_run,
    signed,
    step_folder_name,
    step_folders,
)
from memfast.objective import DenoisingObjective
from memfast.runtime.distributed import Ranks
from memfast.runtime.files import (
    atomic_folder,
    claim_output_folder,
    json_text,
    remove_folder,
    remove_unfinished,
    restore_folders,
    write_text,
)
from memfast.runtime.lock import FolderLock
from memfast.training.config import TrainingConfig
from memfast.training.log import NOT_FINITE_FILE

RUN_FORMAT = 2
LOCK_FILE = "run.lock"
TENSORBOARD_FOLDER = "tensorboard"
# What must agree for a resumed run to be the uninterrupted one; the rest of run.json says how it came about.
DECISIVE = ("model", "objective", "data", "training")
# A folder that holds nothing else holds no results.
_NO_RESULTS = (LOCK_FILE, NOT_FINITE_FILE)
_OWN_FILES = (RUN_FILE, LOG_FILE, LOCK_FILE, NOT_FINITE_FILE, ITEMS_FILE, REPEATS_FILE, "generation")


class RunFolder:
    """The output folder of one run.

    Attributes:
        path: the folder.
        run_id: the run's id, once it is claimed or found; None for a run of an earlier version.
        continued: whether the folder's own run goes on.
        claimed: whether the folder is this run's to write to.
    """

    def __init__(self, path: Path, ranks: Ranks) -> None:
        self.path, self.continued, self.claimed = path, False, False
        self.run_id: str | None = None
        self._ranks, self._overwrite = ranks, False
        self._lock = FolderLock(path / LOCK_FILE, "a training run")

    def hold(self) -> None:
        """Keep other runs out of a folder that exists already; every rank calls.

        Raises:
            OutputError: another run is writing there.
        """
        with self._ranks.fail_together(str(self.path)):
            if self._ranks.is_main and self.path.is_dir():
                self._lock.acquire()

    def find(self, description: Mapping[str, Any], *, resume: bool, overwrite: bool) -> Checkpoint | None:
        """The checkpoint from which this run goes on, or None; nothing in the folder is changed. Every rank calls.

        Args:
            description: this run's, as ``describe`` gives it.
            resume: go on with the run in the folder if it holds one.
            overwrite: accept a folder that holds results.

        Raises:
            OutputError: the folder holds results and neither ``resume`` nor ``overwrite`` is on.
            CheckpointError: it holds another run, or no whole checkpoint.
        """
        with self._ranks.fail_together(str(self.path)):
            if resume and (self.path / RUN_FILE).is_file():
                self.run_id = check_same_run(self.path, description)
                self.continued = True
                return newest_checkpoint(self.path)
            self._overwrite = overwrite
            if self._ranks.is_main:
                self._check_free()
        return None

    def claim(self, description: Mapping[str, Any], source: Source) -> None:
        """Make the folder this run's; every rank calls. A run that it replaces is gone afterwards.

        Args:
            description: the content of ``run.json``.
            source: the training data, whose canaries are kept.

        Raises:
            OutputError: it cannot be written to, or another run took it meanwhile.
        """
        if self.claimed:
            return
        with self._ranks.fail_together(str(self.path)):
            if not self.continued:
                self.run_id = self._ranks.broadcast(secrets.token_hex(8))
            if self._ranks.is_main:
                if not self.continued:
                    self._check_free()
                claim_output_folder(self.path, overwrite=True)
                self._lock.acquire()
                self._remove_leftovers()
                if not self.continued:
                    self._begin_anew(description, source)
        self.claimed = True

    def check_owned(self) -> None:
        """Raise where the folder was removed, or another run took it over.

        Raises:
            OutputError: so it is.
        """
        if not self.claimed:
            return
        self._lock.check()
        if not (self.path / RUN_FILE).is_file():
            raise OutputError(
                f"{self.path / RUN_FILE} is gone: the folder was removed or replaced while the run wrote to it. "
                "What was trained since the last checkpoint is lost."
            )

    def write_checkpoint(
        self,
        files: Mapping[str, Mapping[str, torch.Tensor]],
        state: Mapping[str, Any],
        *,
        name: str | None = None,
        keep: int | None = None,
    ) -> Path:
        """Write one checkpoint folder; on the main rank.

        Everything is written to a temporary folder beside it, flushed to the disk and renamed; then all but the newest
        ``keep`` numbered checkpoints are removed. A kill at any moment leaves the earlier ones whole.

        Args:
            files: tensors by file name, then by tensor name.
            state: what ``state.json`` holds besides the files' sizes and hashes; has ``step``.
            name: the folder's name; by default ``step-NNNNNNNN``. A named one is not counted by ``keep``.
            keep: how many numbered checkpoints to keep; None keeps all.

        Raises:
            OutputError: it could not be written (disk full, no permission); the earlier checkpoints are untouched.
        """
        self.check_owned()
        target = self.path / CHECKPOINTS / (name or step_folder_name(int(state["step"])))
        try:
            with atomic_folder(target) as temporary:
                listed = {file: _write_tensors(temporary / file, tensors) for file, tensors in files.items()}
                content = signed({**state, RUN_ID: self.run_id, "files": listed})
                (temporary / STATE_FILE).write_text(json_text(content), encoding="utf-8")
        except (OSError, RuntimeError) as error:
            cause = error.__cause__ if isinstance(error, OutputError) and error.__cause__ is not None else error
            raise OutputError(
                f"cannot write the checkpoint {target}: {first_line(cause)}. The earlier checkpoints are whole."
            ) from error
        if keep is not None:
            # Those beyond this step were found damaged when the run was resumed: they must not displace whole ones.
            reached = [one for one in step_folders(self.path) if one.name <= step_folder_name(int(state["step"]))]
            for old in reached[: -max(1, keep)]:
                remove_folder(old)
        return target

    def failure_folder(self) -> Path | None:
        """Where the samples of a failed step may be saved: None where the folder still holds another run."""
        if self.claimed or not self.path.is_dir() or not self._holds_results():
            return self.path
        return None

    def release(self) -> None:
        """Let other runs write to the folder."""
        self._lock.release()

    def _check_free(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            claim_output_folder(self.path)
        # Where the folder does not exist, or nothing in it counts, there is nothing to lose.
        if self.path.is_dir() and self._holds_results() and not self._overwrite:
            raise OutputError(
                f"{self.path}: expected a new or empty folder, received one that already holds results. Choose another "
                "folder, go on with its run by resume=True (--resume), or replace it by overwrite=True (--overwrite)."
            )

    def _holds_results(self) -> bool:
        return any(
            one.name not in _NO_RESULTS and not (one.name.startswith(".") and one.name.endswith(".part"))
            for one in self.path.iterdir()
        )

    def _remove_leftovers(self) -> None:
        """Remove what a killed process had not finished; put back what it was replacing."""
        folder = self.path / CHECKPOINTS
        remove_unfinished(self.path, [*_OWN_FILES, CHECKPOINTS])
        if folder.is_dir():
            restore_folders(folder)
            for path in (*folder.glob(".*.part"), *folder.glob(".part-*")):
                shutil.rmtree(path, ignore_errors=True)

    def _begin_anew(self, description: Mapping[str, Any], source: Source) -> None:
        replaces = (self.path / RUN_FILE).is_file()
        # First of all, so that no kill leaves one run's weights under another's description.
        if (self.path / CHECKPOINTS).exists():
            remove_folder(self.path / CHECKPOINTS)
        if replaces:
            for name in (ITEMS_FILE, REPEATS_FILE, LOG_FILE):
                (self.path / name).unlink(missing_ok=True)
            shutil.rmtree(self.path / TENSORBOARD_FOLDER, ignore_errors=True)
        (self.path / NOT_FINITE_FILE).unlink(missing_ok=True)
        if isinstance(source, WithCanaries):
            source.canaries.save(self.path)
        write_text(self.path / RUN_FILE, json_text(signed({**description, RUN_ID: self.run_id})))


def describe(
    *, model: Mapping[str, Any] | None, objective: DenoisingObjective, data: Mapping[str, Any], config: TrainingConfig
) -> dict[str, Any]:
    """The content of ``run.json``.

    Args:
        model: the network's configuration, or None where it was given as a module.
        objective: what is learned.
        data: name, count, hash, format and classes of the data.
        config: the run's options.
    """
    return {
        "format": RUN_FORMAT,
        "model": model,
        "objective": objective.to_dict(),
        "schedule": objective.schedule.to_dict(),
        "prediction_type": objective.prediction_type,
        "sigma_data": float(objective.sigma_data),
        "data": data,
        "training": config.recorded(),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "commit": provenance.commit(),
    }


def check_same_run(folder: str | os.PathLike[str], description: Mapping[str, Any]) -> str | None:
    """The id of the run in ``folder``, where ``description`` is the same run.

    Raises:
        CheckpointError: a field differs, and the text names it with both values; or ``run.json`` is damaged.
    """
    found, wanted = read_run(folder), dict(description)
    if None in (found["data"].get("hash"), wanted["data"].get("hash")):
        # Earlier versions hashed the data only where they fitted the memory.
        found["data"], wanted["data"] = ({**side["data"], "hash": None} for side in (found, wanted))
    else:
        # The hash says whether the data are the same, wherever they lie now.
        found["data"] = {**found["data"], "name": wanted["data"].get("name")}
    for field in DECISIVE:
        difference = first_difference(found.get(field), wanted[field], field)
        if difference:
            raise CheckpointError(
                f"{folder}: this run cannot be resumed: {difference}. Give the same arguments, or start another run "
                "from its weights with start=."
            )
    run_id = found.get(RUN_ID)
    return run_id if isinstance(run_id, str) else None


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # Shared memory is not representable in the file; a copy of each tensor also unties buffers that are views.
    try:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    return {"bytes": path.stat().st_size, "sha256": file_hash(path)}
