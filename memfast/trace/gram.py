"""Inner products of a few vectors per row, and what follows from them: cosines, distances, norms of combinations."""

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

import numpy as np
import torch

from memfast import ops

# A squared norm that is this much smaller than its terms has lost too many digits in the expansion: it is taken from
# the vectors themselves. Products are good to about 1e-15, so what stays is good to 1e-10.
CANCELLATION = 1e-5

Pair = tuple[str, str]
Form = Mapping[str, float]


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
