"""What every timestep density has in common: pmf over a grid, pdf, cdf and quantile, a summary, a dictionary.

A density lives on one of four axes (``variable``): ``timestep`` (1..T, continuous over [1/2, T + 1/2]), ``time``
(0..1), ``log_snr`` (ln(alpha^2 / sigma^2)) or ``sigma`` (sigma / alpha). On a grid of T timesteps its probability of
timestep t is its mass in t's cell, so nothing is sampled at points and nothing is rejected.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memfast.foundation.errors import InputError
from memfast.foundation.values import plain

Vector = NDArray[np.floating[Any]]
DEFAULT_T = 1000
BISECTIONS = 200
_SHOWN = 80


@runtime_checkable
class NoiseLevels(Protocol):
    """A schedule, as far as a density looks at it: ``log_snr``, float64 ``[T]``, falling."""

    @property
    def log_snr(self) -> Vector:
        """float64 ``[T]``, falling."""
        ...


Grid = int | NoiseLevels


class Density(ABC):
    """Where along the trajectory a model learns. Subclasses are frozen dataclasses of their dictionary's entries.

    Attributes:
        name: what configurations call it.
        variable: its axis: ``timestep``, ``time``, ``log_snr`` or ``sigma``.
    """

    name: ClassVar[str]
    variable: ClassVar[str] = "timestep"

    @property
    def changes_while_training(self) -> bool:
        """Whether its probabilities can differ between two training steps. False unless a subclass sets it.

        The objective's tensors then keep their length from step to step, and the schedule must have rows.
        """
        return False

    @property
    def learns_from_losses(self) -> bool:
        """Whether it wants every step's losses, by ``update``, and has a state. False unless a subclass sets it."""
        return False

    @abstractmethod
    def probabilities(self, grid: Grid) -> Vector:
        """The probability of each timestep: float64 ``[T]``, summing to 1; index j is timestep j + 1 of 1..T.

        Args:
            grid: the number of timesteps, or a schedule (which densities over ``log_snr`` and ``sigma`` need).

        Raises:
            InputError: the density has no mass on this grid, or needs a schedule.
        """

    @abstractmethod
    def pdf(self, x: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The density at points of the ``variable`` axis; ``T`` counts only where the axis is ``timestep``."""

    @abstractmethod
    def cdf(self, x: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The probability of values up to x."""

    @abstractmethod
    def quantile(self, q: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The value below which a fraction q of the mass lies: the inverse of ``cdf``."""

    def at(self, step: int) -> "Density":
        """The density of a training step: itself, unless it follows a plan."""
        return self

    def update(self, T: int, timesteps: Sequence[int] | np.ndarray, losses: Sequence[float] | np.ndarray) -> None:
        """Learn from a step's losses; called where ``learns_from_losses`` is True.

        Args:
            T: the number of timesteps.
            timesteps: ``[B]``, 0-based.
            losses: ``[B]``, one per timestep, unweighted.
        """
        raise NotImplementedError(f"{type(self).__name__} does not learn from losses")

    def state_dict(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps of what was learned: arrays by name; empty where nothing is."""
        return {}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up what ``state_dict`` gave; called where ``learns_from_losses`` is True."""
        raise NotImplementedError(f"{type(self).__name__} does not learn from losses")

    def slope(self, grid: Grid) -> Vector:
        """d p / d mu: how each timestep's probability changes as the density moves, per unit of its axis.

        Exact on the cells: the pdf at a cell's lower edge minus the pdf at its upper edge. The part that is cut off, or
        spread evenly, stays as it is; for a Gaussian this is p(t) (t - mu) / sigma^2 within a cell's width.
        """
        return _slope(self.pdf(cell_edges(self.variable, grid), grid_length(grid)), cell_edges(self.variable, grid))

    def mean(self, grid: Grid = DEFAULT_T) -> float:
        """The mean timestep, from 1 to T."""
        probabilities = self.probabilities(grid)
        return float(probabilities @ np.arange(1, len(probabilities) + 1))

    def misfit(self, grid: Grid) -> str | None:
        """Why hardly anything of this density, as it was meant, is left on a grid; None where it fits.

        ``DenoisingObjective`` warns with it.
        """
        return None

    def describe(self, grid: Grid = DEFAULT_T) -> str:
        """One line: mean, spread, middle half, number of timesteps in effective use, rarest timestep."""
        p = self.probabilities(grid)
        t = np.arange(1, len(p) + 1)
        mean = float(p @ t)
        spread = float(np.sqrt(p @ (t - mean) ** 2))
        low, high = np.searchsorted(np.cumsum(p), (0.25, 0.75)) + 1
        effective = float(np.exp(-np.sum(p[p > 0] * np.log(p[p > 0]))))
        return (
            f"{self!r} on T={len(p)}: mean {mean:.1f}, standard deviation {spread:.1f}, middle half {low}..{high}, "
            f"effectively {effective:.0f} timesteps, rarest {p.min() * len(p):.3g} of uniform"
        )

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON or TOML; ``memfast.timesteps.density_from_dict`` reads it back."""
        fields = asdict(self)  # type: ignore[call-overload]
        return {"name": self.name, **{key: plain(value) for key, value in fields.items() if value is not None}}


class ContinuousDensity(Density):
    """A density given on the whole line, cut to the axis' range and renormalised.

    A subclass gives ``_pdf`` and ``_mass``, and its own ``quantile`` where the axis has no bounds or
    there is a closed form.
    """

    @abstractmethod
    def _pdf(self, x: Vector) -> Vector:
        """The density on the whole line, before it is cut to the axis' range."""

    @abstractmethod
    def _mass(self, low: Vector, high: Vector) -> Vector:
        """Its mass between two points, accurate in both tails."""

    def probabilities(self, grid: Grid) -> Vector:
        """The mass of each cell, renormalised."""
        edges = cell_edges(self.variable, grid)
        low, high = np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
        return normalized(self._mass(low, high), repr(self))

    def slope(self, grid: Grid) -> Vector:
        """As every density's, with the mass on the grid's own range counting as 1."""
        edges = cell_edges(self.variable, grid)
        on_grid = float(self._mass(np.asarray(edges.min()), np.asarray(edges.max())))
        if not on_grid > 0:
            raise no_mass(repr(self))
        return _slope(self._pdf(edges) / on_grid, edges)

    def pdf(self, x: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The density, renormalised on the axis' range; 0 outside."""
        x = np.asarray(x, dtype=np.float64)
        low, high = axis_range(self.variable, T)
        inside = (x >= low) & (x <= high)
        return np.where(inside, self._pdf(np.where(inside, x, _finite_inside(low, high))) / self._total(T), 0.0)

    def cdf(self, x: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The mass up to x, renormalised on the axis' range."""
        low, high = axis_range(self.variable, T)
        x = np.clip(np.asarray(x, dtype=np.float64), low, high)
        return np.clip(self._mass(np.full_like(x, low), x) / self._total(T), 0.0, 1.0)

    def quantile(self, q: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The inverse of ``cdf``, by bisection to the last bit."""
        return bisect(lambda x: self.cdf(x, T), checked_fractions(q), *axis_range(self.variable, T))

    def _total(self, T: int) -> float:
        low, high = axis_range(self.variable, T)
        total = float(self._mass(np.asarray(low), np.asarray(high)))
        if not total > 0:
            raise no_mass(repr(self))
        return total


class DiscreteDensity(Density):
    """A density given by its probabilities over timesteps, constant on each cell [t - 1/2, t + 1/2]."""

    def pdf(self, x: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The probability of the timestep whose cell holds x; 0 outside [1/2, T + 1/2]."""
        x = np.asarray(x, dtype=np.float64)
        cell = np.floor(x + 0.5).astype(np.int64) - 1
        inside = (x >= 0.5) & (x <= T + 0.5)
        return np.where(inside, self.probabilities(T)[np.clip(cell, 0, T - 1)], 0.0)

    def cdf(self, x: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The mass up to x: linear within each cell."""
        total = np.concatenate([[0.0], np.cumsum(self.probabilities(T))])
        return np.interp(np.asarray(x, dtype=np.float64), np.arange(T + 1) + 0.5, total / total[-1])

    def quantile(self, q: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The inverse of ``cdf``."""
        q = checked_fractions(q)
        probabilities = self.probabilities(T)
        total = np.cumsum(probabilities)
        total /= total[-1]
        cell = np.minimum(np.searchsorted(total, q, side="left"), np.flatnonzero(probabilities)[-1])
        before = np.concatenate([[0.0], total])[cell]
        return cell + 0.5 + np.clip((q - before) / np.maximum(total[cell] - before, 1e-300), 0.0, 1.0)

    def slope(self, grid: Grid) -> Vector:
        """Minus the central difference of the probabilities: the first-order change as the density moves along t."""
        probabilities = self.probabilities(grid)
        return -np.gradient(probabilities) if len(probabilities) > 1 else np.zeros(1)


def grid_length(grid: Grid) -> int:
    """T of a grid given as a number or a schedule."""
    if isinstance(grid, int | np.integer) and not isinstance(grid, bool):
        if grid < 1:
            raise InputError("T", expected="the number of timesteps, 1 or more", received=str(grid))
        return int(grid)
    if isinstance(grid, NoiseLevels):
        return len(grid.log_snr)
    raise InputError("grid", expected="a number of timesteps or a schedule", received=type(grid).__name__)


def cell_edges(variable: str, grid: Grid) -> Vector:
    """The T + 1 borders of the timesteps' cells on an axis, in the timesteps' order (falling for ``log_snr``).

    On the two noise axes a border lies midway in log SNR between two levels, and the outer cells are as wide as their
    neighbours; a last level without any signal (log SNR -inf) takes everything beyond.
    """
    T = grid_length(grid)
    if variable == "timestep":
        return np.arange(T + 1) + 0.5
    if variable == "time":
        return np.arange(T + 1) / T
    if not isinstance(grid, NoiseLevels):
        raise InputError(
            "grid", expected=f"a schedule, for a density over {variable}", received=f"the number {grid}",
            do="Pass the schedule: density.probabilities(schedule).",
        )  # fmt: skip
    levels = np.asarray(grid.log_snr, dtype=np.float64)
    endless = bool(np.isneginf(levels[-1]))
    finite = levels[:-1] if endless else levels
    if len(finite) < 2:
        raise InputError("schedule", expected="at least two levels with signal", received=f"{len(finite)}")
    inner = (finite[:-1] + finite[1:]) / 2
    first, last = finite[0] + (finite[0] - inner[0]), finite[-1] + (finite[-1] - inner[-1])
    edges = np.concatenate([[first], inner, [last], [-np.inf] if endless else []])
    return edges if variable == "log_snr" else np.exp(-edges / 2)


def axis_range(variable: str, T: int) -> tuple[float, float]:
    """Where an axis begins and ends."""
    ranges = {"timestep": (0.5, T + 0.5), "time": (0.0, 1.0), "log_snr": (-np.inf, np.inf), "sigma": (0.0, np.inf)}
    return ranges[variable]


def normalized(masses: Vector, what: str) -> Vector:
    """Masses divided by their sum.

    Raises:
        InputError: a mass that is NaN, infinite or negative, or none that is positive.
    """
    masses = np.asarray(masses, dtype=np.float64)
    if not np.isfinite(masses).all() or (masses < 0).any():
        where = int(np.argmax(~(np.isfinite(masses) & (masses >= 0))))
        raise InputError(what, expected="finite weights of 0 or more", received=f"{masses[where]} at index {where}")
    if masses.size == 0 or not masses.max() > 0:
        raise no_mass(what)
    masses = masses / masses.max()
    return masses / masses.sum()


def check_density(name: str, value: Any) -> None:
    """Raise unless ``value`` is a density."""
    if not isinstance(value, Density):
        raise InputError(name, expected="densities of memfast.timesteps", received=repr(value)[:_SHOWN])


def vector_of_numbers(name: str, values: Any) -> Vector:
    """``values`` as a float64 vector.

    Raises:
        InputError: they are no numbers, or not one behind the other; NaN and infinity may be among them.
    """
    try:
        made = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        made = np.zeros(())
    if made.ndim != 1:
        raise InputError(name, expected="a vector of numbers", received=repr(values)[:_SHOWN])
    return made


def no_mass(what: str) -> InputError:
    """The error of a density that is zero everywhere."""
    return InputError(
        what, expected="some mass on the timesteps", received="none at all", do="Move it towards 1..T, or widen it."
    )


def checked_fractions(q: ArrayLike) -> Vector:
    """q as float64, or an error where one is not a fraction."""
    q = np.asarray(q, dtype=np.float64)
    if not ((q >= 0) & (q <= 1)).all():
        raise InputError("q", expected="fractions from 0 to 1", received=str(q))
    return q


def bisect(cdf: Any, q: Vector, low: float, high: float) -> Vector:
    """The smallest x in [low, high] with cdf(x) >= q, to the last bit."""
    left, right = np.full(q.shape, low), np.full(q.shape, high)
    for _ in range(BISECTIONS):
        middle = left + (right - left) / 2
        enough = cdf(middle) >= q
        left, right = np.where(enough, left, middle), np.where(enough, middle, right)
        if np.all((right - left) <= np.spacing(np.abs(left))):
            break
    return right


def _slope(at_edges: Vector, edges: Vector) -> Vector:
    difference = at_edges[:-1] - at_edges[1:]
    return difference if edges[0] < edges[-1] else -difference


def _finite_inside(low: float, high: float) -> float:
    return 1.0 if np.isinf(high) else (low + high) / 2
