"""The exact search itself: groups of queries against blocks of the database, streamed, resumable, shared by ranks."""

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np

from memfast.foundation.progress import Progress
from memfast.neighbors.checkpoint import PartStore, SearchCheckpoint, SearchPlan
from memfast.neighbors.inputs import BlockSizes, SearchInputs
from memfast.neighbors.result import Neighbors
from memfast.neighbors.stream import read_ahead, units
from memfast.neighbors.tiles import search_block, search_device, to_device
from memfast.neighbors.topk import RunningTopK, merge_lists, merge_ranks
from memfast.runtime.distributed import Ranks


class ExactSearch:
    """One exact search: its opened inputs, its plan, its state."""

    def __init__(
        self,
        inputs: SearchInputs,
        k: int,
        *,
        exclude_self: bool = False,
        memory: int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        backend: str = "auto",
    ) -> None:
        self.inputs = inputs
        inputs.check_k(k, exclude_self)
        self.k, self.exclude_self, self.backend = int(k), exclude_self, backend
        self.convert_query, self.convert_row = inputs.query_converter, inputs.row_converter
        self.device = search_device(inputs.integers, backend)
        self._sizes = inputs.block_sizes(memory, self.k) if inputs.queries.length else None
        self.checkpoint = None
        if checkpoint is not None and inputs.queries.length:
            self.checkpoint = SearchCheckpoint(checkpoint, self._parameters(), inputs.database.length)

    def run(self, ranks: Ranks, *, progress: bool = False) -> Neighbors:
        """Search this rank's parts and merge with the others'."""
        exactness = "exact" if self.inputs.integers else "certified"
        options = {"k": self.k, "metric": self.inputs.metric, "exclude_self": self.exclude_self}
        self.inputs.check_same_on(ranks, options)
        if self._sizes is None:
            return self.inputs.empty(self.k, exactness)
        self.plan = self._agree_on_plan(ranks, self._sizes)
        with ranks.fail_together():
            done = self._finished(ranks)
        identity = ranks.broadcast(None if done is None else [done[1]["identity"]])
        mine = range(ranks.rank, len(self.plan.parts), ranks.size)
        with ranks.fail_together():
            if identity is None:
                lists = self._search_parts(mine, ranks, progress)
            else:
                lists = self._empty() if done is None else done[0]
                if identity[0] is None or identity[0] != self.inputs.database.identity():
                    self._verify(mine)
        lists.squared_distances, lists.indices = merge_ranks(ranks, lists.squared_distances, lists.indices, self.k)
        lists.fallbacks = ranks.total(lists.fallbacks)
        with ranks.fail_together():
            if self.checkpoint is not None and ranks.rank == 0 and identity is None:
                self.checkpoint.finish(lists, self.inputs.database.identity())
        return Neighbors(lists.squared_distances, lists.indices, exactness, self.inputs.metric, lists.fallbacks)

    def _agree_on_plan(self, ranks: Ranks, sizes: BlockSizes) -> SearchPlan:
        """The plan of the checkpoint, whichever ranks have one, or a new one; every rank's folder notes it."""
        stored = None if self.checkpoint is None else self.checkpoint.stored
        kept = [one for one in ranks.gather_values(None if stored is None else vars(stored)) if one is not None]
        plan = SearchPlan(**ranks.broadcast(kept[0] if kept else vars(self._new_plan(ranks.size, sizes))))
        with ranks.fail_together():
            if self.checkpoint is not None:
                self.checkpoint.begin(plan)
        return plan

    def _new_plan(self, ranks: int, sizes: BlockSizes) -> SearchPlan:
        length = self.inputs.database.length
        cuts = [length * rank // ranks for rank in range(ranks + 1)]
        parts = [list(pair) for pair in pairwise(cuts) if self.inputs.streamed or pair[0] < pair[1]]
        return SearchPlan(sizes.queries, sizes.rows, parts)

    def _finished(self, ranks: Ranks) -> tuple[RunningTopK, dict[str, Any]] | None:
        """The finished result, on rank 0 alone, or None."""
        if self.checkpoint is None or ranks.rank:
            return None
        return self.checkpoint.result(self.inputs.queries.length, self.k)

    def _search_parts(self, mine: range, ranks: Ranks, progress: bool) -> RunningTopK:
        parts, step = self.plan.parts, self.plan.query_rows
        groups = [
            (start, min(start + step, self.inputs.queries.length))
            for start in range(0, self.inputs.queries.length, step)
        ]
        rows = sum(parts[number][1] - parts[number][0] for number in mine) * len(groups)
        whole = self._empty()
        with Progress(
            "searching", None if self.inputs.streamed else rows, "rows", show=progress and ranks.rank == 0
        ) as bar:
            for number in mine:
                store = self._store(number)
                found = self._empty()
                try:
                    for group, (first, last) in enumerate(groups):
                        lists = self._search_group(store, number, group, first, last, ranks, bar)
                        found.squared_distances[first:last], found.indices[first:last] = (
                            lists.squared_distances,
                            lists.indices,
                        )
                        found.fallbacks += lists.fallbacks
                    store.check_unread(self._units(number))
                finally:
                    store.close()
                if len(mine) == 1:
                    return self._counted(found)
                whole.squared_distances, whole.indices = merge_lists(
                    np.stack([whole.squared_distances, found.squared_distances]),
                    np.stack([whole.indices, found.indices]), self.k,
                )  # fmt: skip
                whole.fallbacks += found.fallbacks
        return whole

    def _search_group(
        self, store: PartStore, number: int, group: int, first: int, last: int, ranks: Ranks, bar: Progress
    ) -> RunningTopK:
        part_rows = self.plan.parts[number][1] - self.plan.parts[number][0]
        finished = store.group(group, last - first)
        if finished is not None:
            bar.advance(max(0, part_rows))
            return finished
        done, lists = store.progress(group, last - first) or (
            0,
            RunningTopK(last - first, self.k, self.inputs.distance),
        )
        queries = to_device(self.convert_query(self.inputs.queries.read(first, last), first), self.device)
        own = first if self.exclude_self else None
        blocks = read_ahead(self._blocks(store, number, done))
        merging = False
        try:
            for unit, offset, block, rows in blocks:
                ranks.check_peers()
                if block is not None:
                    with self.inputs.naming_rows(queries, first, block, offset):
                        results = search_block(lists, queries, block, offset, own=own, backend=self.backend)
                    merging = True
                    for found in results:
                        lists.merge(found.first, found.squared_distances, found.indices)
                        lists.fallbacks += found.fallbacks
                    merging, done = False, unit + 1
                    store.note(group, done, lists)
                bar.advance(rows)
        except BaseException:
            if done and not merging:
                with suppress(Exception):
                    store.note(group, done, lists, now=True)
            raise
        finally:
            blocks.close()
        store.finish_group(group, lists)
        return lists

    def _blocks(self, store: PartStore, number: int, done: int) -> Iterator[tuple[int, int, np.ndarray | None, int]]:
        """Unit number, first row, converted block (None where it is done already: only its hash is checked), rows."""
        first = self.plan.parts[number][0]
        for unit, raw in enumerate(self._units(number)):
            offset = first + unit * self.plan.unit_rows
            store.see(unit, raw)
            block = None if unit < done else to_device(self.convert_row(raw, offset), self.device)
            yield unit, offset, block, len(raw)

    def _units(self, number: int) -> Iterator[np.ndarray]:
        start, stop = self.plan.parts[number]
        return units(self.inputs.database, start, stop, self.plan.unit_rows)

    def _verify(self, mine: range) -> None:
        for number in mine:
            self._store(number).check_unread(self._units(number))

    def _counted(self, lists: RunningTopK) -> RunningTopK:
        if self.inputs.streamed:
            self.inputs.check_k(self.k, self.exclude_self)
        return lists

    def _store(self, number: int) -> PartStore:
        first, unit_rows = self.plan.parts[number][0], self.plan.unit_rows
        return PartStore(self.checkpoint, number, first, unit_rows, self.inputs.database, self.k)

    def _empty(self) -> RunningTopK:
        return RunningTopK(self.inputs.queries.length, self.k, self.inputs.distance)

    def _parameters(self) -> dict[str, Any]:
        shards = self.inputs.database.parts()
        return {
            "k": self.k,
            "metric": self.inputs.metric,
            "exclude_self": self.exclude_self,
            "dtype of the queries": self.inputs.queries.dtype.name,
            "dtype of the database": self.inputs.database.dtype.name,
            "numbers per item": self.inputs.database.width,
            "rows of the database": shards[0][1] if len(shards) == 1 else [list(shard) for shard in shards],
            "content of the queries": self.inputs.queries.content_hash(),
        }
