"""Copies that an audit plants on purpose, at graded strengths, to learn what it would have found."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NOISE = (0.01, 0.03, 0.1, 0.2)
SHIFT = (1, 2, 4)
CROP = (0.95, 0.9, 0.75)
RECOLOUR = (0.95, 0.85, 0.7)

Maker = Callable[[np.ndarray, float, str, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Plant:
    """One way of copying.

    Attributes:
        name: the way.
        strength: how strong the change is, in the way's own unit.
        words: both, as a person says them.
        maker: the function that copies items.
    """

    name: str
    strength: float
    words: str
    maker: Maker

    def make(self, items: np.ndarray, kind: str, generator: np.random.Generator) -> np.ndarray:
        """Copies of ``items`` ``[n, ...]``, whose values are in [0, 1] units."""
        return self.maker(items, self.strength, kind, generator)


def plants(kind: str) -> list[Plant]:
    """The ways of copying for "images" (channels last) or for "signals" and other values (the last axis is time)."""
    image = kind == "images"
    flipped = "left and right exchanged" if image else "first and last exchanged"
    gain = "contrast" if image else "amplitude"
    return [
        Plant("exact", 0.0, "unchanged", _exact),
        *(Plant("noise", level, f"Gaussian noise of {level:g}", _noise) for level in NOISE),
        *(Plant("shift", step, _shift_words(step, image), _shift) for step in SHIFT),
        *(Plant("crop", part, f"central {100 * part:.0f} % enlarged", _crop) for part in CROP),
        Plant("flip", 1.0, flipped, _flip),
        *(Plant("recolour", factor, f"{gain} x {factor:g}", _recolour) for factor in RECOLOUR),
    ]


def _shift_words(step: int, image: bool) -> str:
    unit, way = ("pixel", "right") if image else ("step", "later")
    return f"{step} {unit}{'s' if step > 1 else ''} {way}"


def _across(kind: str) -> int:
    """The axis along which items are shifted and flipped."""
    return 2 if kind == "images" else -1


def _exact(items: np.ndarray, strength: float, kind: str, generator: np.random.Generator) -> np.ndarray:
    return items.copy()


def _noise(items: np.ndarray, strength: float, kind: str, generator: np.random.Generator) -> np.ndarray:
    return items + strength * generator.standard_normal(items.shape)


def _shift(items: np.ndarray, strength: float, kind: str, generator: np.random.Generator) -> np.ndarray:
    """Shifted along the axis; the edge is repeated."""
    axis = _across(kind)
    length = items.shape[axis]
    return np.take(items, np.clip(np.arange(length) - int(strength), 0, length - 1), axis=axis)


def _flip(items: np.ndarray, strength: float, kind: str, generator: np.random.Generator) -> np.ndarray:
    return np.flip(items, axis=_across(kind))


def _crop(items: np.ndarray, strength: float, kind: str, generator: np.random.Generator) -> np.ndarray:
    """The middle, brought back to full size by linear interpolation."""
    for axis in (1, 2) if kind == "images" else (items.ndim - 1,):
        length = items.shape[axis]
        where = (length - 1) / 2 + (np.arange(length) - (length - 1) / 2) * strength
        below = np.clip(np.floor(where).astype(int), 0, length - 1)
        above = np.minimum(below + 1, length - 1)
        weight = (where - below).reshape([-1 if one == axis else 1 for one in range(items.ndim)])
        items = np.take(items, below, axis=axis) * (1 - weight) + np.take(items, above, axis=axis) * weight
    return items


def _recolour(items: np.ndarray, strength: float, kind: str, generator: np.random.Generator) -> np.ndarray:
    """Images: less contrast around the middle grey; signals: a smaller amplitude around their mean."""
    centre = 0.5 if kind == "images" else items.mean(axis=-1, keepdims=True)
    return centre + strength * (items - centre)
