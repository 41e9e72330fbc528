"""What a search returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Recall:
    """How many of the true k nearest an approximate search found, measured on a sample of the queries.

    Attributes:
        estimate: fraction found, 0 to 1 (higher is better). A neighbour at the k-th exact distance counts as found
            whichever of several equals it is.
        low: lower end of the Wilson interval.
        high: upper end of the Wilson interval.
        confidence: the interval's confidence level.
        k: neighbours per query.
        queries: number of queries in the sample.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    k: int
    queries: int


@dataclass(frozen=True, eq=False, repr=False)
class Neighbors:
    """The k nearest database rows of every query, ascending in distance, ties by lowest index.

    It unpacks as ``D, I``: the squared distances and the indices.

    Attributes:
        squared_distances: ``[Q, k]``; int64 in squared grey levels for uint8 data, float64 for floats. For the
            cosine metric they are those of the rows scaled to length one; for inner products those of the pairs found.
        indices: int64 ``[Q, k]``, rows of the database.
        exactness: ``"exact"`` (integer arithmetic), ``"certified"`` (floats, proven equal to the float64 search) or
            ``"approximate"`` (an index chose the candidates; their distances are exact).
        metric: ``"euclidean"``, ``"cosine"`` or ``"inner_product"`` (rows descend in inner product).
        fallbacks: queries for which the certificate failed in some block, so that it was searched again in float64;
            a count for curiosity, the result is the same.
        recall: measured recall of an approximate search, None otherwise.
        inner_products: ``[Q, k]``, descending, int64 for uint8 data; None for the other metrics.
    """

    squared_distances: np.ndarray | torch.Tensor
    indices: np.ndarray | torch.Tensor
    exactness: str
    metric: str = "euclidean"
    fallbacks: int = 0
    recall: Recall | None = None
    inner_products: np.ndarray | torch.Tensor | None = None

    def __iter__(self) -> Iterator[np.ndarray | torch.Tensor]:
        """Unpack as faiss does: ``D, I = memfast.knn(...)`` gives the squared distances and the indices."""
        return iter((self.squared_distances, self.indices))

    def __len__(self) -> int:
        return len(self.indices)

    def __eq__(self, other: object) -> bool:
        """Whether the neighbours are the same, number for number, found in the same way."""
        if not isinstance(other, Neighbors):
            return NotImplemented
        arrays = ("squared_distances", "indices", "inner_products")
        return (self.exactness, self.metric) == (other.exactness, other.metric) and all(
            _equal(getattr(self, name), getattr(other, name)) for name in arrays
        )

    def __repr__(self) -> str:
        queries, k = self.indices.shape
        return f"Neighbors({queries} queries, k={k}, {self.exactness}, metric='{self.metric}')"

    @property
    def distances(self) -> np.ndarray | torch.Tensor:
        """Euclidean distances, float64 ``[Q, k]``."""
        return self.squared_distances**0.5

    @property
    def similarities(self) -> np.ndarray | torch.Tensor:
        """Cosine similarities ``[Q, k]``, -1 to 1, descending: ``1 - squared_distance / 2`` of rows of length one.

        Raises:
            AttributeError: the search was not by ``metric="cosine"``.
        """
        if self.metric != "cosine":
            raise AttributeError(f"similarities belong to metric='cosine'; this search was '{self.metric}'")
        return (1.0 - self.squared_distances / 2.0).clip(-1.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists, numbers and strings, ready for JSON."""
        products = {} if self.inner_products is None else {"inner_products": self.inner_products.tolist()}
        return {
            "squared_distances": self.squared_distances.tolist(),
            "indices": self.indices.tolist(),
            "exactness": self.exactness,
            "metric": self.metric,
            "fallbacks": self.fallbacks,
            "recall": None if self.recall is None else vars(self.recall).copy(),
            **products,
        }


def _equal(one: np.ndarray | torch.Tensor | None, other: np.ndarray | torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is None and other is None
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    same: Any = one == other
    return bool(same.all())
