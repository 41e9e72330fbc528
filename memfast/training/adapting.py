"""An adaptive density within a run: it begins without a past, and is told what each step came to."""

from collections.abc import Sequence

import torch

from memfast.objective import Batch, DenoisingObjective
from memfast.runtime.distributed import Ranks


def fresh(objective: DenoisingObjective) -> DenoisingObjective:
    """The objective, or where its density has learned from another run one like it that has not.

    So a run follows from its seed, whatever its objective was used for before; a resumed one gets its state back.
    """
    learned = any(len(tensor) > 0 for tensor in objective.state_dict().values())
    return type(objective).from_dict(objective.to_dict()) if learned else objective


def observe_together(objective: DenoisingObjective, parts: Sequence[tuple[Batch, torch.Tensor]], world: Ranks) -> None:
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
