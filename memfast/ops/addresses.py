"""Noise is an address, not a buffer: how (seed, step, sample id, element, stream) becomes a Philox counter.

counter = (element // 4, sample_id low 32 bits, step, stream << 24 | sample_id bits 32..55); key = seed's two halves.
"""

import torch

from memfast.foundation.arguments import seed_number, whole_number
from memfast.foundation.errors import InputError

# A stream is one use of randomness; two streams never share an address.
STREAMS = {"noise": 0, "timestep": 1, "fixed": 2, "augmentation": 3, "condition": 4, "initial": 5, "order": 6}
MAX_SAMPLE_ID = 2**56 - 1
WORD = 0xFFFFFFFF


def key(seed: int = 0, step: int = 0) -> torch.Tensor:
    """The address of one training step's randomness: an int64 tensor ``[2]`` holding (seed, step).

    It is data, not a Python number, so that a captured graph can be replayed with another step.

    Args:
        seed: any integer from -2**63 to 2**64 - 1; its 64 bits are Philox's key.
        step: the step, from 0 to 2**32 - 1.

    Raises:
        InputError: one is not a whole number, or out of its range.

    >>> key(seed=7, step=3)
    tensor([7, 3])
    """
    seed, step = seed_number("seed", seed), whole_number("step", step, least=0, greatest=WORD)
    return torch.tensor([seed - 2**64 if seed >= 2**63 else seed, step], dtype=torch.int64)


def stream_number(stream: str | int) -> int:
    """The number of a stream given by name or number (0..255)."""
    if isinstance(stream, str):
        if stream not in STREAMS:
            raise InputError("stream", expected="one of " + ", ".join(STREAMS), received=repr(stream))
        return STREAMS[stream]
    return whole_number("stream", stream, least=0, greatest=255)


def check_key(key: torch.Tensor) -> None:
    """Raise unless ``key`` is an int64 tensor of shape ``[2]``."""
    if not isinstance(key, torch.Tensor) or key.dtype != torch.int64 or key.shape != (2,):
        received = f"{key.dtype} {list(key.shape)}" if isinstance(key, torch.Tensor) else type(key).__name__
        raise InputError(
            "key", expected="an int64 tensor of shape [2]", received=received, do="Use memfast.key(seed, step)."
        )


def check_sample_ids(sample_ids: torch.Tensor | None, batch: int | None = None, name: str = "sample_ids") -> None:
    """Raise unless ``sample_ids`` is an int64 vector (of length ``batch``)."""
    if not isinstance(sample_ids, torch.Tensor) or sample_ids.dtype != torch.int64 or sample_ids.ndim != 1:
        received = (
            f"{sample_ids.dtype} {list(sample_ids.shape)}"
            if isinstance(sample_ids, torch.Tensor)
            else type(sample_ids).__name__
        )
        raise InputError(name, expected=_vector(batch), received=received)
    # The text is made only where it is needed: as a string a batch size would be constant in a compiled graph.
    if batch is not None and sample_ids.shape[0] != batch:
        received = f"length {len(sample_ids)}"
        raise InputError(name, expected=_vector(batch), received=received, do="Give one id per sample.")


def _vector(length: int | None) -> str:
    return f"an int64 tensor of shape [{'B' if length is None else length}]"
