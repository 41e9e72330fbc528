"""Telling an adaptive density what a step came to."""

from collections.abc import Sequence

import torch

from memfast.objective import Batch, DenoisingObjective
from memfast.training.processes import World


def observe_together(objective: DenoisingObjective, parts: Sequence[tuple[Batch, torch.Tensor]], world: World) -> None:
    """Tell the density a step's losses: all parts of the batch at once, so that none is drawn from another density.

    A loss that is not finite ends the run when the losses are next read; until then the density stays as it is.

    Args:
        objective: learns on a ``LossSecondMoment``.
        parts: this process's (batch, losses ``[B]``) of the step, one of each accumulated part.
        world: the processes; every one calls.
    """
    losses = torch.cat([part for _, part in parts])
    if world.any(not bool(torch.isfinite(losses).all())):
        return
    batches = [batch for batch, _ in parts]
    together = batches[0]._replace(
        timesteps=torch.cat([batch.timesteps for batch in batches]),
        sample_ids=torch.cat([batch.sample_ids for batch in batches]),
    )
    objective.observe(together, losses)
