"""Exact k nearest neighbours of any size: streamed, resumable, sharded over processes."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from memfast.foundation.errors import InputError
from memfast.neighbors.exact import ExactSearch
from memfast.neighbors.inner_product import inner_product_knn
from memfast.neighbors.result import Neighbors
from memfast.runtime.distributed import Ranks

if TYPE_CHECKING:
    from memfast.neighbors.faiss_index import ApproximateIndex


def knn(
    queries: Any,
    database: Any,
    k: int,
    *,
    exclude_self: bool = False,
    metric: str = "euclidean",
    memory: int | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    backend: str = "auto",
    distributed: str | bool = "auto",
    approximate: str | ApproximateIndex | None = None,
) -> Neighbors:
    """The k nearest database items of every query, exact, ascending, ties by lowest index.

    Items of any shape are flattened. uint8 data is compared in integers; floats are screened fast, recomputed in
    float64 and certified. The result does not depend on block sizes, memory, resumption or the number of processes.

    Args:
        queries: array, tensor, memory map, ``.npy`` file, folder or list of ``.npy`` shards, source, or
            iterator of blocks. No queries give an empty result.
        database: the same kinds. An iterator is read once, so all queries must fit the memory.
        k: neighbours per query, 1 to the number of database items.
        exclude_self: queries and database are one set; item i is left out for query i (its duplicates are not).
        metric: ``"euclidean"``; ``"cosine"``: rows are scaled to length one and rounded to float32; or
            ``"inner_product"``: the largest products first, in ``inner_products``; exact, without ``checkpoint`` and
            ``approximate``.
        memory: bytes for the search beyond inputs and result; default a quarter of what is free.
        progress: show progress on stderr.
        checkpoint: a folder. A search that was killed continues there and ends with the same bits.
        backend: of the kernel, ``"auto"`` or a name.
        distributed: ``"auto"`` shards the database over the ranks of an initialised ``torch.distributed``; every rank
            gets the whole result. False searches here alone.
        approximate: a faiss ``index_factory`` string, or an ``ApproximateIndex``: its candidates are re-ranked
            exactly and the recall is measured. ``checkpoint`` and ``distributed`` do not apply to it.

    Returns:
        Neighbors; torch tensors where ``queries`` is one, NumPy arrays otherwise.

    Raises:
        InputError: empty set, different item sizes, k > N, NaN or infinity (the row is named), values that no common
            dtype holds.
        CheckpointError: the checkpoint belongs to another search, or the data changed since.
        RankError: another rank failed.

    >>> import numpy as np
    >>> found = knn(np.array([[0], [5]], np.uint8), np.array([[1], [4], [9]], np.uint8), k=2)
    >>> found.indices.tolist(), found.squared_distances.tolist()
    ([[0, 1], [1, 0]], [[1, 16], [1, 16]])
    """
    if metric == "inner_product":
        _only_exact(checkpoint=checkpoint, approximate=approximate)
        found = inner_product_knn(
            queries, database, k,
            exclude_self=exclude_self, memory=memory, progress=progress, ranks=Ranks.current(distributed),
        )  # fmt: skip
        return _as_given(found, queries)
    if approximate is not None:
        from memfast.neighbors.approximate import approximate_knn

        found = approximate_knn(
            queries, database, k, approximate,
            exclude_self=exclude_self, metric=metric, memory=memory, progress=progress, backend=backend,
        )  # fmt: skip
        return _as_given(found, queries)
    ranks = Ranks.current(distributed)
    with ranks.fail_together():
        search = ExactSearch(queries, database, k, exclude_self, metric, memory, checkpoint, backend)
        search.prepare(ranks)
    found = search.run(ranks, progress)
    return _as_given(found, queries)


def _only_exact(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise InputError(name, expected="None with metric='inner_product'", received=repr(value))


def _as_given(found: Neighbors, queries: Any) -> Neighbors:
    if not isinstance(queries, torch.Tensor):
        return found
    names = ("squared_distances", "indices", "inner_products")
    arrays = {name: getattr(found, name) for name in names if getattr(found, name) is not None}
    given: dict[str, Any] = {name: torch.from_numpy(array).to(queries.device) for name, array in arrays.items()}
    return replace(found, **given)
