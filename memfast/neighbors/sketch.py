"""Short rows that stand for long ones: a certified lower bound of every distance for a few per cent of its cost.

An item becomes m + 1 bytes: m coordinates along orthonormal directions (leading principal components of a sample, mixed
by a random rotation so that all have one spread), and the length of what lies outside them. This map shortens every
distance or leaves it, and what its rounding to bytes can add is kept with each item as its slack. So::

    |x - y|  >=  step * |bytes(x) - bytes(y)|  -  slack(x)  -  slack(y)

holds for any two items, whatever the directions are (docs/neighbors.md has the proof): a poor fit costs time, never a
result.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

ROUNDING = 2.0**-53
# A sketch of m components and one length fills whole lines of the cache.
_LINE = 64
_MOST_LINES = 3
# Items of fewer numbers are compared as they are: a sketch would be hardly shorter.
LEAST_NUMBERS = 512
SAMPLE_ITEMS = 2048
_SEED = 20260101
_SPARE_DIRECTIONS = 10
_POWER_ITERATIONS = 2
_COVERED = 0.9995
_UNLIMITED = 2**62


def components_for(numbers: int) -> int:
    """How many components suit items of so many numbers: about a twelfth, at most 191; none for short items.

    More of them leave fewer items to measure and cost more themselves: on CIFAR-10 (3,072 numbers, k = 50) 63, 127, 191
    and 255 components leave 6.8, 3.6, 2.6 and 2.0 % of the items, on Fashion-MNIST (784) 4.1, 2.4, 1.8 and 1.4 %.
    """
    return 0 if numbers < LEAST_NUMBERS else _LINE * min(_MOST_LINES, max(1, numbers // 12 // _LINE)) - 1


@dataclass(frozen=True)
class Sketch:
    """The bytes of some items.

    Attributes:
        bytes: uint8 ``[n, m + 1]``.
        slack: float32 ``[n]``: how much the bytes may overstate a distance of this item, in units of the data.
    """

    bytes: np.ndarray
    slack: np.ndarray


@dataclass(frozen=True)
class Transform:
    """The map from items to their sketches.

    Attributes:
        mean: float64 ``[D]``, subtracted first.
        components: float64 ``[m, D]``, rows orthonormal up to ``strain``.
        strain: a bound of the spectral norm of ``components @ components.T - I``.
        residual: subtracted from the length of what lies outside the components.
        step: the distance of two neighbouring byte values.
    """

    mean: np.ndarray
    components: np.ndarray
    strain: float
    residual: float
    step: float

    @classmethod
    def fit(cls, sample: np.ndarray, components: int) -> "Transform":
        """A transform that keeps most of the spread of a sample ``[n, D]``; the same for the same sample."""
        sample = sample.astype(np.float64)
        mean = sample.mean(axis=0)
        directions = _leading(sample - mean, min(components, sample.shape[1]))
        # Rows are orthonormal up to rounding; the sum of a computed entry is off by at most D + 4 roundings.
        count, numbers = directions.shape
        strain = float(np.linalg.norm(directions @ directions.T - np.eye(count)))
        strain = 1.01 * strain + 3 * count * (numbers + 4) * ROUNDING
        rough = cls(mean, directions, strain, 0.0, 1.0)
        coordinates = rough._coordinates(sample)[0]
        residual = float(coordinates[:, -1].mean())
        coordinates[:, -1] -= residual
        reach = float(np.quantile(np.abs(coordinates), _COVERED))
        step = reach / 127 if np.isfinite(reach) and reach > 1e-280 else 1.0
        return cls(mean, directions, strain, residual if np.isfinite(residual) else 0.0, step)

    def sketch(self, rows: np.ndarray) -> Sketch:
        """The sketches of rows ``[n, D]`` of any numbers."""
        with np.errstate(all="ignore"):
            coordinates, error = self._coordinates(rows.astype(np.float64))
            coordinates[:, -1] -= self.residual
            grid = np.clip(np.rint(coordinates / self.step), -128, 127)
            rest = coordinates - grid * self.step
            width = coordinates.shape[1]
            spread = np.sqrt(np.einsum("nd,nd->n", coordinates, coordinates)) + 128 * self.step * np.sqrt(width)
            slack = np.sqrt(np.einsum("nd,nd->n", rest, rest)) * (1 + 8 * width * ROUNDING)
            slack += error + 8 * ROUNDING * (spread + abs(self.residual))
            # An overflow makes an item that no bound excludes.
            broken = ~np.isfinite(slack)
            grid[~np.isfinite(grid)] = 0
            raised = np.nextafter((slack * (1 + 1e-6)).astype(np.float32), np.float32(np.inf))
        raised[broken] = np.inf
        return Sketch((grid + 128).astype(np.uint8), raised)

    def limits(self, squared_distances: np.ndarray, slack: np.ndarray) -> np.ndarray:
        """int64 ``[n]``: the greatest squared distance of bytes that pairs up to these distances can have.

        Args:
            squared_distances: ``[n]``, as the search computes them.
            slack: ``[n]``: the slack of both items together.
        """
        with np.errstate(all="ignore"):
            # A computed float64 distance is at most D + 16 roundings below the true one.
            reach = np.sqrt(squared_distances.astype(np.float64)) * (1 + (len(self.mean) + 64) * 2 * ROUNDING)
            bytes_apart = (reach + slack) / self.step
            limit = np.floor(bytes_apart * bytes_apart * (1 + 1e-9)) + 1
        return np.where(limit < _UNLIMITED, limit, _UNLIMITED).astype(np.int64)

    def _coordinates(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates ``[n, m + 1]`` in float64, and how far each row's may be from the exact ones."""
        count, numbers = self.components.shape
        centred = rows - self.mean
        inside = centred @ self.components.T
        squares = np.einsum("nd,nd->n", centred, centred)
        outside = np.sqrt(np.maximum(squares - np.einsum("nd,nd->n", inside, inside), 0))
        length = np.sqrt(squares) * 1.01
        root = np.sqrt(count)
        doubt = (4 * (root + 1) * (numbers + 16) * ROUNDING + 2 * self.strain) * length * length
        with np.errstate(all="ignore"):
            of_outside = np.fmin(np.sqrt(doubt), doubt / outside) + ROUNDING * outside
        error = 1.1 * (root + 2) * (numbers + 16) * ROUNDING * length + of_outside
        return np.column_stack([inside / np.sqrt(1 + self.strain), outside]), error

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything as arrays, for a file."""
        numbers = np.array([self.strain, self.residual, self.step])
        return {"mean": self.mean, "components": self.components, "numbers": numbers}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any]) -> "Transform":
        """What ``to_arrays`` gave."""
        strain, residual, step = (float(one) for one in arrays["numbers"])
        return cls(arrays["mean"], arrays["components"], strain, residual, step)


def _leading(centred: np.ndarray, count: int) -> np.ndarray:
    """``count`` orthonormal directions ``[count, D]`` that hold most of the spread, mixed by a random rotation."""
    draw = np.random.default_rng(_SEED)
    numbers = centred.shape[1]
    largest = np.abs(centred).max(initial=0.0)
    scaled = centred / largest if np.isfinite(largest) and largest > 0 else np.zeros_like(centred)
    basis, _ = np.linalg.qr(draw.standard_normal((numbers, min(numbers, count + _SPARE_DIRECTIONS))))
    for _ in range(_POWER_ITERATIONS):
        image = scaled.T @ (scaled @ basis)
        # Noise keeps the directions independent where the sample has fewer.
        image += 1e-12 * max(float(np.abs(image).max()), 1e-200) * draw.standard_normal(image.shape)
        basis, _ = np.linalg.qr(image)
    _, _, turns = np.linalg.svd(scaled @ basis, full_matrices=True)
    rotation, _ = np.linalg.qr(draw.standard_normal((count, count)))
    return np.ascontiguousarray(rotation @ (turns[:count] @ basis.T))
