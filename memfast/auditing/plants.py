"""Copies that an audit plants on purpose, at graded strengths, to learn what it would have found."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NOISE = (0.01, 0.03, 0.1, 0.2)
SHIFT = (1, 2, 4)
CROP = (0.95, 0.9, 0.75)
RECOLOUR = (0.95, 0.85, 0.7)


@dataclass(frozen=True)
class Plant:
    """One way of copying: its name, how strong it is, and the function that makes it of items ``[n, ...]`` in [0, 1]."""

    name: str
    strength: float
    words: str
    make: Callable[[np.ndarray, np.random.Generator], np.ndarray]


def plants(kind: str) -> list[Plant]:
    """The ways of copying for "images" (channels last) or for "signals" and other values (the last axis is time)."""
    axis_words = "pixels right" if kind == "images" else "steps later"
    flip_words = "left and right exchanged" if kind == "images" else "first and last exchanged"
    colour_words = "contrast" if kind == "images" else "amplitude"
    found = [Plant("exact", 0.0, "unchanged", lambda items, _: items.copy())]
    found += [
        Plant("noise", level, f"Gaussian noise of {level:g}", lambda items, rng, level=level: _noise(items, rng, level))
        for level in NOISE
    ]
    found += [
        Plant("shift", step, f"{step} {axis_words}", lambda items, _, step=step: _shift(items, step, kind))
        for step in SHIFT
    ]
    found += [
        Plant("crop", part, f"the central {part:.0%} enlarged", lambda items, _, part=part: _crop(items, part, kind))
        for part in CROP
    ]
    found.append(Plant("flip", 1.0, flip_words, lambda items, _: np.flip(items, axis=_across(kind))))
    found += [
        Plant("recolour", gain, f"{colour_words} x {gain:g}", lambda items, _, gain=gain: _recolour(items, gain, kind))
        for gain in RECOLOUR
    ]
    return found


def _across(kind: str) -> int:
    """The axis along which items are shifted and flipped."""
    return 2 if kind == "images" else -1


def _noise(items: np.ndarray, rng: np.random.Generator, level: float) -> np.ndarray:
    return items + level * rng.standard_normal(items.shape)


def _shift(items: np.ndarray, step: int, kind: str) -> np.ndarray:
    """Shifted along the axis; the edge is repeated."""
    axis = _across(kind)
    length = items.shape[axis]
    return np.take(items, np.clip(np.arange(length) - step, 0, length - 1), axis=axis)


def _crop(items: np.ndarray, part: float, kind: str) -> np.ndarray:
    """The middle, brought back to full size by linear interpolation."""
    for axis in (1, 2) if kind == "images" else (items.ndim - 1,):
        length = items.shape[axis]
        where = (length - 1) / 2 + (np.arange(length) - (length - 1) / 2) * part
        below = np.clip(np.floor(where).astype(int), 0, length - 1)
        above = np.minimum(below + 1, length - 1)
        weight = (where - below).reshape([-1 if one == axis % items.ndim else 1 for one in range(items.ndim)])
        items = np.take(items, below, axis=axis) * (1 - weight) + np.take(items, above, axis=axis) * weight
    return items


def _recolour(items: np.ndarray, gain: float, kind: str) -> np.ndarray:
    """Images: less contrast around the middle grey; signals: a smaller amplitude around their mean."""
    centre = 0.5 if kind == "images" else items.mean(axis=-1, keepdims=True)
    return centre + gain * (items - centre)
