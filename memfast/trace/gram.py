"""Inner products of a few vectors per row, and what follows from them: cosines, and norms of their combinations."""

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

import numpy as np
import torch

from memfast import ops

# A squared norm that is this much smaller than its terms has lost too many digits in the expansion: it is taken from
# the vectors themselves. Products are good to about 1e-15, so what stays is good to 1e-10.
CANCELLATION = 1e-5

Number = float | np.ndarray


class Gram:
    """Inner products of named vectors, row by row, in float64; each vector is read once.

    Args:
        vectors: name -> ``[R, ...]``, ``[R / group, ...]`` (one vector for each group of rows) or ``[1, ...]``; at
            least one of them with R rows.
        pairs: the pairs of names whose products are wanted; ``(a, a)`` for a squared norm.
        known: products that were taken before, ``(a, b)`` -> ``[R]``.
        group: how many consecutive rows belong together.
        across: the name of a vector ``[R, ...]`` whose rows are also multiplied with the others of their group.
        cancellation: see ``CANCELLATION``; c keeps squared norms good to about 1e-15 / c of themselves.
    """

    def __init__(
        self,
        vectors: Mapping[str, torch.Tensor],
        pairs: Sequence[tuple[str, str]],
        known: Mapping[tuple[str, str], np.ndarray] | None = None,
        *,
        group: int = 1,
        across: str | None = None,
        cancellation: float = CANCELLATION,
    ) -> None:
        self.vectors, self.group, self.across, self.cancellation = vectors, group, across, cancellation
        self.rows = max(len(vector) for vector in vectors.values())
        tensors: list[torch.Tensor] = []
        alone = tuple((name, len(vector) != self.rows) for name, vector in vectors.items())
        for (_, single), vector in zip(alone, vectors.values(), strict=True):
            tensors += [vector.flatten(1)] if single else _by_member(vector, group)
        wanted, upper = _wanted(alone, tuple(pairs), group, across), _upper(group)
        found = ops.products(tensors, wanted).cpu().numpy()
        own = found[:, : len(pairs) * group].reshape(-1, len(pairs), group)
        self.values = dict(known or {})
        for number, pair in enumerate(pairs):
            self.values[pair] = np.ascontiguousarray(own[:, number]).reshape(-1)
        if across is not None:
            self._cross = np.zeros((len(found), group, group))
            self._cross[:, upper[0], upper[1]] = found[:, len(pairs) * group :]

    def __getitem__(self, pair: tuple[str, str]) -> np.ndarray:
        """The products of two vectors, float64 ``[R]``."""
        found = self.values.get(pair)
        return self.values[pair[::-1]] if found is None else found

    def cosine(self, a: str, b: str) -> np.ndarray:
        """Cosine of two vectors, ``[R]`` in [-1, 1]; NaN where one of them is zero."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found = self[a, b] / np.sqrt(self[a, a] * self[b, b])
        return np.clip(found, -1.0, 1.0)

    def squared_norm(self, **factors: Number) -> np.ndarray:
        """``|sum of factor * vector|^2``, ``[R]``: from the products, or from the vectors where those cancel.

        Args:
            factors: name -> a number or ``[R]``. All products of these vectors must be known.
        """
        total, small = expanded_norm(self, factors, self.cancellation)
        small = np.flatnonzero(small)
        if len(small):
            parts = [self._part(name, small, factor) for name, factor in factors.items()]
            total[small] = torch.stack(parts).sum(0).square().sum(1).cpu().numpy()
        return total

    def distances(self) -> np.ndarray:
        """Distances between the rows of each group in ``across``, float64 ``[R / group, pairs]``, each pair once."""
        first, second = np.triu_indices(self.group, 1)
        squared = np.diagonal(self._cross, axis1=1, axis2=2)
        size = squared[:, first] + squared[:, second]
        result = size - 2.0 * self._cross[:, first, second]
        vector = self.vectors[str(self.across)]
        for owner, pair in np.argwhere(result < self.cancellation * size):
            a, b = (vector[int(owner * self.group + member)].double() for member in (first[pair], second[pair]))
            result[owner, pair] = float((a - b).square().sum())
        return np.sqrt(result)

    def _part(self, name: str, rows: np.ndarray, factor: Number) -> torch.Tensor:
        vector = self.vectors[name]
        chosen = vector[torch.from_numpy(rows * len(vector) // self.rows).to(vector.device)].double().flatten(1)
        weights = np.full(len(rows), factor) if np.ndim(factor) == 0 else np.asarray(factor)[rows]
        return chosen * torch.from_numpy(weights).to(vector.device)[:, None]


def expanded_norm(
    products: "Gram | Mapping[tuple[str, str], np.ndarray]",
    factors: Mapping[str, Number],
    cancellation: float = CANCELLATION,
) -> tuple[np.ndarray, np.ndarray]:
    """``|sum of factor * vector|^2`` from products alone, and where too many of its digits cancelled (bool).

    Args:
        products: ``(a, b)`` -> products of two vectors; they and the factors broadcast against each other.
        factors: name -> a number or an array.
        cancellation: see ``CANCELLATION``.
    """
    names = list(factors)
    total: Number = 0.0
    size: Number = 0.0
    for place, a in enumerate(names):
        own = factors[a] * factors[a] * products[a, a]
        total, size = total + own, size + own
        for b in names[place + 1 :]:
            total = total + 2.0 * (factors[a] * factors[b]) * products[a, b]
    return np.asarray(total), np.asarray(total < cancellation * size)


def _by_member(vector: torch.Tensor, group: int) -> list[torch.Tensor]:
    """The first rows of all groups, the second ones, ...: views where the memory allows."""
    return [vector.flatten(1)] if group == 1 else list(vector.reshape(len(vector) // group, group, -1).unbind(1))


@lru_cache(maxsize=64)
def _wanted(
    vectors: tuple[tuple[str, bool], ...], pairs: tuple[tuple[str, str], ...], group: int, across: str | None
) -> list[tuple[int, int]]:
    """The pairs of tensor numbers for the op; a vector that stands alone is one tensor, another one per member."""
    first, step, count = {}, {}, 0
    for name, single in vectors:
        first[name], step[name] = count, 0 if single else 1
        count += 1 if single else group
    wanted = [(first[a] + k * step[a], first[b] + k * step[b]) for a, b in pairs for k in range(group)]
    if across is not None:
        wanted += [(first[across] + a, first[across] + b) for a, b in zip(*_upper(group).tolist(), strict=True)]
    return wanted


@cache
def _upper(group: int) -> np.ndarray:
    """The pairs (a, b) of a group's members with a <= b, ``[2, pairs]``."""
    return np.array(np.triu_indices(group))
