"""Data-parallel training: a copy of the network in each process, gradients averaged over all of them."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from memfast.foundation.errors import InputError
from memfast.runtime.distributed import Ranks
from memfast.training.sharding import average_after_this


def check_batch(ranks: Ranks, batch_size: int, accumulate: int) -> None:
    """Raise unless the batch divides into equal parts.

    Raises:
        InputError: it does not.
    """
    parts = ranks.size * accumulate
    if accumulate < 1 or batch_size % parts:
        raise InputError(
            "batch_size",
            expected=f"a multiple of {parts} (world size {ranks.size} x accumulate {accumulate})",
            received=str(batch_size),
            do="The batch is the global one, over all processes: change it, the world size or accumulate.",
        )


def copy_to_all(module: nn.Module, world: Ranks, device: torch.device) -> nn.Module:
    """``module``, a copy of process 0's in each process, wrapped so that its gradients are averaged over all of them.

    Its buffers are copied once and then are each process's own.
    """
    if world.size == 1:
        return module
    wrapper = nn.parallel.DistributedDataParallel
    with torch.no_grad():
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)
    # PyTorch 2.13 gave the option another name, and warns of the old one.
    known = inspect.signature(wrapper).parameters
    options: dict[str, Any] = {
        "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
    }
    devices = [device.index] if device.type == "cuda" and device.index is not None else None
    return wrapper(module, device_ids=devices, **options)


@contextmanager
def without_averaging(module: nn.Module, model: nn.Module) -> Iterator[None]:
    """For all but the last part of an accumulated batch.

    Args:
        module: what ``copy_to_all`` gave.
        model: the network in it.
    """
    if isinstance(module, nn.parallel.DistributedDataParallel):
        with module.no_sync():
            yield
        return
    average_after_this(model, False)
    try:
        yield
    finally:
        average_after_this(model, True)
