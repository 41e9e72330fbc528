"""What may run between steps."""

from typing import TYPE_CHECKING, Any

from memfast.objective import DenoisingObjective

if TYPE_CHECKING:
    from memfast.training.trainer import Trainer


class Hook:
    """Called by the Trainer between steps; the base does nothing.

    A hook that keeps anything from step to step gives it in ``state`` and takes it back in ``load``, so that a resumed
    run is the uninterrupted one. Setting ``trainer.stopped`` to a reason ends the run after the step.
    """

    name = "hook"

    def describe(self) -> dict[str, Any]:
        """Its settings as plain values, for ``run.json``."""
        return {"name": self.name}

    def prepare(self, objective: DenoisingObjective) -> DenoisingObjective:
        """The objective to train with, in place of ``objective``; before anything else."""
        return objective

    def check(self, trainer: "Trainer") -> None:
        """Raise where the run is none that it can serve: while the Trainer is made, before its folder is touched."""

    def begin(self, trainer: "Trainer") -> None:
        """Before the first step of this process."""

    def after_step(self, trainer: "Trainer") -> None:
        """After every step; ``trainer.step`` counts the steps taken."""

    def end(self, trainer: "Trainer") -> None:
        """After the last checkpoint."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold, as plain values."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
