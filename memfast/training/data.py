"""Which items a step trains on, and how they reach the device.

The order is a function of seed and step alone, whatever the device, the number of processes or the past. Position
p = step * batch + j of the endless stream of draws belongs to epoch p // N, and epoch e visits the items in the order
of one 64-bit Philox word per item (stream "order", Philox's step = e; equal words in the order of the index). Batches
run on across epochs, so none is short and N may be smaller than a batch.

The data stay on the device where they fit; otherwise they are read ahead from the source, in the same order.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from memfast import ops
from memfast.data import Source
from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.ops.addresses import WORD, stream_number
from memfast.runtime.memory import free_memory

# A data set stays on the device when it takes at most this share of the memory that is free there.
RESIDENT_SHARE = 0.4
_READ_AHEAD = 4
_READ_ROWS = 4096
_WORDS_AT_ONCE = 1 << 20
_KEPT_EPOCHS = 3


class SampleOrder:
    """The batches of a run.

    Args:
        seed: the run's seed.
        count: the number of items N.
        batch_size: draws per step, over all ranks.
    """

    def __init__(self, seed: int, count: int, batch_size: int) -> None:
        if count < 1:
            raise InputError("training data", expected="at least one item", received="an empty set")
        whole_number("batch_size", batch_size, least=1)
        self.seed, self.count, self.batch_size = seed, count, batch_size
        self._epochs: dict[int, torch.Tensor] = {}

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Data indices and sample ids (epoch * N + index) of a 0-based step: int64 ``[batch_size]`` each."""
        first, last = step * self.batch_size, (step + 1) * self.batch_size
        indices, sample_ids = [], []
        while first < last:
            epoch, place = divmod(first, self.count)
            taken = min(last - first, self.count - place)
            part = self._epoch(epoch)[place : place + taken]
            indices.append(part)
            sample_ids.append(part + epoch * self.count)
            first += taken
        return torch.cat(indices), torch.cat(sample_ids)

    def _epoch(self, epoch: int) -> torch.Tensor:
        if epoch not in self._epochs:
            while len(self._epochs) >= _KEPT_EPOCHS:
                self._epochs.pop(next(iter(self._epochs)))
            self._epochs[epoch] = epoch_order(self.seed, epoch, self.count)
        return self._epochs[epoch]


def epoch_order(seed: int, epoch: int, count: int) -> torch.Tensor:
    """The order of ``count`` items in an epoch: an int64 permutation ``[count]`` on the CPU.

    >>> sorted(epoch_order(0, 3, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    key = ops.key(seed, epoch)
    words = torch.empty(count, dtype=torch.int64)
    for start in range(0, count, _WORDS_AT_ONCE):
        pair = first_words(torch.arange(start, min(start + _WORDS_AT_ONCE, count)), key, "order")
        # Shifted so that the signed order of int64 is the unsigned order of the 64-bit word.
        words[start : start + _WORDS_AT_ONCE] = ((pair[:, 1] - 2**31) << 32) | pair[:, 0]
    return torch.argsort(words, stable=True)


def first_words(sample_ids: torch.Tensor, key: torch.Tensor, stream: str) -> torch.Tensor:
    """The first two Philox words of each sample at ``key`` in ``stream``: int64 ``[B, 2]``, 32 bits each."""
    counter = torch.stack(
        [
            torch.zeros_like(sample_ids),
            sample_ids & WORD,
            key[1].expand_as(sample_ids),
            (stream_number(stream) << 24) | (sample_ids >> 32),
        ],
        dim=-1,
    )
    seed = torch.stack([key[0] & WORD, (key[0] >> 32) & WORD])
    return ops.philox(counter, seed).to(torch.int64)[..., :2]


@dataclass(frozen=True)
class LoadedBatch:
    """One process's part of the batch of one step, as the data hold it.

    Attributes:
        values: ``[B, *data_shape]``.
        labels: int64 ``[B]``, or None.
        indices: int64 ``[B]``, which items of the data.
        sample_ids: int64 ``[B]``, the draws' numbers.
        positions: int64 ``[B]``, places in the global batch.
        total: the global batch's size.
    """

    values: torch.Tensor
    labels: torch.Tensor | None
    indices: torch.Tensor
    sample_ids: torch.Tensor
    positions: torch.Tensor
    total: int

    def chunks(self, count: int) -> list["LoadedBatch"]:
        """The batch in ``count`` parts of one size."""
        if count == 1:
            return [self]
        labels: Sequence[torch.Tensor | None] = [None] * count if self.labels is None else self.labels.chunk(count)
        parts = zip(
            self.values.chunk(count),
            labels,
            self.indices.chunk(count),
            self.sample_ids.chunk(count),
            self.positions.chunk(count),
            strict=True,
        )
        return [LoadedBatch(*part, self.total) for part in parts]


class BatchLoader:
    """Gives each step its batch.

    Args:
        source: the data.
        order: which items each step takes.
        device: where the items go.
        rank: this process's number.
        world: the number of processes; each takes ``batch_size / world`` consecutive places of the batch.
        labels: whether to give labels.
        resident: ``True`` keeps the whole data set on the device, ``False`` reads ahead, None decides by memory.
        readers: threads that read ahead.
    """

    def __init__(
        self,
        source: Source,
        order: SampleOrder,
        device: torch.device,
        *,
        rank: int = 0,
        world: int = 1,
        labels: bool = False,
        resident: bool | None = None,
        readers: int = 2,
    ) -> None:
        self.source, self.order, self.device = source, order, device
        local = order.batch_size // world
        self._part = slice(rank * local, (rank + 1) * local)
        self._positions = torch.arange(self._part.start, self._part.stop, device=device)
        self._labels = None if not labels or source.labels is None else torch.as_tensor(np.asarray(source.labels))
        self.resident = fits_in_memory(source, device) if resident is None else resident
        self._all = _load(source, device) if self.resident else None
        self._pool = None if self.resident else ThreadPoolExecutor(max(1, readers), thread_name_prefix="read-ahead")
        self._ahead: dict[int, Future[LoadedBatch]] = {}

    def batch(self, step: int) -> LoadedBatch:
        """This process's part of the batch of a 0-based step."""
        if self._pool is None:
            return self._make(step)
        for future_step in range(step, step + _READ_AHEAD):
            if future_step not in self._ahead:
                self._ahead[future_step] = self._pool.submit(self._make, future_step)
        return self._ahead.pop(step).result()

    def close(self) -> None:
        """Stop reading ahead."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool, self._ahead = ThreadPoolExecutor(1), {}

    def _make(self, step: int) -> LoadedBatch:
        indices, sample_ids = (part[self._part] for part in self.order.batch(step))
        labels = None if self._labels is None else self._labels[indices].to(self.device)
        on_device = indices.to(self.device)
        if self._all is not None:
            values = self._all[on_device]
        else:
            values = torch.as_tensor(np.ascontiguousarray(self.source.take(indices.numpy()))).to(self.device)
        return LoadedBatch(
            values, labels, on_device, sample_ids.to(self.device), self._positions, self.order.batch_size
        )


def fits_in_memory(source: Source, device: torch.device) -> bool:
    """Whether the whole data set may stay on ``device``."""
    wanted = len(source) * int(np.prod(source.item_shape)) * np.dtype(source.dtype).itemsize
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = free_memory()
    return wanted <= RESIDENT_SHARE * free


def count_classes(source: Source, num_classes: int | None = None) -> int:
    """The number of classes that a source's labels need: one more than the greatest, or ``num_classes``.

    Raises:
        InputError: there are no labels, or one is negative or too great for ``num_classes``.
    """
    labels = source.labels
    if labels is None:
        raise InputError("labels", expected="data with labels", received=f"{source.name} without any")
    least, greatest = int(labels.min()), int(labels.max())
    if least < 0 or (num_classes is not None and greatest >= num_classes):
        expected = "labels from 0" + ("" if num_classes is None else f" to {num_classes - 1}")
        raise InputError("labels", expected=expected, received=f"labels from {least} to {greatest}")
    return greatest + 1 if num_classes is None else num_classes


def check_finite(source: Source, start: int, block: np.ndarray) -> None:
    """Raise where an item holds NaN or infinity; ``block`` begins at item ``start``."""
    if block.dtype != np.uint8 and not np.isfinite(block).all():
        row = start + int(np.argmax(~np.isfinite(block).reshape(len(block), -1).all(axis=1)))
        raise InputError(
            f"{source.name}: item {source.item_name(row)}", expected="finite values", received="NaN or infinity"
        )


def _load(source: Source, device: torch.device) -> torch.Tensor:
    # float64 signals are held as float32: that is what the network and the noise work in.
    dtype = torch.uint8 if np.dtype(source.dtype) == np.uint8 else torch.float32
    everything = torch.empty(len(source), *source.item_shape, dtype=dtype, device=device)
    for start in range(0, len(source), _READ_ROWS):
        stop = min(start + _READ_ROWS, len(source))
        block = np.array(source.block(start, stop))
        check_finite(source, start, block)
        everything[start:stop] = torch.from_numpy(block).to(device, dtype)
    return everything
