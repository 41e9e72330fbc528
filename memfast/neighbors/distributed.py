"""Many processes, many machines: torch.distributed shards the database, and a failing rank ends the job for all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from memfast.foundation.errors import InputError, MemfastError

TIMEOUT = timedelta(hours=12)
_MERGE_QUERIES = 1 << 14
_KEPT = "Finished blocks are kept where a checkpoint was given."


class RankError(MemfastError, RuntimeError):
    """Another rank failed; the text names it and holds its error."""


def launched() -> bool:
    """Whether ``torchrun`` (or another launcher that sets RANK and WORLD_SIZE) started this process."""
    return dist.is_available() and {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


@contextmanager
def session(timeout: timedelta = TIMEOUT) -> Iterator["Ranks"]:
    """Join the job that ``torchrun`` started, for the length of a ``with`` block; alone without a launcher.

    NCCL where this process has a GPU of its own, gloo otherwise. The process group is left again at the end, unless
    it was there before.
    """
    if not launched() or dist.is_initialized():
        yield Ranks.current()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available() and dist.is_nccl_available() and local < torch.cuda.device_count()
    if on_gpu:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timeout)
    try:
        yield Ranks.current()
    finally:
        with suppress(Exception):
            dist.destroy_process_group()


def is_main() -> bool:
    """Whether this process is the one that prints and writes: rank 0, or the only one."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


class Ranks:
    """The processes that share a search.

    Attributes:
        rank: this process's number.
        size: how many there are.
    """

    _calls = 0

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self._key = ""
        if size > 1:
            Ranks._calls += 1
            self._key = f"memfast/failed/{Ranks._calls}"

    @classmethod
    def current(cls, distributed: str | bool = "auto") -> "Ranks":
        """The ranks of the initialised process group, or this process alone.

        Raises:
            InputError: ``distributed`` is neither ``"auto"`` nor False.
        """
        if distributed is not False and distributed != "auto":
            raise InputError("distributed", expected="'auto' or False", received=repr(distributed))
        if distributed is False or not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def from_main(self, value: Any) -> Any:
        """Rank 0's ``value`` (plain numbers, strings, lists and dicts), on every rank."""
        if self.size == 1:
            return value
        return json.loads(self._texts(json.dumps(value) if self.rank == 0 else "")[0])

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run a block on every rank; if it fails on one, it fails on all, and the error names the rank.

        Raises:
            RankError: on the ranks whose own block succeeded.
        """
        if self.size == 1:
            yield
            return
        failure: BaseException | None = None
        try:
            yield
        except Exception as error:
            failure = error
            self._announce()
        text = "" if failure is None or isinstance(failure, _PeerFailed) else _describe(failure)
        told = self._texts(text)
        if failure is not None and not isinstance(failure, _PeerFailed):
            raise failure
        for rank, message in enumerate(told):
            if message:
                raise RankError(f"rank {rank} of {self.size} failed: {message}. {_KEPT}")

    def check_peers(self) -> None:
        """Stop early when another rank has failed; ``together`` then raises its error."""
        store = _store() if self.size > 1 else None
        if store is not None and store.check([self._key]):
            raise _PeerFailed

    def merge(self, squared_distances: np.ndarray, indices: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best of all ranks' lists ``[Q, k]``: exact, the same bits on every rank."""
        if self.size == 1:
            return squared_distances, indices
        from memfast.neighbors.topk import merge_lists

        for start in range(0, len(indices), _MERGE_QUERIES):
            some = slice(start, start + _MERGE_QUERIES)
            both = [self._gather(part[some]) for part in (squared_distances, indices)]
            squared_distances[some], indices[some] = merge_lists(both[0], both[1], k)
        return squared_distances, indices

    def total(self, number: int) -> int:
        """The sum of a number over the ranks."""
        return number if self.size == 1 else int(self._gather(np.array([number], np.int64)).sum())

    def _announce(self) -> None:
        store = _store()
        if store is not None:
            with suppress(Exception):
                store.set(self._key, str(self.rank))

    def _texts(self, text: str) -> list[str]:
        """Every rank's text, as bytes in tensors: object collectives would unpickle what they receive."""
        mine = np.frombuffer(text.encode(), np.uint8)
        lengths = self._gather(np.array([len(mine)], np.int64))[:, 0]
        padded = np.zeros(max(1, int(lengths.max())), np.uint8)
        padded[: len(mine)] = mine
        return [row[:length].tobytes().decode() for row, length in zip(self._gather(padded), lengths, strict=True)]

    def _gather(self, array: np.ndarray) -> np.ndarray:
        device = (
            torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
        )
        mine = torch.from_numpy(np.ascontiguousarray(array)).to(device)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        self._collective(lambda: dist.all_gather(found, mine))
        return torch.stack(found).cpu().numpy()

    def _collective(self, call: Any) -> None:
        try:
            call()
        except Exception as error:
            raise RankError(
                f"rank {self.rank} of {self.size} lost the others: one of them ended or does not answer "
                f"({str(error).splitlines()[0]}). {_KEPT}"
            ) from error


class _PeerFailed(Exception):
    """Another rank has announced a failure."""


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(".")


def _store() -> Any:
    """The process group's key-value store; torch has no public name for it, so its absence only delays a stop."""
    try:
        return dist.distributed_c10d._get_default_store()
    except Exception:
        return None
