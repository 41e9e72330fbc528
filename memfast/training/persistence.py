"""What of a Trainer goes into a checkpoint, and back; and whose folder it is."""

from typing import TYPE_CHECKING, Any

from memfast.data.canaries import ITEMS_FILE, REPEATS_FILE, WithCanaries
from memfast.foundation.errors import CheckpointError, MemfastError
from memfast.models import newest_checkpoint
from memfast.models.checkpoints import MODEL_FILE, OBJECTIVE_FILE, OPTIMIZER_FILE, RUN_FILE, Checkpoint, ema_file
from memfast.models.weights import load_state
from memfast.runtime.files import claim_output_folder, write_json
from memfast.training.describing import check_same_run
from memfast.training.failures import NOT_FINITE_FILE
from memfast.training.saving import remove_checkpoints, remove_leftovers, save_checkpoint
from memfast.training.sharding import collected, forget_gathered

if TYPE_CHECKING:
    from memfast.training.trainer import Trainer

CANARY_FILES = (ITEMS_FILE, REPEATS_FILE)


def find(trainer: "Trainer", *, resume: bool, overwrite: bool) -> tuple[bool, Checkpoint | None]:
    """Whether the folder's run is to be continued, and from where; nothing in it is changed.

    Raises:
        OutputError: the folder holds results and neither ``resume`` nor ``overwrite`` is on.
        CheckpointError: it holds another run, or no whole checkpoint.
    """
    folder = trainer.out
    with trainer.world.fail_together(str(folder)):
        if resume and (folder / RUN_FILE).is_file():
            check_same_run(folder, trainer.settings)
            return True, newest_checkpoint(folder)
        if trainer.world.is_main and folder.exists():
            claim_output_folder(folder, overwrite=overwrite)
    return False, None


def claim(trainer: "Trainer", *, continued: bool) -> None:
    """Make the folder this run's: the last step of its making, so that one that fails costs the old run nothing.

    Raises:
        OutputError: it cannot be written to.
    """
    folder = trainer.out
    # Every process has looked by now: those of ``find`` ended together.
    with trainer.world.fail_together(str(folder)):
        if not trainer.world.is_main:
            return
        claim_output_folder(folder, overwrite=True)
        remove_leftovers(folder)
        if continued:
            return
        if (folder / RUN_FILE).is_file():
            for name in (*CANARY_FILES, NOT_FINITE_FILE):
                (folder / name).unlink(missing_ok=True)
        remove_checkpoints(folder)
        write_json(folder / RUN_FILE, trainer.settings)
        if isinstance(trainer.source, WithCanaries):
            trainer.source.canaries.save(folder)


def save(trainer: "Trainer", name: str | None) -> None:
    """Write a checkpoint of this moment; every process calls, process 0 writes.

    The tensors are whole whether the network is spread over processes or not, so that either can go on from it.
    """
    optimizer, others = trainer.update.state()
    names = [profile.name for profile in trainer.averages.profiles]
    forget_gathered(trainer.model)
    files = {MODEL_FILE: trainer.model.state_dict(), OPTIMIZER_FILE: optimizer}
    files |= {ema_file(ema): trainer.averages.state(ema) for ema in names}
    files = {file: collected(tensors, keep=trainer.world.is_main) for file, tensors in files.items()}
    if not trainer.world.is_main:
        return
    if trainer.adaptive:
        files[OBJECTIVE_FILE] = trainer.objective.state_dict()
    state: dict[str, Any] = {
        "step": trainer.step,
        "epoch": trainer.epoch,
        "ema": names,
        "optimizer": others,
        "losses_since_log": trainer.ledger.since_log,
        "seconds": trainer.seconds,
        "hooks": {hook.name: hook.state() for hook in trainer.hooks},
        "skip": None if trainer.skip is None else trainer.skip.state(),
        "versions": trainer.settings["versions"],
    }
    save_checkpoint(trainer.out, files, state, name=name, keep=trainer.keep)


def restore_model(trainer: "Trainer", found: Checkpoint) -> None:
    """Put a checkpoint's weights back, into the whole network.

    Raises:
        CheckpointError: it is beyond the last step, or its tensors are another model's.
    """
    if found.step > trainer.steps:
        raise CheckpointError(f"{found.folder}: it is at step {found.step}, beyond steps={trainer.steps}.")
    load_state(trainer.model, found.tensors(MODEL_FILE), str(found.folder))


def restore(trainer: "Trainer", found: Checkpoint) -> None:
    """Put everything else of a checkpoint back.

    Raises:
        CheckpointError: something is not in it, or of another run.
    """
    try:
        _restore(trainer, found)
    except MemfastError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{found.folder}: damaged, or of another run ({error!r}).") from error


def _restore(trainer: "Trainer", found: Checkpoint) -> None:
    trainer.update.load(found.tensors(OPTIMIZER_FILE), found.state["optimizer"])
    for profile in trainer.averages.profiles:
        trainer.averages.load(profile.name, found.tensors(ema_file(profile.name)))
    trainer.step, trainer.seconds = found.step, float(found.state["seconds"])
    trainer.ledger.since_log = list(found.state["losses_since_log"])
    for hook in trainer.hooks:
        hook.load(found.state["hooks"][hook.name])
    if trainer.skip is not None:
        trainer.skip.load(found.state["skip"])
    if trainer.adaptive:
        trainer.objective.load_state_dict(found.tensors(OBJECTIVE_FILE))
