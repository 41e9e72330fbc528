"""Several processes, one job: ranks from ``torchrun``, exact collectives, and one failure that ends all of them.

Everything in memfast that runs on several processes goes through `Ranks`. A block inside `Ranks.fail_together` either
succeeds on every rank or ends every rank with the error of the one that failed, also where the others wait in a
collective at that moment.
"""

import atexit
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist

from memfast.foundation.errors import InputError, MemfastError, first_line

# Ranks may be hours apart (a slow disk, a rank that writes a page): only a lost connection ends a wait earlier.
TIMEOUT = timedelta(hours=12)
# A rank that failed waits this long for the others to reach the end of the block before it breaks their collectives.
GRACE_SECONDS = 8.0
_POLL_SECONDS = 0.05
_PARENT_SECONDS = 2.0
_KEPT = "Finished work is kept where a checkpoint was given."


class RankError(MemfastError, RuntimeError):
    """Another rank failed; the text names it and holds its error."""


class Ranks:
    """The processes that share a job.

    Attributes:
        rank: this process's number; 0 writes files and shows progress.
        size: how many there are.
        local_rank: this process's number on its machine, which is its GPU's.
    """

    _blocks = 0
    _open: ClassVar[list[int]] = []
    _aborted: str | None = None

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank

    @classmethod
    def current(cls, distributed: str | bool = "auto") -> "Ranks":
        """The ranks of the initialised process group, or this process alone.

        Args:
            distributed: ``"auto"``, or False for this process alone whatever group there is.

        Raises:
            InputError: ``distributed`` is something else.
            RankError: the group was given up after a failure.
        """
        if distributed is not False and distributed != "auto":
            raise InputError("distributed", expected="'auto' or False", received=repr(distributed))
        if distributed is False:
            return cls()
        if cls._aborted is not None:
            raise RankError(f"the process group was given up after a failure: {cls._aborted}")
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size(), _environment_number("LOCAL_RANK", 0))

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    @contextmanager
    def fail_together(self, what: str = "") -> Iterator[None]:
        """Run a block on every rank; if it fails on one, it fails on all, and the error names the rank.

        Every `Exception` counts. Ranks that wait in a collective while another one fails are released from it.

        Args:
            what: what the block is about, for the error of the ranks whose own part succeeded.

        Raises:
            RankError: on the ranks whose own block succeeded.
        """
        if self.size == 1:
            yield
            return
        Ranks._blocks += 1
        Ranks._open.append(Ranks._blocks)
        failure: Exception | None = None
        try:
            try:
                yield
            except _PeerFailed:
                pass
            except Exception as error:
                failure = self._translated(error)
                self._announce(failure)
            told = self._reports(failure)
        finally:
            Ranks._open.pop()
        if failure is not None:
            raise failure
        for rank, message in enumerate(told):
            if message:
                raise RankError(self._failed(rank, message, what))

    def check_peers(self) -> None:
        """Stop early where another rank has failed; ``fail_together`` then raises its error."""
        if self.size > 1 and self._announced() is not None:
            raise _PeerFailed

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            self._collective(dist.barrier)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over the ranks, in place."""
        if self.size > 1:
            self._collective(lambda: dist.all_reduce(values))
        return values

    def total(self, number: int) -> int:
        """The sum of a whole number over the ranks."""
        return number if self.size == 1 else int(self.gather(np.array([number], np.int64)).sum())

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return flag if self.size == 1 else self.total(int(flag)) > 0

    def broadcast(self, value: Any) -> Any:
        """Rank 0's ``value`` on every rank: plain numbers, strings, lists and dicts."""
        if self.size == 1:
            return value
        return json.loads(self._texts(json.dumps(value) if self.rank == 0 else "")[0])

    @torch.no_grad()
    def broadcast_tensors(self, tensors: Iterable[torch.Tensor], device: torch.device | None = None) -> None:
        """Give every rank rank 0's values of these tensors, in place; ``device`` is where they travel."""
        for tensor in tensors if self.size > 1 else ():
            sent = tensor.to(device or tensor.device)
            self._collective(partial(dist.broadcast, sent, 0))
            if sent is not tensor:
                tensor.copy_(sent)

    def gather_values(self, value: Any) -> list[Any]:
        """Every rank's ``value`` (plain numbers, strings, lists and dicts), in the order of the ranks."""
        if self.size == 1:
            return [value]
        return [json.loads(text) for text in self._texts(json.dumps(value))]

    def gather(self, array: np.ndarray) -> np.ndarray:
        """The arrays of all ranks, which have one shape: ``[size, ...]``, the same on every rank."""
        mine = np.array(array, order="C")
        if self.size == 1 or mine.size == 0:
            return np.stack([mine] * self.size)
        # Bytes travel: some backends know neither bool nor unsigned numbers.
        sent = torch.from_numpy(mine.reshape(-1).view(np.uint8)).to(_device())
        found = [torch.empty_like(sent) for _ in range(self.size)]
        self._collective(lambda: dist.all_gather(found, sent))
        parts = [part.cpu().numpy().view(mine.dtype).reshape(mine.shape) for part in found]
        return np.stack(parts)

    def concatenate(self, array: np.ndarray) -> np.ndarray:
        """The rows of all ranks' arrays ``[n_r, ...]``, one rank after the other; the lengths may differ."""
        mine = np.ascontiguousarray(array)
        if self.size == 1:
            return mine
        lengths = self.gather(np.array([len(mine)], np.int64))[:, 0]
        padded = np.zeros((int(lengths.max()), *mine.shape[1:]), mine.dtype)
        padded[: len(mine)] = mine
        parts = self.gather(padded)
        return np.concatenate([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def _texts(self, text: str) -> list[str]:
        """Every rank's text, as bytes: object collectives would unpickle what they receive."""
        mine = np.frombuffer(text.encode("utf-8", "backslashreplace"), np.uint8)
        lengths = self.gather(np.array([len(mine)], np.int64))[:, 0]
        padded = np.zeros(max(1, int(lengths.max())), np.uint8)
        padded[: len(mine)] = mine
        return [row[:length].tobytes().decode() for row, length in zip(self.gather(padded), lengths, strict=True)]

    def _reports(self, failure: Exception | None) -> list[str]:
        """How the block ended on every rank: nothing, or its error in words."""
        mine = "" if failure is None or isinstance(failure, RankError) else _describe(failure)
        if not self._arrive(wait=failure is not None):
            self._give_up(mine)
            return []
        reports = [json.loads(text) for text in self._texts(json.dumps([Ranks._blocks, mine]))]
        # A rank that failed early has opened fewer blocks than the others: all go on from one number.
        Ranks._blocks = max(number for number, _ in reports)
        return [message for _, message in reports]

    def _collective(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:
            raise self._lost(error) from error

    def _translated(self, failure: Exception) -> Exception:
        """A collective of PyTorch's own that broke (in DDP, say) is another rank's failure: say whose."""
        if isinstance(failure, RankError) or not isinstance(failure, RuntimeError):
            return failure
        if self._announced() is None and not _is_lost_connection(failure):
            return failure
        found = self._lost(failure)
        found.__cause__ = failure
        return found

    def _lost(self, error: BaseException) -> RankError:
        said = self._announced(wait=2.0)
        if said is not None:
            rank, _, message = said.partition(" ")
            return RankError(self._failed(int(rank), message, ""))
        return RankError(
            f"rank {self.rank} of {self.size} lost the others: one of them ended or does not answer "
            f"({first_line(error)}). {_KEPT}"
        )

    def _failed(self, rank: int, message: str, what: str) -> str:
        return (f"{what}: " if what else "") + f"rank {rank} of {self.size} failed: {message}. {_KEPT}"

    def _announce(self, failure: Exception) -> None:
        store = _store()
        if store is not None and not isinstance(failure, RankError):
            with suppress(Exception):
                for block in Ranks._open:
                    store.set(_failed_key(block), f"{self.rank} {_describe(failure)}")

    def _announced(self, wait: float = 0.0) -> str | None:
        """Another rank's number and error in one of the blocks that are open here, or None."""
        store, end = _store(), time.monotonic() + wait
        while store is not None:
            try:
                for block in Ranks._open:
                    if store.check([_failed_key(block)]):
                        return store.get(_failed_key(block)).decode()
            except Exception:
                return None
            if time.monotonic() >= end:
                return None
            time.sleep(_POLL_SECONDS)
        return None

    def _arrive(self, *, wait: bool) -> bool:
        """Note that this rank reached the end of the block; with ``wait``, see whether all others do in time."""
        store = _store()
        if store is None:
            return True
        key = f"memfast/arrived/{Ranks._open[-1]}"
        try:
            arrived, end = int(store.add(key, 1)), time.monotonic() + GRACE_SECONDS
            while wait and arrived < self.size and time.monotonic() < end:
                time.sleep(_POLL_SECONDS)
                arrived = int(store.add(key, 0))
            return not wait or arrived >= self.size
        except Exception:
            return False

    def _give_up(self, why: str) -> None:
        """Leave the process group, which breaks the collectives that the other ranks wait in."""
        Ranks._aborted = why or "a rank was lost"
        # The others read the announcement from the store, which may live in this process: it is kept.
        _kept_stores.append(_store())
        with suppress(Exception):
            dist.destroy_process_group()


class _PeerFailed(Exception):
    """Another rank has announced a failure."""


_kept_stores: list[Any] = []


def launched() -> bool:
    """Whether ``torchrun`` (or another launcher that sets RANK and WORLD_SIZE) started this process."""
    return dist.is_available() and {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


def is_main() -> bool:
    """Whether this process is the one that prints and writes: rank 0, or the only one."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def join(timeout: timedelta = TIMEOUT) -> Ranks:
    """Join the job that a launcher started, until Python ends; alone without a launcher.

    NCCL where this process has a GPU of its own, gloo otherwise. An initialised process group is used as it is.

    Raises:
        InputError: the launcher's variables are no numbers.
    """
    if launched() and not dist.is_initialized() and Ranks._aborted is None and _environment_number("WORLD_SIZE", 1) > 1:
        _start(timeout)
        atexit.register(_leave)
    return Ranks.current()


@contextmanager
def session(timeout: timedelta = TIMEOUT) -> Iterator[Ranks]:
    """Join the job that ``torchrun`` started for the length of a ``with`` block; alone without a launcher.

    The process group is left again at the end, unless it was there before.
    """
    if not launched() or dist.is_initialized():
        yield Ranks.current()
        return
    _start(timeout)
    try:
        yield Ranks.current()
    finally:
        _leave()


def _start(timeout: timedelta) -> None:
    _environment_number("RANK", 0), _environment_number("WORLD_SIZE", 1)
    local = _environment_number("LOCAL_RANK", 0)
    on_gpu = torch.cuda.is_available() and dist.is_nccl_available() and local < torch.cuda.device_count()
    if on_gpu:
        torch.cuda.set_device(local)
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timeout)
        # A rank that fails at once must not leave, with the store, while others are still connecting.
        dist.barrier()
    except (RuntimeError, ValueError) as error:
        _leave()
        raise RankError(
            f"rank {os.environ['RANK']} could not join the other ranks ({first_line(error)}). "
            "Look at what the others say, and start all of them again."
        ) from error
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), name="memfast-parent", daemon=True).start()


def _leave() -> None:
    # The backend's threads must not meet the interpreter's end: a run that succeeded could end with an error.
    if dist.is_initialized():
        with suppress(Exception):
            dist.destroy_process_group()


def _end_with_parent(parent: int) -> None:
    """End this rank where its launcher was killed: nobody would end it, and it would wait for the others for hours."""
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    print("memfast: the launcher of this rank has ended; the rank ends too.", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10 * _PARENT_SECONDS)
    os._exit(128 + signal.SIGTERM)


def _environment_number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.strip().isdecimal():
        raise InputError(
            name, expected="a whole number, as a launcher sets it", received=repr(text),
            do=f"Unset {name}, or start memfast with torchrun.",
        )  # fmt: skip
    return int(text)


def _device() -> torch.device:
    on_gpu = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(".")


def _is_lost_connection(error: Exception) -> bool:
    text = str(error).lower()
    return any(sign in text for sign in ("connection closed", "connection reset", "broken pipe", "timed out waiting"))


def _failed_key(block: int) -> str:
    return f"memfast/failed/{block}"


def _store() -> Any:
    """The process group's key-value store; torch has no public name for it, so its absence only delays a stop."""
    try:
        return dist.distributed_c10d._get_default_store()
    except Exception:
        return _kept_stores[-1] if _kept_stores else None
