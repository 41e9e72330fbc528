"""What may run between steps."""

from typing import Any

from memfast.objective import DenoisingObjective
from memfast.training.state import RunState


class Hook:
    """Called by the loop between steps; the base does nothing.

    A hook that keeps anything from step to step returns it from ``state`` and takes it back in ``load``, so that a
    resumed run is the uninterrupted one. ``run.stop(reason)`` ends the run after the step.
    """

    name = "hook"

    def describe(self) -> dict[str, Any]:
        """Its settings as plain values, for ``run.json``."""
        return {"name": self.name}

    def prepare(self, objective: DenoisingObjective) -> DenoisingObjective:
        """The objective to train with, in place of ``objective``. Called before anything else, maybe several times."""
        return objective

    def check(self, run: RunState) -> None:
        """Raise where it cannot serve this run. Called when the run is opened, before its folder is changed."""

    def begin(self, run: RunState) -> None:
        """Before the first step of this process; the folder of a new run does not exist yet."""

    def after_step(self, run: RunState) -> None:
        """After every step; ``run.step`` counts the steps taken."""

    def on_log(self, entry: dict[str, Any]) -> None:
        """For every entry of the log, on the process that writes it (rank 0). ``entry["step"]`` is the step."""

    def end(self, run: RunState) -> None:
        """After the last checkpoint."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold, as plain values."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` returned."""
