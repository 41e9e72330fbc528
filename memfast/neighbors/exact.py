"""The exact search itself: groups of queries against blocks of the database, streamed, resumable, shared by ranks."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from memfast.foundation.errors import InputError
from memfast.foundation.progress import Progress
from memfast.neighbors.checkpoint import Checkpoint, PartStore, hash_rows
from memfast.neighbors.device import search_device, to_device
from memfast.neighbors.reading import read_ahead
from memfast.neighbors.result import Neighbors
from memfast.neighbors.sets import Sets
from memfast.neighbors.stream import units
from memfast.neighbors.tiles import search_block
from memfast.neighbors.topk import RunningTopK, merge_lists, merge_ranks
from memfast.runtime.distributed import Ranks


@dataclass(frozen=True)
class Plan:
    """How a search is cut: the same for all ranks, and for a resumed run whatever its memory.

    Attributes:
        query_rows: queries per group.
        unit_rows: database rows per block.
        parts: ranges of database rows, each searched by one rank.
    """

    query_rows: int
    unit_rows: int
    parts: list[list[int]]


class ExactSearch:
    """One exact search: its opened inputs, its plan, its state."""

    def __init__(
        self, queries: Any, database: Any, k: int, exclude_self: bool, metric: str, memory: int | None,
        checkpoint: str | os.PathLike[str] | None, backend: str,
    ) -> None:  # fmt: skip
        self.sets = Sets.open(queries, database, metric)
        self.sets.check_k(k, exclude_self)
        self.k, self.exclude_self, self.memory, self.backend = int(k), exclude_self, memory, backend
        self.convert_query, self.convert_row = self.sets.query_converter, self.sets.row_converter
        self.device = search_device(self.sets.integers, backend)
        self.checkpoint = (
            None if checkpoint is None or not self.sets.queries.length else Checkpoint(checkpoint, self._parameters())
        )

    def prepare(self, ranks: Ranks) -> None:
        """Fix the plan."""
        if self.sets.streamed and ranks.size > 1:
            raise InputError(
                "database", expected="data that ranks can share", received="an iterator", do="Give shards."
            )
        if self.sets.queries.length:
            self._sizes = self.sets.block_sizes(self.memory, self.k)

    def run(self, ranks: Ranks, progress: bool) -> Neighbors:
        """Search this rank's parts and merge with the others'."""
        if self.sets.queries.length == 0:
            return self.sets.empty(self.k, "exact" if self.sets.integers else "certified")
        with ranks.fail_together():
            plan = self._plan(ranks.size) if ranks.rank == 0 else None
        self.plan = Plan(**ranks.broadcast(None if plan is None else vars(plan)))
        done = self.checkpoint.result(self.k) if self.checkpoint is not None and ranks.rank == 0 else None
        finished, identity = ranks.broadcast([done is not None, done[1]["identity"] if done else None])
        mine = range(ranks.rank, len(self.plan.parts), ranks.size)
        with ranks.fail_together():
            if finished:
                lists = done[0] if done is not None else self._empty()
                if identity is None or identity != self.sets.database.identity():
                    self._verify(mine)
            else:
                lists = self._search_parts(mine, ranks, progress)
        lists.squared_distances, lists.indices = merge_ranks(ranks, lists.squared_distances, lists.indices, self.k)
        lists.fallbacks = ranks.total(lists.fallbacks)
        with ranks.fail_together():
            if self.checkpoint is not None and ranks.rank == 0 and not finished:
                self.checkpoint.finish(lists, self.sets.database.identity())
        exactness = "exact" if self.sets.integers else "certified"
        return Neighbors(lists.squared_distances, lists.indices, exactness, self.sets.metric, lists.fallbacks)

    def _plan(self, ranks: int) -> Plan:
        length = self.sets.database.length
        cuts = [length * rank // ranks for rank in range(ranks + 1)]
        parts = [list(pair) for pair in pairwise(cuts) if self.sets.streamed or pair[0] < pair[1]]
        plan = Plan(self._sizes.queries, self._sizes.rows, parts)
        return plan if self.checkpoint is None else Plan(**self.checkpoint.plan(vars(plan)))

    def _search_parts(self, mine: range, ranks: Ranks, progress: bool) -> RunningTopK:
        parts, step = self.plan.parts, self.plan.query_rows
        groups = [
            (start, min(start + step, self.sets.queries.length)) for start in range(0, self.sets.queries.length, step)
        ]
        rows = sum(parts[number][1] - parts[number][0] for number in mine) * len(groups)
        whole = self._empty()
        with Progress(
            "searching", None if self.sets.streamed else rows, "rows", show=progress and ranks.rank == 0
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
        finished = store.group(group)
        if finished is not None:
            bar.advance(max(0, part_rows))
            return finished
        done, lists = store.progress(group) or (0, RunningTopK(last - first, self.k, self.sets.distance))
        queries = to_device(self.convert_query(self.sets.queries.read(first, last), first), self.device)
        own = first if self.exclude_self else None
        blocks = read_ahead(self._blocks(store, number, done))
        merging = False
        try:
            for unit, offset, block, rows in blocks:
                ranks.check_peers()
                if block is not None:
                    with self.sets.naming_rows(queries, first, block, offset):
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
        return units(self.sets.database, start, stop, self.plan.unit_rows)

    def _verify(self, mine: range) -> None:
        for number in mine:
            self._store(number).check_unread(self._units(number))

    def _counted(self, lists: RunningTopK) -> RunningTopK:
        if self.sets.streamed:
            self.sets.check_k(self.k, self.exclude_self)
        return lists

    def _store(self, number: int) -> PartStore:
        folder = None if self.checkpoint is None else self.checkpoint.folder
        return PartStore(folder, number, self.plan.parts[number][0], self.plan.unit_rows, self.sets.database)

    def _empty(self) -> RunningTopK:
        return RunningTopK(self.sets.queries.length, self.k, self.sets.distance)

    def _parameters(self) -> dict[str, Any]:
        shards = self.sets.database.parts()
        return {
            "k": self.k,
            "metric": self.sets.metric,
            "exclude_self": self.exclude_self,
            "dtype of the queries": self.sets.queries.dtype.name,
            "dtype of the database": self.sets.database.dtype.name,
            "numbers per item": self.sets.database.width,
            "rows of the database": shards[0][1] if len(shards) == 1 else [list(shard) for shard in shards],
            "content of the queries": hash_rows(self.sets.queries),
        }
