"""The items of each step: resident on the device where they fit, else read ahead from the source in the same order."""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from memfast.data import Source
from memfast.foundation.errors import InputError
from memfast.training.order import SampleOrder

# A data set stays on the device when it takes at most this share of the memory that is free there.
RESIDENT_SHARE = 0.4
_READ_AHEAD = 4
_READ_ROWS = 4096


@dataclass(frozen=True)
class Items:
    """One rank's part of one step, as the data hold it.

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

    def chunks(self, count: int) -> list["Items"]:
        """The items in ``count`` parts of one size."""
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
        return [Items(*part, self.total) for part in parts]


class Feed:
    """Gives each step its items.

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
        self.resident = fits(source, device) if resident is None else resident
        self._all = _load(source, device) if self.resident else None
        self._pool = None if self.resident else ThreadPoolExecutor(max(1, readers), thread_name_prefix="read-ahead")
        self._ahead: dict[int, Future[Items]] = {}

    def items(self, step: int) -> Items:
        """The items of a 0-based step."""
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

    def _make(self, step: int) -> Items:
        indices, sample_ids = (part[self._part] for part in self.order.batch(step))
        labels = None if self._labels is None else self._labels[indices].to(self.device)
        on_device = indices.to(self.device)
        if self._all is not None:
            values = self._all[on_device]
        else:
            values = torch.as_tensor(np.ascontiguousarray(self.source.take(indices.numpy()))).to(self.device)
        return Items(values, labels, on_device, sample_ids.to(self.device), self._positions, self.order.batch_size)


def fits(source: Source, device: torch.device) -> bool:
    """Whether the whole data set may stay on ``device``."""
    wanted = len(source) * int(np.prod(source.item_shape)) * np.dtype(source.dtype).itemsize
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    elif hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return False
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


def _load(source: Source, device: torch.device) -> torch.Tensor:
    # float64 signals are held as float32: that is what the network and the noise work in.
    dtype = torch.uint8 if np.dtype(source.dtype) == np.uint8 else torch.float32
    everything = torch.empty(len(source), *source.item_shape, dtype=dtype, device=device)
    for start in range(0, len(source), _READ_ROWS):
        stop = min(start + _READ_ROWS, len(source))
        block = np.array(source.block(start, stop))
        if dtype != torch.uint8 and not np.isfinite(block).all():
            row = start + int(np.argmax(~np.isfinite(block).reshape(len(block), -1).all(axis=1)))
            raise InputError(
                f"{source.name}: item {source.item_name(row)}", expected="finite values", received="NaN or infinity"
            )
        everything[start:stop] = torch.from_numpy(block).to(device, dtype)
    return everything
