"""Distance below a fixed bound: of the whole item, and of its worst tile."""

import numpy as np

from memfast.criteria.base import Criterion, Evidence, Judgement
from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError

DEFAULT_DELTA = 0.05
DEFAULT_TILE_DELTA = 0.15
OTHER_LEVELS = (0.05, 0.1, 0.15)
DEFAULT_TILES = 4
SMALLEST_SIDE = 64


class _Bounded(Criterion):
    """A distance in [0, 1] units that counts as a copy where it is at most delta."""

    def __init__(self, delta: float) -> None:
        self.threshold = finite_number("delta", delta, above=0)
        self.levels = tuple(sorted({*OTHER_LEVELS, self.threshold}))

    @property
    def grid(self) -> np.ndarray:
        """0.005 to 0.4, and the reported levels."""
        return np.union1d(np.round(np.arange(0.005, 0.4001, 0.005), 3), self.levels)

    def flags(self, evidence: Evidence, scores: np.ndarray, threshold: float) -> np.ndarray:
        """At most the threshold: the bound itself counts."""
        return scores <= threshold


class Absolute(_Bounded):
    """``sqrt(mean((generated - training)**2)) <= delta`` with values in [0, 1].

    Score in [0, 1]; lower means more memorized; its unit is the full range of a pixel. Known in the synthetic-data
    world as DCR, distance to the closest record.

    Args:
        delta: the bound. 0.05 by default: at 0.1 and more, small images of one class lie within the bound of each other
            (the held-out figure beside each count shows it); the curve and the levels 0.1 and 0.15 are reported too.

    What it is not: comparable between data sets. Plain pictures on a white ground are all close to each other.

    Source: Carlini et al. 2023, definition of (l, delta)-extraction; the default bound is this library's choice.
    """

    name = "absolute"
    title = "Absolute distance"
    definition = "root-mean-square difference to the nearest training item <= threshold, in [0, 1] units"
    source = "Carlini et al. 2023, (l2, delta)-extraction; the default delta is memfast's choice"
    aliases = ("dcr",)

    def __init__(self, delta: float = DEFAULT_DELTA) -> None:
        super().__init__(delta)

    def why_not(self, evidence: Evidence) -> str | None:
        """It always applies."""
        return None

    def judge(self, evidence: Evidence) -> Judgement:
        """Scores: RMS distance to the nearest training item."""
        scores = evidence.rms()
        return Judgement(scores, self.flags(evidence, scores, self.threshold), evidence.indices[:, 0])


class AbsoluteTiles(_Bounded):
    """The largest RMS distance among 4 x 4 tiles is at most delta: close everywhere, not only on average.

    Score in [0, 1]; lower means more memorized. It keeps two different pictures on one plain background from counting
    as copies. The score is the smallest over the known neighbours; since a worst tile is never below the whole, every
    item within delta is among them as soon as the farthest known neighbour is farther than delta. Where it is not,
    the judgement says for how many samples an even closer item may exist.

    Args:
        delta: the bound; 0.15 is the source's.
        tiles: tiles per side.

    Source: Carlini et al. 2023, section 4 (Stable Diffusion: 16 tiles of 128 x 128).
    """

    name = "absolute_tiles"
    title = "Worst-tile distance"
    definition = "the largest root-mean-square difference among 4 x 4 tiles <= threshold, in [0, 1] units"
    source = "Carlini et al. 2023 (Stable Diffusion extraction): 16 tiles, delta 0.15"
    needs = ("tile_distances",)

    def __init__(self, delta: float = DEFAULT_TILE_DELTA, *, tiles: int = DEFAULT_TILES) -> None:
        super().__init__(delta)
        self.tiles = whole_number("tiles", tiles, least=1)

    def why_not(self, evidence: Evidence) -> str | None:
        """It needs tile distances."""
        if evidence.tile_distances is None:
            return f"it is for images of {SMALLEST_SIDE} pixels and more a side"
        return None

    def judge(self, evidence: Evidence) -> Judgement:
        """Scores: the smallest worst-tile distance among the known neighbours."""
        assert evidence.tile_distances is not None
        best = np.argmin(evidence.tile_distances, axis=1)
        rows = np.arange(len(evidence))
        scores = evidence.tile_distances[rows, best]
        flags = self.flags(evidence, scores, self.threshold)
        open_ended = int((~flags & (evidence.rms(-1) <= self.threshold)).sum())
        notes: tuple[str, ...] = ()
        if open_ended:
            notes = (
                f"for {open_ended} samples all {evidence.neighbours} known neighbours lie within the threshold on "
                "average: a farther one could still be closer in its worst tile (raise k to be sure)",
            )
        return Judgement(scores, flags, evidence.indices[rows, best], notes)


def worst_tile(first: np.ndarray, second: np.ndarray, *, unit: float, tiles: int = DEFAULT_TILES) -> np.ndarray:
    """The largest RMS difference among ``tiles x tiles`` tiles of each pair of images, in [0, 1] units.

    Tiles do not overlap and cover the whole image; where a side is not divisible, they differ by one pixel.

    Args:
        first: images ``[n, H, W]`` or ``[n, H, W, C]``.
        second: images of the same shape.
        unit: raw units in 1, 255 for uint8.
        tiles: tiles per side.

    >>> a, b = np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8)
    >>> b[0, 0, 0] = 255
    >>> float(worst_tile(a, b, unit=255.0)[0])
    0.5
    """
    height, width = first.shape[1:3]
    if height < tiles or width < tiles:
        raise InputError("tiles", expected=f"at most the image's side, {min(height, width)}", received=str(tiles))
    squares = first.astype(np.float64) - second.astype(np.float64)
    np.square(squares, out=squares)
    squares = squares.reshape(len(first), height, width, -1).sum(axis=3)
    rows = [side * height // tiles for side in range(tiles)]
    columns = [side * width // tiles for side in range(tiles)]
    sums = np.add.reduceat(np.add.reduceat(squares, rows, axis=1), columns, axis=2)
    channels = int(np.prod(first.shape[3:], dtype=np.int64))
    areas = np.outer(np.diff([*rows, height]), np.diff([*columns, width])) * channels
    return np.sqrt((sums / areas).max(axis=(1, 2))) / unit


def worst_tiles(
    images: np.ndarray, others: np.ndarray, pairs: np.ndarray, *, unit: float, tiles: int = DEFAULT_TILES
) -> np.ndarray:
    """`worst_tile` of many pairs at once, by one matrix product per tile.

    ``|a|^2 + |b|^2 - 2ab`` in float64 is exact for uint8 values; for floats near copies lose digits, so recompute
    those that count.

    Args:
        images: ``[n, H, W]`` or ``[n, H, W, C]``.
        others: ``[m, H, W]`` or ``[m, H, W, C]``.
        pairs: int ``[n, k]``, which of ``others`` each image is compared with.
        unit: raw units in 1, 255 for uint8.
        tiles: tiles per side.

    Returns:
        float64 ``[n, k]``.
    """
    height, width = images.shape[1:3]
    worst = np.zeros(pairs.shape, np.float64)
    for row in range(tiles):
        for column in range(tiles):
            down = slice(row * height // tiles, (row + 1) * height // tiles)
            across = slice(column * width // tiles, (column + 1) * width // tiles)
            first, second = (
                one[:, down, across].reshape(len(one), -1).astype(np.float64) for one in (images, others)
            )  # fmt: skip
            norms = [np.einsum("ij,ij->i", one, one) for one in (first, second)]
            products = np.take_along_axis(first @ second.T, pairs, axis=1)
            squared = norms[0][:, None] + norms[1][pairs] - 2 * products
            np.maximum(worst, squared / first.shape[1], out=worst)
    return np.sqrt(worst) / unit
