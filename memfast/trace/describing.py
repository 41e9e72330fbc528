"""Guidance and samplers as trace.json names them."""

from collections.abc import Mapping
from typing import Any

from memfast.sampling import Guidance, Sampler


def described_guidance(guidance: float | Guidance) -> int | float | Mapping[str, Any]:
    """A scale, or a rule's name and options."""
    if isinstance(guidance, int | float):
        return guidance
    to_dict = getattr(guidance, "to_dict", None)
    found: Mapping[str, Any] = {"name": type(guidance).__name__} if to_dict is None else to_dict()
    return found


def described_sampler(sampler: Sampler) -> str | Mapping[str, Any]:
    """A sampler's name, and its options where they are not the default ones."""
    return sampler.name if sampler == type(sampler)() else sampler.to_dict()
