"""One network on several processes: a copy in each (DDP), or a part of it in each (FSDP2)."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from memfast.foundation.errors import InputError
from memfast.runtime.distributed import Ranks


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


def replicate_model(
    module: nn.Module, ranks: Ranks, device: torch.device, *, find_unused_parameters: bool = False
) -> nn.Module:
    """``module``, a copy of rank 0's on each rank, wrapped so that its gradients are averaged over all of them.

    Its buffers are copied once and then are each rank's own.
    """
    if ranks.size == 1:
        return module
    wrapper = nn.parallel.DistributedDataParallel
    ranks.broadcast_tensors(module.buffers())
    # PyTorch 2.13 gave the option another name, and warns of the old one.
    known = inspect.signature(wrapper).parameters
    options: dict[str, Any] = {
        "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
    }
    devices = [device.index] if device.type == "cuda" and device.index is not None else None
    return wrapper(module, device_ids=devices, find_unused_parameters=find_unused_parameters, **options)


def shard_model(model: nn.Module, ranks: Ranks, device: torch.device, *, compile_blocks: bool = False) -> nn.Module:
    """Give every rank its shard of each parameter, in place; rank 0's weights count.

    The blocks of the network (the members of its outermost ``nn.ModuleList``s) are gathered one after the other while
    they are needed, the rest together. A network that its owner has sharded is left as it is.

    Args:
        model: the network, whole, on any device.
        ranks: the processes.
        device: where the shards go.
        compile_blocks: compile each block by itself; the gathering stays outside.

    Raises:
        InputError: PyTorch's process group cannot serve the device.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if is_sharded(model):
        return model
    try:
        mesh = init_device_mesh(device.type, (ranks.size,))
    except (RuntimeError, ValueError) as error:
        expected = f"a process group that can serve {device.type}"
        raise InputError("shard", expected=expected, received=str(error).splitlines()[0]) from error
    ranks.broadcast_tensors((*model.parameters(), *model.buffers()), device)
    for block in _blocks(model):
        if compile_blocks:
            block.compile(dynamic=False)
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model.to(device)


@contextmanager
def no_gradient_sync(module: nn.Module, model: nn.Module) -> Iterator[None]:
    """For all but the last part of an accumulated batch: keep the gradients, and average them later.

    Args:
        module: what ``replicate_model`` gave.
        model: the network in it.
    """
    if isinstance(module, nn.parallel.DistributedDataParallel):
        with module.no_sync():
            yield
        return
    _set_gradient_sync(model, False)
    try:
        yield
    finally:
        _set_gradient_sync(model, True)


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with the shards of all ranks, which must all ask; one that is not sharded is returned as it is."""
    with torch.no_grad():
        return tensor.full_tensor() if _is_sharded_tensor(tensor) else tensor  # type: ignore[attr-defined]


def to_local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's shard, in the same memory; of a tensor that is not sharded, all of it."""
    with torch.no_grad():
        return tensor.to_local() if _is_sharded_tensor(tensor) else tensor  # type: ignore[attr-defined]


def shard_like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A full tensor, equal on all ranks, sharded as ``parameter`` is."""
    if not _is_sharded_tensor(parameter):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]


def from_local(own: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """What each rank has for its shard of ``parameter``, as one tensor that is sharded likewise."""
    if not _is_sharded_tensor(parameter):
        return own
    from torch.distributed.tensor import DTensor

    given: Any = parameter
    return DTensor.from_local(
        own, given.device_mesh, given.placements, run_check=False, shape=given.shape, stride=given.stride()
    )


def full_tensors(tensors: Mapping[str, torch.Tensor], keep: bool) -> dict[str, torch.Tensor]:
    """Full tensors where ``keep`` is set, nothing elsewhere; all ranks must ask, in the same order.

    Tensors that were sharded come to the CPU one by one: no device needs room for all of them.
    """
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        full = full_tensor(tensor)
        if keep:
            found[name] = full.cpu() if _is_sharded_tensor(tensor) else full
    return found


def reshard(model: nn.Module) -> None:
    """Drop what was gathered of the parameters: after they were changed it would be stale."""
    for module in _sharded_modules(model):
        module.reshard()


def is_sharded(model: nn.Module) -> bool:
    """Whether the network's parameters are sharded over processes."""
    # By what it can do: importing FSDP takes a second that a run on one process should not spend.
    return hasattr(model, "set_requires_gradient_sync")


def _set_gradient_sync(model: nn.Module, wanted: bool) -> None:
    for module in _sharded_modules(model):
        module.set_requires_gradient_sync(wanted, recurse=False)


def _sharded_modules(model: nn.Module) -> Iterator[Any]:
    return (module for module in model.modules() if is_sharded(module)) if is_sharded(model) else iter(())


def _is_sharded_tensor(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def _blocks(module: nn.Module, inside: bool = False) -> Iterator[nn.Module]:
    for child in module.children():
        is_list = isinstance(child, nn.ModuleList)
        if inside and not is_list:
            if any(True for _ in child.parameters()):
                yield child
        else:
            yield from _blocks(child, is_list)
