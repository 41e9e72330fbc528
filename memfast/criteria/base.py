"""What every criterion shares: the evidence it reads, the judgement it gives, the definition it states."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from memfast.foundation.errors import InputError


@dataclass(frozen=True)
class Evidence:
    """What criteria may read about one set of n samples. Arrays only; no files, no search, no features are computed.

    Attributes:
        squared_distances: ``[n, k]`` to the k nearest training items, ascending, in raw units (0..255 for uint8).
        indices: int64 ``[n, k]``, which training items those are.
        values: numbers in one item (height x width x channels, or the length of a signal).
        unit: how many raw units make 1 in [0, 1] units: 255 for uint8 images, the width of the value range otherwise.
        neighbour_gaps: ``[n]`` squared distance from the nearest training item to ITS nearest other training item.
        tile_distances: ``[n, k]`` worst-tile RMS distance in [0, 1] units, for images.
        similarities: ``[n]`` largest cosine similarity of features to any training item; NaN for a sample whose
            features are all zero and have no direction.
        similar_indices: int64 ``[n]``, which training item that is.
    """

    squared_distances: np.ndarray
    indices: np.ndarray
    values: int
    unit: float = 1.0
    neighbour_gaps: np.ndarray | None = None
    tile_distances: np.ndarray | None = None
    similarities: np.ndarray | None = None
    similar_indices: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.squared_distances.ndim != 2 or self.squared_distances.shape != self.indices.shape:
            raise InputError(
                "evidence",
                expected="squared_distances and indices of one shape [n, k]",
                received=f"{self.squared_distances.shape} and {self.indices.shape}",
            )
        unknown = (self.indices < 0).any(axis=1)
        if unknown.any():
            raise InputError(
                "evidence",
                expected="k known neighbours of every sample",
                received=f"index -1, 'none found', for {int(unknown.sum())} samples",
                do="An approximate search left places empty: search those samples exactly, or for fewer neighbours.",
            )

    def __len__(self) -> int:
        return len(self.squared_distances)

    @property
    def neighbours(self) -> int:
        """How many neighbours are known per sample, k."""
        return self.squared_distances.shape[1]

    def rms(self, column: int = 0) -> np.ndarray:
        """Root-mean-square distance to the neighbour of this column, in [0, 1] units, float64 ``[n]``."""
        return np.sqrt(self.squared_distances[:, column].astype(np.float64) / self.values) / self.unit


@dataclass(frozen=True)
class Judgement:
    """What one criterion says of each sample.

    Attributes:
        scores: float64 ``[n]``.
        flags: bool ``[n]``, True where the sample counts as a copy at the criterion's threshold.
        partners: int64 ``[n]``, the training item that the score is about.
        notes: what a reader must know to read the figures.
        judged: bool ``[n]``, False where the criterion can say nothing of a sample, whose score is then NaN. None: it
            judges every sample.
    """

    scores: np.ndarray
    flags: np.ndarray
    partners: np.ndarray
    notes: tuple[str, ...] = ()
    judged: np.ndarray | None = None

    @property
    def total(self) -> int:
        """How many samples were judged."""
        return len(self.flags) if self.judged is None else int(self.judged.sum())

    def of_judged(self, values: np.ndarray) -> np.ndarray:
        """The entries of ``values`` ``[n]`` that belong to judged samples."""
        return values if self.judged is None else values[self.judged]


# Worst tiles are for images of so many pixels a side.
SMALLEST_SIDE = 64
# The optional fields of `Evidence`, which a criterion can ask for, and why an audit may not have them.
NEEDS = {
    "neighbour_gaps": "it compares with the nearest training item's own neighbour, and there is only one training item",
    "tile_distances": f"it is for images of {SMALLEST_SIDE} pixels and more a side",
    "similarities": "no features were given",
}


class Criterion(ABC):
    """A definition of "memorized". To add one: write a subclass in a file of its own and add it to the list.

    A criterion declares what it reads and how it is to be read; an audit gathers what its criteria declare, and knows
    none of them by name. It is made without arguments, or with its threshold as the first one.

    Attributes:
        name: what users write and results hold.
        aliases: other names that users may write.
        title: what a person reads.
        definition: the formula in words and symbols.
        source: who defined it.
        copies_are_low: True where a lower score is more of a copy.
        needs: which optional fields of `Evidence` it reads, some of `NEEDS`.
        neighbours: how many nearest distances it reads where so many are known.
        tiles: tiles per side in ``tile_distances``, where it reads those.
        hidden_by_duplicates: True where a second training item close to the one that was copied hides the copy.
        high_by_nature: True where it flags many samples of an honest model too, so that only the excess over held-out
            data says anything.
        threshold: where a sample counts as a copy.
        levels: thresholds that are reported in full beside the main one.
        grid: thresholds of the curve.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    definition: ClassVar[str]
    source: ClassVar[str]
    copies_are_low: ClassVar[bool] = True
    aliases: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    hidden_by_duplicates: ClassVar[bool] = False
    high_by_nature: ClassVar[bool] = False

    neighbours: int = 1
    tiles: int = 0
    threshold: float
    levels: tuple[float, ...] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for need in cls.needs:
            if need not in NEEDS:
                raise InputError(f"{cls.__name__}.needs", expected=f"some of {', '.join(NEEDS)}", received=repr(need))

    @property
    @abstractmethod
    def grid(self) -> np.ndarray:
        """Thresholds of the curve, ascending."""

    def why_not(self, evidence: Evidence) -> str | None:
        """None where the criterion applies, otherwise the reason why it cannot.

        By default it applies where the evidence has what it ``needs``.
        """
        return next((NEEDS[need] for need in self.needs if getattr(evidence, need) is None), None)

    @abstractmethod
    def judge(self, evidence: Evidence) -> Judgement:
        """Scores, flags and partners of every sample; call it only where `why_not` is None."""

    def flags(self, evidence: Evidence, scores: np.ndarray, threshold: float) -> np.ndarray:
        """Which samples count as copies at another threshold, bool ``[n]``."""
        return scores < threshold if self.copies_are_low else scores > threshold

    def curve(self, evidence: Evidence, judgement: Judgement) -> np.ndarray:
        """The number of copies at each threshold of `grid`, int64."""
        counts = [self.flags(evidence, judgement.scores, float(step)).sum() for step in self.grid]
        return np.asarray(counts, dtype=np.int64)

    def parameters(self) -> dict[str, Any]:
        """The options that change its figures, as plain values."""
        return {key: value for key, value in vars(self).items() if key not in ("levels",)}
