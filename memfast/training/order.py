"""Which items a step trains on: a function of seed and step alone, whatever the device, the world size or the past.

Position p = step * batch + j of the endless stream of draws belongs to epoch p // N, and epoch e visits the items in
the order of one 64-bit Philox word per item (stream "order", Philox's step = e; equal words in the order of the
index). Batches run on across epochs, so none is short and N may be smaller than a batch.
"""

import torch

from memfast import ops
from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.ops.addresses import WORD, stream_number

_BLOCK = 1 << 20
_KEPT_EPOCHS = 3


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


def epoch_order(seed: int, epoch: int, count: int) -> torch.Tensor:
    """The order of ``count`` items in an epoch: an int64 permutation ``[count]`` on the CPU.

    >>> sorted(epoch_order(0, 3, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    key = ops.key(seed, epoch)
    words = torch.empty(count, dtype=torch.int64)
    for start in range(0, count, _BLOCK):
        pair = first_words(torch.arange(start, min(start + _BLOCK, count)), key, "order")
        # Shifted so that the signed order of int64 is the unsigned order of the 64-bit word.
        words[start : start + _BLOCK] = ((pair[:, 1] - 2**31) << 32) | pair[:, 0]
    return torch.argsort(words, stable=True)


class SampleOrder:
    """The batches of a run.

    Args:
        seed: the run's seed.
        count: the number of items N.
        batch_size: draws per step, over all ranks.
    """

    def __init__(self, seed: int, count: int, batch_size: int) -> None:
        if count < 1:
            raise InputError("training data", expected="at least one item", received="none")
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
