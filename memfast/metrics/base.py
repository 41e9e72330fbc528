"""What every metric of `memfast.evaluate` is: the numbers it gives, what it needs, receives and returns."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from memfast.metrics.intervals import Interval
from memfast.metrics.shared_neighbors import SharedNeighbors

INFINITY = float("inf")
# What a metric may need beside generated and training samples, and how a user gives it.
NEEDS = {
    "test": "a held-out set (test=...)",
    "class_probabilities": "the class probabilities of the generated samples (class_probabilities=...)",
    "images": "images of at least 11 x 11 pixels (features='pixels')",
}
SMALLEST_IMAGE = 11


@dataclass(frozen=True)
class MetricValue:
    """One number that a metric gives.

    Attributes:
        name: its name in results.
        better: ``lower``, ``higher`` or ``none``: what its authors call better for a generator.
        copying: ``lower``, ``higher`` or ``none``: which way it moves when training samples are copied.
        low: the least it can be.
        high: the most it can be.
        interval: the kind of its 95 % interval, or ``none``.
    """

    name: str
    better: str
    copying: str
    low: float
    high: float
    interval: str = "none"


@dataclass(frozen=True)
class MetricInputs:
    """What a metric receives.

    Attributes:
        generated: features, float64 ``[m, d]``.
        training: the same, ``[n, d]``.
        test: the same, held out, ``[t, d]``, or None.
        neighbors: the searches among these sets, by the names above.
        seed: of everything random.
        class_probabilities: set name -> float64 ``[n, classes]``.
        item_shape: the shape of an item where the features are its own numbers, or None.
    """

    generated: np.ndarray
    training: np.ndarray
    test: np.ndarray | None
    neighbors: SharedNeighbors
    seed: int = 0
    class_probabilities: Mapping[str, np.ndarray] = field(default_factory=dict)
    item_shape: tuple[int, ...] | None = None

    def has(self, need: str) -> bool:
        """Whether one of `NEEDS` is there."""
        if need == "test":
            return self.test is not None
        if need == "class_probabilities":
            return "generated" in self.class_probabilities
        return self.image_shape is not None

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Height, width and channels of the items, where they are images that are large enough; None otherwise."""
        shape = self.item_shape or ()
        if len(shape) == 2:
            shape = (*shape, 1)
        if len(shape) == 3 and shape[2] in (1, 3, 4) and min(shape[:2]) >= SMALLEST_IMAGE:
            return shape[0], shape[1], shape[2]
        return None

    @cached_property
    def held_out_as_generated(self) -> "MetricInputs":
        """The held-out set in the place of the generated one, for floors; all metrics share its searches."""
        assert self.test is not None
        probabilities = {"generated": self.class_probabilities["test"]} if "test" in self.class_probabilities else {}
        return replace(
            self, generated=self.test, neighbors=self.neighbors.renamed({"test": "generated"}),
            class_probabilities=probabilities,
        )  # fmt: skip

    def held_out_halves(self) -> tuple[np.ndarray, np.ndarray]:
        """The held-out set in two halves, drawn by the seed."""
        assert self.test is not None
        order = np.random.default_rng(self.seed).permutation(len(self.test))
        half = len(order) // 2
        return self.test[np.sort(order[:half])], self.test[np.sort(order[half:])]


@dataclass(frozen=True)
class MetricOutcome:
    """A computed number: with its interval, what else is worth knowing, and the per-sample values it is the mean of."""

    value: float
    interval: Interval | None = None
    details: dict[str, Any] = field(default_factory=dict)
    samples: np.ndarray | None = None


class Metric(ABC):
    """One metric. A subclass is a frozen dataclass whose fields are its options.

    To add one: write a subclass in a file of its own and add it to the list in ``registry.py``, or offer it from your
    own package through the entry-point group ``memfast.metrics``.

    Attributes:
        name: what users write.
        summary: one line.
        source: where its definition comes from.
        values: the numbers it gives.
        needs: some of `NEEDS`.
        floored: the values that have a floor; None means all.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    values: ClassVar[tuple[MetricValue, ...]]
    needs: ClassVar[tuple[str, ...]] = ()
    floored: ClassVar[tuple[str, ...] | None] = None
    aliases: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        # The name of a value chooses its metric too.
        cls.aliases = tuple(value.name for value in cls.values if value.name != cls.name)

    @property
    def options(self) -> dict[str, Any]:
        """Its options and their values."""
        return {name: getattr(self, name) for name in option_names(type(self))}

    @property
    def needs_test(self) -> bool:
        """Whether it needs a held-out set."""
        return "test" in self.needs

    @property
    def least(self) -> dict[str, int]:
        """Set name -> the fewest samples it works with."""
        return {"generated": 2, "training": 2}

    @property
    def searches(self) -> tuple[tuple[str, str, int], ...]:
        """Searches among the sets that it makes: (queries, database, k)."""
        return ()

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """Floating-point operations apart from its searches, for m generated, n training and t held-out rows of d."""
        return (m + n) * d

    @abstractmethod
    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """Value name -> outcome. A value that cannot be had is left out; an error says why none can."""

    def floor_inputs(self, inputs: MetricInputs) -> MetricInputs | None:
        """What to compute the floor from; None where there is no floor. By default held-out data as generated."""
        return None if self.needs_test or inputs.test is None else inputs.held_out_as_generated

    def why_not(self, inputs: MetricInputs) -> str | None:
        """What is missing, in words, or None where all its needs are met."""
        for need in self.needs:
            if not inputs.has(need):
                return f"needs {NEEDS[need]}"
        for name, least in self.least.items():
            rows = getattr(inputs, name)
            if rows is not None and len(rows) < least:
                return f"needs at least {least} {WORDS[name]} samples, received {len(rows)}"
        return None


def option_names(metric: type[Metric]) -> tuple[str, ...]:
    """The options that a metric takes."""
    return tuple(field.name for field in fields(metric)) if is_dataclass(metric) else ()


WORDS = {"generated": "generated", "training": "training", "test": "held-out"}


def distances(*names: str, interval: str = "none") -> tuple[MetricValue, ...]:
    """Distances: 0 and above, lower called better, lower also where training samples are copied."""
    return tuple(MetricValue(name, "lower", "lower", 0.0, INFINITY, interval) for name in names)
