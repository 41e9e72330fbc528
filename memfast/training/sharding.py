"""Weights, gradients and optimizer state spread over the processes (PyTorch's FSDP2), for large networks."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from memfast.foundation.errors import InputError


def spread(model: nn.Module, processes: int, device: torch.device, *, compile_blocks: bool = False) -> nn.Module:
    """Give every process its part of each parameter, in place; process 0's weights count.

    The blocks of the network (the members of its outermost ``nn.ModuleList``s) are gathered one after the other while
    they are needed, the rest together. A network that was spread by its owner is left as it is.

    Args:
        model: the network, whole, on any device.
        processes: how many there are.
        device: where the parts go.
        compile_blocks: compile each block by itself; the gathering stays outside.

    Raises:
        InputError: PyTorch's process group cannot serve the device.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if is_spread(model):
        return model
    try:
        mesh = init_device_mesh(device.type, (processes,))
    except (RuntimeError, ValueError) as error:
        expected = f"a process group that can serve {device.type}"
        raise InputError("shard", expected=expected, received=str(error).splitlines()[0]) from error
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            first = tensor.to(device)
            dist.broadcast(first, 0)
            tensor.copy_(first)
    for block in _blocks(model):
        if compile_blocks:
            block.compile(dynamic=False)
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model.to(device)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with the parts of all processes, which must all ask; one that is not spread is given back."""
    with torch.no_grad():
        return tensor.full_tensor() if _parted(tensor) else tensor  # type: ignore[attr-defined]


def part(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part, in the same memory; of a tensor that is not spread, all of it."""
    with torch.no_grad():
        return tensor.to_local() if _parted(tensor) else tensor  # type: ignore[attr-defined]


def spread_like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A whole tensor, equal in all processes, spread as ``parameter`` is."""
    if not _parted(parameter):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]


def beside(own: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """What each process has for its part of ``parameter``, as one tensor that is spread likewise."""
    if not _parted(parameter):
        return own
    from torch.distributed.tensor import DTensor

    given: Any = parameter
    return DTensor.from_local(
        own, given.device_mesh, given.placements, run_check=False, shape=given.shape, stride=given.stride()
    )


def collected(tensors: Mapping[str, torch.Tensor], keep: bool) -> dict[str, torch.Tensor]:
    """Whole tensors where ``keep`` is set, nothing elsewhere; all processes must ask, in the same order.

    Tensors that were spread come to the CPU one by one: no device needs room for all of them.
    """
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if keep:
            found[name] = full.cpu() if _parted(tensor) else full
    return found


def forget_gathered(model: nn.Module) -> None:
    """Drop what was gathered of the parameters: after they were changed it would be stale."""
    for module in _spread_modules(model):
        module.reshard()


def average_after_this(model: nn.Module, wanted: bool) -> None:
    """Whether the next backward pass averages the gradients over the processes, or keeps them for a later one."""
    for module in _spread_modules(model):
        module.set_requires_gradient_sync(wanted, recurse=False)


def is_spread(model: nn.Module) -> bool:
    """Whether the network's parameters are spread over processes."""
    # By what it can do: importing FSDP takes a second that a run on one process should not spend.
    return hasattr(model, "set_requires_gradient_sync")


def _spread_modules(model: nn.Module) -> Iterator[Any]:
    return (module for module in model.modules() if is_spread(module)) if is_spread(model) else iter(())


def _parted(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def _blocks(module: nn.Module, inside: bool = False) -> Iterator[nn.Module]:
    for child in module.children():
        is_list = isinstance(child, nn.ModuleList)
        if inside and not is_list:
            if any(True for _ in child.parameters()):
                yield child
        else:
            yield from _blocks(child, is_list)
