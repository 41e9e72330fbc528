"""A loss or gradient that is not finite: found, traced to its samples, saved, and raised."""

import math
from pathlib import Path

import torch

from memfast.foundation.errors import MemfastError
from memfast.runtime.distributed import Ranks
from memfast.runtime.files import write_json
from memfast.training.items import Items
from memfast.training.step import Forward

NOT_FINITE_FILE = "not-finite.json"
_NAMED = 8


class NotFiniteError(MemfastError, ArithmeticError):
    """The loss or its gradient became NaN or infinite; the text names the step, sample ids and timesteps."""


@torch.no_grad()
def not_finite(
    folder: Path, step: int, loss: float, forward: Forward, items: Items, key: torch.Tensor, world: Ranks
) -> NotFiniteError:
    """Find the samples behind a loss that is not finite and save them beside the run; every process calls.

    Nothing of the step needs to have been kept: its samples, timesteps and noise follow from its key. The process
    whose part of the batch holds them writes; if they are in no part, process 0.
    """
    batch, prediction = forward.predict(items, key)
    losses = forward.objective.loss(prediction, batch, reduction="none").float().cpu()
    bad = torch.nonzero(~torch.isfinite(losses)).flatten()
    elsewhere = world.any(len(bad) > 0) and len(bad) == 0
    # Several steps may lie between the fault and its discovery on a GPU; then the weights, not a sample, are to blame.
    chosen = bad if len(bad) > 0 else torch.arange(len(losses))
    timesteps = batch.timesteps.cpu()
    record = {
        "step": step,
        "loss": str(loss),
        "seed": int(key[0]),
        "sample_ids": items.sample_ids.cpu()[chosen].tolist(),
        "data_indices": items.indices.cpu()[chosen].tolist(),
        "timesteps": timesteps[chosen].tolist(),
        "losses": [str(float(value)) for value in losses[chosen]],
        "all_samples_of_the_step": len(bad) == 0,
    }
    if elsewhere:
        return NotFiniteError(f"step {step}: the loss is {loss}; another process names its samples.")
    if world.is_main or len(bad) > 0:
        write_json(folder / NOT_FINITE_FILE, record)
    what = f"the loss is {loss}" + (", its gradient is not finite" if math.isfinite(loss) else "")
    first = [
        f"sample id {sample} (item {index}, timestep {timestep})"
        for sample, index, timestep in zip(
            record["sample_ids"], record["data_indices"], record["timesteps"], strict=True
        )
    ][:_NAMED]
    more = f" and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else ""
    return NotFiniteError(
        f"step {step}: {what}. Samples: {', '.join(first)}{more}; saved in {folder / NOT_FINITE_FILE}. "
        "The last checkpoint is from before. Try a lower lr, grad_clip=1.0, or look at these items."
    )
