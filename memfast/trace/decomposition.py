"""How much of a state is the target and how much the initial noise: x_t = w_target * target + w_initial * initial.

From the top: the decomposition; the normal equations that it solves; the inner products that they are made of.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
import torch

from memfast import ops
from memfast.foundation.errors import InputError

# A squared norm that is this much smaller than its terms has lost too many digits in the expansion: it is taken from
# the vectors themselves. Products are good to about 1e-15, so what stays is good to 1e-10.
CANCELLATION = 1e-5
# Below this sine between target and initial state the two weights cannot be told apart.
LEAST_SINE = 1e-6

Pair = tuple[str, str]
Form = Mapping[str, float]


@dataclass(frozen=True)
class Decomposition:
    """The least-squares weights of every state.

    Attributes:
        w_target: float64 ``[S, B]``, the weight of the target; 1 at the end of a run that reached it.
        w_initial: float64 ``[S, B]``, the weight of the initial noise; 1 at the start.
        residual: float64 ``[S, B]``, root mean square of what neither explains, in the states' units.
    """

    w_target: torch.Tensor
    w_initial: torch.Tensor
    residual: torch.Tensor


def decompose(states: Any, target: Any, initial: Any) -> Decomposition:
    """Ordinary least squares of each state on its target and its initial noise, without an intercept.

    One pass over the states (``memfast.ops.inner_products``): every sum is taken in float64 and the 2x2 normal
    equations are solved in closed form. The residual follows from the same sums, and is good to 1e-9 of itself: where
    it is so small that they cancel (``CANCELLATION``), that state alone is read a second time.

    Args:
        states: ``[S, B, ...]``, the states of B samples at S moments, or an iterable of S arrays ``[B, ...]`` (then no
            more than one moment is held in memory).
        target: ``[B, ...]``: the training item's latent, or the final state where none is known. A single item
            ``[...]`` serves all samples.
        initial: ``[B, ...]``, x_T.

    Raises:
        InputError: shapes that do not fit, values that are not finite, or a target that is parallel to the initial
            noise (the sample is named).

    Source: "How do diffusion models memorize?" (arXiv 2509.25705), the latent decomposition.

    >>> target, noise = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[0.0, 3.0, 1.0]])
    >>> found = decompose(torch.stack([noise, 0.5 * target + 0.25 * noise]), target, noise)
    >>> found.w_target.tolist(), found.w_initial.tolist()
    ([[0.0], [0.5]], [[1.0], [0.25]])
    """
    noise = _rows("initial", initial)
    goal = _rows("target", target, like=noise)
    base = Gram({"x": goal, "z": noise}, [("x", "x"), ("z", "z"), ("x", "z")])
    for name, own in (("target", base["x", "x"]), ("initial", base["z", "z"])):
        _check_finite(name, own)
    equations = NormalEquations(base["x", "x"], base["z", "z"], base["x", "z"])
    if equations.parallel.any():
        raise InputError(
            f"sample {int(np.flatnonzero(equations.parallel)[0])}",
            expected="a target that is not parallel to the initial noise",
            received="parallel ones (or one of them is zero)", do="The two weights cannot be told apart: leave it out.",
        )  # fmt: skip
    blocks: list[tuple[np.ndarray, ...]] = []
    for first, block in _blocks(states):
        rows = {f"s{k}": _rows(f"states[{first + k}]", state, like=noise) for k, state in enumerate(block)}
        pairs = [(name, other) for name in rows for other in (name, "x", "z")]
        gram = Gram({**rows, "x": goal, "z": noise}, pairs, base)
        # All moments in one go, [S, B] for a pair; rows whose products cancel are measured by themselves.
        squared, with_goal, with_noise = gram.table[: len(pairs)].reshape(len(block), 3, -1).swapaxes(0, 1)
        for k, own in enumerate(squared):
            _check_finite(f"states[{first + k}]", own)
        weights = w_goal, w_noise = equations.solve(with_goal, with_noise)
        rest, size = equations.unexplained(squared, with_goal, with_noise, weights)
        small = rest < CANCELLATION * size
        for k in np.flatnonzero(small.any(axis=1)).tolist():
            chosen = np.flatnonzero(small[k])
            form = {f"s{k}": 1.0, "x": -w_goal[k, chosen], "z": -w_noise[k, chosen]}
            rest[k, chosen] = gram.from_vectors(chosen, form)
        blocks.append((w_goal, w_noise, np.sqrt(rest / noise.shape[1])))
    if not blocks:
        raise InputError("states", expected="at least one moment [S, B, ...]", received="none")
    w_target, w_initial, residual = (
        torch.from_numpy(np.concatenate(parts)).to(noise.device) for parts in zip(*blocks, strict=True)
    )
    return Decomposition(w_target, w_initial, residual)


def _blocks(states: Any) -> Iterator[tuple[int, list[Any]]]:
    """The states, several together where they are in memory anyway, else one by one, with the first one's number."""
    together = len(states) if isinstance(states, torch.Tensor | np.ndarray | list | tuple) else 1
    moments = iter(states)
    for first in itertools.count(0, max(1, together)):
        block = list(itertools.islice(moments, max(1, together)))
        if not block:
            return
        yield first, block


def _rows(name: str, value: Any, like: torch.Tensor | None = None) -> torch.Tensor:
    """A floating matrix ``[B, D]`` on the value's device."""
    rows = torch.as_tensor(value)
    rows = rows.detach() if rows.is_floating_point() else rows.double()
    if like is not None and rows.numel() == like.shape[1]:
        rows = rows.reshape(1, -1).expand(like.shape[0], -1)
    rows = rows.reshape(len(rows), -1) if rows.ndim > 1 else rows[None]
    if like is not None and rows.shape != like.shape:
        raise InputError(
            name, expected=f"{like.shape[0]} items of {like.shape[1]} values, as in initial",
            received=f"shape {list(torch.as_tensor(value).shape)}",
        )  # fmt: skip
    return rows


def _check_finite(name: str, squared: np.ndarray) -> None:
    if not np.isfinite(squared).all():
        raise InputError(name, expected="finite values", received="NaN or infinity")


@dataclass(frozen=True)
class NormalEquations:
    """The products of the two vectors that a state is explained by, each ``[G]``.

    Attributes:
        target: |target|^2.
        initial: |initial|^2.
        both: <target, initial>.
    """

    target: np.ndarray
    initial: np.ndarray
    both: np.ndarray

    @cached_property
    def parallel(self) -> np.ndarray:
        """Where the two vectors are parallel, or one of them is zero: bool ``[G]``."""
        found: np.ndarray = self._determinant <= LEAST_SINE**2 * self.target * self.initial
        return found

    def solve(self, with_target: np.ndarray, with_initial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(w_target, w_initial) of states with these products; NaN where the vectors are parallel."""
        w_target = (with_target * self.initial - with_initial * self.both) / self._divisor
        w_initial = (with_initial * self.target - with_target * self.both) / self._divisor
        return w_target, w_initial

    def unexplained(
        self,
        squared: np.ndarray,
        with_target: np.ndarray,
        with_initial: np.ndarray,
        weights: tuple[np.ndarray, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """|state - w_target * target - w_initial * initial|^2 for the solution, and the size of its terms.

        Args:
            squared: |state|^2.
            with_target: <state, target>.
            with_initial: <state, initial>.
            weights: what ``solve`` gave for these.
        """
        w_target, w_initial = weights
        rest = squared - w_target * with_target - w_initial * with_initial
        return rest, squared + w_target**2 * self.target + w_initial**2 * self.initial

    @cached_property
    def _determinant(self) -> np.ndarray:
        return np.asarray(self.target * self.initial - self.both**2)

    @cached_property
    def _divisor(self) -> np.ndarray:
        return np.where(self.parallel, np.nan, self._determinant)


class Gram:
    """Inner products of named vectors, row by row, in float64; each vector is read once.

    Args:
        vectors: name -> ``[R, ...]``, or ``[R / k, ...]`` where k consecutive rows share each vector; at least one of
            them with R rows.
        pairs: the pairs of names whose products are wanted; ``(a, a)`` for a squared norm.
        known: products of the same rows that were taken before.
        cancellation: see ``CANCELLATION``; c keeps squared norms good to about 1e-15 / c of themselves.

    Attributes:
        table: the products, float64 ``[pairs, R]``, the known ones last.
        places: each pair's number in it, in either order of its names.
    """

    def __init__(
        self,
        vectors: Mapping[str, torch.Tensor],
        pairs: Sequence[Pair],
        known: "Gram | None" = None,
        *,
        cancellation: float = CANCELLATION,
    ) -> None:
        self.vectors, self.cancellation = vectors, cancellation
        names = tuple(vectors)
        own = ops.inner_products(list(vectors.values()), _numbers(names, tuple(pairs))).t().cpu().numpy()
        self.pairs: tuple[Pair, ...] = (*pairs, *(() if known is None else known.pairs))
        self.places = _places(self.pairs)
        self.table: np.ndarray = own if known is None else np.concatenate([own, known.table])

    def __getitem__(self, pair: Pair) -> np.ndarray:
        """The products of two vectors, float64 ``[R]``."""
        found: np.ndarray = self.table[self.places[pair]]
        return found

    def cosines(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Cosines of pairs of vectors, float64 ``[len(pairs), R]`` in [-1, 1]; NaN where one of the two is zero."""
        both, first, second = (
            self.table[[self.places[pair] for pair in chosen]]
            for chosen in (pairs, [(a, a) for a, _ in pairs], [(b, b) for _, b in pairs])
        )
        return cosine(both, first, second)

    def squared_norms(self, forms: Sequence[Form]) -> np.ndarray:
        """``|sum of factor * vector|^2`` of each form: from the products, or from the vectors where those cancel.

        Args:
            forms: each vector's name -> its factor. All products of a form's vectors must be known.

        Returns:
            float64 ``[len(forms), R]``; NaN in rows with a product that is NaN, whether a form needs it or not.
        """
        weights = np.zeros((2, len(forms), len(self.table)))
        for number, form in enumerate(forms):
            names = list(form)
            for place, a in enumerate(names):
                weights[:, number, self.places[a, a]] = form[a] * form[a]
                for b in names[place + 1 :]:
                    weights[0, number, self.places[a, b]] = 2.0 * form[a] * form[b]
        total, size = weights @ self.table
        small = total < self.cancellation * size
        for number in np.flatnonzero(small.any(axis=1)).tolist():
            rows = np.flatnonzero(small[number])
            total[number, rows] = self.from_vectors(rows, forms[number])
        return np.asarray(total)

    def from_vectors(self, rows: np.ndarray, form: Mapping[str, float | np.ndarray]) -> np.ndarray:
        """``|sum of factor * vector|^2`` of some rows, ``[len(rows)]``, a factor a number or one per row."""
        total: torch.Tensor | float = 0.0
        for name, factor in form.items():
            vector = self.vectors[name]
            chosen = torch.from_numpy(rows * len(vector) // self.table.shape[1]).to(vector.device)
            factors = torch.from_numpy(np.full(len(rows), factor)).to(vector.device)
            total = total + vector[chosen].double().flatten(1) * factors[:, None]
        found: np.ndarray = torch.as_tensor(total).square().sum(1).cpu().numpy()
        return found


def cosine(both: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The cosine of two vectors from their product and their squared norms; NaN where one is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = both / np.sqrt(first * second)
    return np.clip(found, -1.0, 1.0, out=found)


def distances_within(
    vectors: torch.Tensor, squared_norms: np.ndarray, group: int, cancellation: float = CANCELLATION
) -> np.ndarray:
    """Distances between the rows of each group of consecutive ones, each pair once.

    Args:
        vectors: ``[R, ...]``.
        squared_norms: theirs, float64 ``[R]``.
        group: rows in a group; it divides R.
        cancellation: see ``CANCELLATION``.

    Returns:
        float64 ``[R / group, group * (group - 1) / 2]``.
    """
    members = vectors.reshape(len(vectors) // group, group, -1)
    pairs, first, second = _within(group)
    products = ops.inner_products(members.unbind(1), pairs).t().cpu().numpy()
    norms = squared_norms.reshape(-1, group).T
    size = norms[first] + norms[second]
    squared = size - 2.0 * products
    for pair, owner in np.argwhere(squared < cancellation * size):
        a, b = (members[int(owner), int(member[pair])].double() for member in (first, second))
        squared[pair, owner] = float((a - b).square().sum())
    return np.sqrt(squared).T


@lru_cache(maxsize=64)
def _places(pairs: tuple[Pair, ...]) -> Mapping[Pair, int]:
    """Each pair's number among ``pairs``, under both orders of its names."""
    return {names: number for number, pair in enumerate(pairs) for names in (pair, pair[::-1])}


@lru_cache(maxsize=64)
def _numbers(names: tuple[str, ...], pairs: tuple[Pair, ...]) -> list[tuple[int, int]]:
    return [(names.index(a), names.index(b)) for a, b in pairs]


@cache
def _within(group: int) -> tuple[list[tuple[int, int]], np.ndarray, np.ndarray]:
    """Every two of a group's members, once: as pairs, and the first and the second ones."""
    first, second = np.triu_indices(group, 1)
    return list(zip(first.tolist(), second.tolist(), strict=True)), first, second
