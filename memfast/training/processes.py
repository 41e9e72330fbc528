"""Several processes, one run: rank and world size from torchrun, gradients averaged, one writer."""

import atexit
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from memfast.foundation.errors import InputError, MemfastError, OutputError
from memfast.training.sharding import average_after_this


@dataclass(frozen=True)
class World:
    """This process's place.

    Attributes:
        rank: its number; 0 writes files and shows progress.
        size: the number of processes.
        local_rank: its number on this machine, which is its GPU's.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def writes(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def check_batch(self, batch_size: int, accumulate: int) -> None:
        """Raise unless the batch divides into equal parts.

        Raises:
            InputError: it does not.
        """
        parts = self.size * accumulate
        if accumulate < 1 or batch_size % parts:
            raise InputError(
                "batch_size",
                expected=f"a multiple of {parts} (world size {self.size} x accumulate {accumulate})",
                received=str(batch_size),
                do="The batch is the global one, over all processes: change it, the world size or accumulate.",
            )

    @contextmanager
    def together(self, what: str) -> Iterator[None]:
        """Where one process fails all do: the others would wait for it for ever.

        Args:
            what: what the error of those others is about.

        Raises:
            OutputError: another process failed, and says why.
        """
        error: Exception | None = None
        try:
            yield
        except MemfastError as found:
            error = found
        if self.any(error is not None):
            raise error or OutputError(f"{what}: process 0 cannot use it, and says why.")

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        return bool(self.sum(torch.tensor([float(flag)], device=device)).item())


def join_world() -> World:
    """This process's place; under torchrun the process group is started if nobody has, and left when Python ends."""
    if not dist.is_available():
        return World()
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or "RANK" not in os.environ:
            return World()
        local = int(os.environ.get("LOCAL_RANK", "0"))
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(local)
        dist.init_process_group("nccl" if cuda else "gloo")
        atexit.register(_leave_world)
    return World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


def _leave_world() -> None:
    # The backend's threads must not meet the interpreter's end: a run that succeeded could end with an error.
    if dist.is_initialized():
        with suppress(Exception):
            dist.destroy_process_group()


def copy_to_all(module: nn.Module, world: World, device: torch.device) -> nn.Module:
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
