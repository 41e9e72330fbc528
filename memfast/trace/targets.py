"""Targets as they are given, one per condition; the guidance as trace.json names it, and what its sweep keeps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from memfast.foundation.errors import InputError
from memfast.trace.assembling import Assembly, Conditions
from memfast.trace.conditions import early_loss

TARGETS = ("train", "final")


def check_targets(targets: Any, names: Sequence[str], target: str) -> list[Any]:
    """One item or None per condition.

    Raises:
        InputError: no target for a condition, where one is needed.
    """
    if target not in TARGETS:
        raise InputError("target", expected="'train' or 'final'", received=repr(target))
    found = [None] * len(names) if targets is None and target == "final" else targets
    count = 0 if found is None else len(found)
    if count < len(names):
        raise InputError(
            f"target of {names[count]!r}", expected="a training item", received="none",
            do="Give it, or None in its place to leave its fields empty, or target='final'.",
        )  # fmt: skip
    if count > len(names):
        raise InputError("targets", expected=f"{len(names)} items, one per condition", received=str(count))
    return list(found)


def stacked_targets(items: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor | None, np.ndarray]:
    """``[P, ...]`` with zeros where there is no item, and which are real."""
    has = np.array([item is not None for item in items])
    like = next((item for item in items if item is not None), None)
    if like is None:
        return None, has
    return torch.stack([torch.zeros_like(like) if item is None else item for item in items]), has


def centre_of(conditions: Conditions) -> torch.Tensor | None:
    """The mean of the targets, where there are at least two."""
    if conditions.targets is None or conditions.has_target.sum() < 2:
        return None
    return conditions.targets[torch.from_numpy(conditions.has_target)].mean(0)


def described(guidance: Any) -> Any:
    """A guidance in trace.json: its scale, or a rule's name and options."""
    if isinstance(guidance, int | float):
        return guidance
    return guidance.to_dict() if hasattr(guidance, "to_dict") else {"name": type(guidance).__name__}


def sweep_entry(scale: float, assembly: Assembly) -> dict[str, Any]:
    """The conditions at one guidance scale, in short."""
    entries = [
        {
            "name": entry["name"], "memorized": entry["memorized"], "d1": entry["d1"], "d2": entry["d2"],
            "overestimation": entry["overestimation"], "similarity": entry["similarity"]["mean"],
            "early_loss": early_loss(entry),
        }
        for entry in assembly.entries
    ]  # fmt: skip
    return {"guidance": scale, "conditions": entries}
