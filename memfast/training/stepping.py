"""One training step of a Trainer: gradients of every part of the batch, then new weights, averages and records."""

import time
from typing import TYPE_CHECKING

import torch

from memfast.objective import Batch
from memfast.training.adapting import observe_together
from memfast.training.items import Items
from memfast.training.preparing import seed_generator
from memfast.training.processes import without_averaging

if TYPE_CHECKING:
    from memfast.training.trainer import Trainer

# 2**64 divided by the golden ratio: keeps the seeds of neighbouring runs apart.
GOLDEN = 0x9E3779B97F4A7C15

Observed = list[tuple[Batch, torch.Tensor]]


def take_step(trainer: "Trainer") -> None:
    """Take one training step, and nothing of what ``run`` does between steps."""
    started = time.monotonic()
    step, world = trainer.step, trainer.world
    trainer.key[1] = step
    trainer.objective.set_step(step)
    # Dropout inside the network draws from torch's own generator; this makes it a function of seed and step too.
    seed_generator(trainer.device, (trainer.seed * GOLDEN + step * world.size + world.rank) & (2**63 - 1))
    parts = trainer.feed.items(step).chunks(trainer.accumulate)
    observed: Observed = []
    total = torch.zeros((), device=trainer.device)
    for part in parts[:-1]:
        with without_averaging(trainer.run_forward, trainer.model):
            total = total + _backward(trainer, part, observed)
    total = total + _backward(trainer, parts[-1], observed)
    norm = trainer.update(trainer.rate(step))
    if trainer.skip is not None:
        trainer.skip.finish_step(world)
    if trainer.adaptive:
        observe_together(trainer.objective, observed, world)
    trainer.step += 1
    trainer.averages.update(trainer.step)
    trainer.ledger.add(trainer.step, total, norm)
    trainer.seconds += time.monotonic() - started


def _backward(trainer: "Trainer", items: Items, observed: Observed) -> torch.Tensor:
    """Add a part's gradients to those before; returns its share of the batch's loss."""
    if trainer.skip is None and not trainer.adaptive:
        loss = trainer.run_forward(items, trainer.key)
    else:
        losses, batch = trainer.run_forward(items, trainer.key, "none")
        loss = losses.mean() if trainer.skip is None else trainer.skip.gate(losses, batch.timesteps)
        if trainer.adaptive:
            observed.append((batch, losses.detach()))
    loss = loss / trainer.accumulate if trainer.accumulate > 1 else loss
    loss.backward()
    return loss.detach()
