"""How an op enters PyTorch: a schema in the library ``memfast``, known to torch.compile, autograd and fake tensors."""

from collections.abc import Callable
from typing import Any

import torch

LIBRARY = torch.library.Library("memfast", "DEF")


def define(schema: str, compute: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """Register an op and return its callable.

    Args:
        schema: ``name(arguments) -> results``.
        compute: the implementation on every device; it must return new tensors.
        fake: the same signature; returns empty tensors of the right shape, dtype and strides.
    """
    name = schema.split("(", 1)[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"memfast::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.memfast, name).default


def shaped_like(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Contiguous ``[B, D]`` values in the shape and memory format of ``like``."""
    if like.is_contiguous():
        return values if like.ndim == 2 else values.view(like.shape)
    result = torch.empty_like(like, dtype=values.dtype)
    result.copy_(values.view(like.shape))
    return result
