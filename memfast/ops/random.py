"""Random numbers by address: Philox words, standard normals and timestep draws."""

import torch

from memfast.foundation.errors import InputError
from memfast.ops.addresses import WORD, check_key, check_sample_ids, stream_number
from memfast.ops.checks import MAX_ELEMENTS, check_device, check_draw, check_range, describe
from memfast.ops.library import define
from memfast.ops.operands import DRAW_SCHEMA, Draw
from memfast.ops.registry import implementation


def philox(counter: torch.Tensor, key: torch.Tensor, *, backend: str = "auto") -> torch.Tensor:
    """Philox4x32-10: four random words of each counter (Salmon et al. 2011).

    Args:
        counter: int64 ``[..., 4]``, each entry an unsigned 32-bit word.
        key: int64 ``[..., 2]``, each entry an unsigned 32-bit word; broadcast against the counter.
        backend: a backend's name, or ``auto``.

    Returns:
        int64 ``[..., 4]``, each entry an unsigned 32-bit word.

    Raises:
        InputError: another shape or dtype, or (on a CPU) an entry that is no 32-bit word.

    >>> [hex(word) for word in philox(torch.zeros(4, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)).tolist()]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    for name, words, width in (("counter", counter, 4), ("key", key, 2)):
        if not isinstance(words, torch.Tensor) or words.dtype != torch.int64 or words.shape[-1:] != (width,):
            raise InputError(name, expected=f"an int64 tensor of shape [..., {width}]", received=describe(words))
    check_device("key", key, counter)
    shape = torch.broadcast_shapes(counter.shape[:-1], key.shape[:-1])
    return _philox_op(counter.expand(*shape, 4), key.expand(*shape, 2), backend)


def standard_normal(
    sample_ids: torch.Tensor,
    numel: int,
    key: torch.Tensor,
    stream: str | int = "noise",
    backend: str = "auto",
    *,
    offset: int = 0,
) -> torch.Tensor:
    """The noise itself: standard normals of each sample, a pure function of (seed, step, stream, sample id, element).

    Args:
        sample_ids: int64 ``[B]``, from 0 to 2**56 - 1.
        numel: elements per sample.
        key: int64 ``[2]``, from :func:`memfast.key`.
        stream: a stream's name or number; a sample has independent normals in each.
        backend: a backend's name, or ``auto``.
        offset: number of the first element; elements go up to 2**34.

    Returns:
        float32 ``[B, numel]``, the same bits on every backend.

    Raises:
        InputError: another shape or dtype, ``offset + numel`` beyond 2**34, or (on a CPU) a step or an id out of range.

    >>> from memfast.ops import key
    >>> whole = standard_normal(torch.tensor([5]), 8, key(1))
    >>> torch.equal(whole[:, 3:], standard_normal(torch.tensor([5]), 5, key(1), offset=3))
    True
    """
    check_sample_ids(sample_ids)
    check_key(key)
    check_device("key", key, sample_ids)
    if numel < 0 or offset < 0 or offset + numel > MAX_ELEMENTS:
        raise InputError("offset + numel", expected="from 0 to 2**34", received=f"{offset} + {numel}")
    return _standard_normal_op(sample_ids, numel, key, stream_number(stream), offset, backend)


def draw_timesteps(
    thresholds: torch.Tensor,
    sample_ids: torch.Tensor,
    key: torch.Tensor,
    *,
    positions: torch.Tensor | None = None,
    total: int | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Draw one timestep per sample from a density given as 64-bit thresholds: exact, without rejection.

    Args:
        thresholds: int64 ``[n]`` ascending, floor(cdf_j * 2**64) - 2**63 (:func:`memfast.timesteps.thresholds`).
        sample_ids: int64 ``[B]``.
        key: int64 ``[2]``.
        positions: int64 ``[B]``, the samples' places in the global batch: stratified draws, one per stratum.
        total: size of the global batch, at most 2**31; needed with ``positions``.
        backend: a backend's name, or ``auto``.

    Returns:
        int64 ``[B]``, 0-based, from 0 to n.

    Raises:
        InputError: another shape or dtype, ``positions`` without ``total``, or (on a CPU) a value out of range.
    """
    draw = Draw(thresholds, positions, total)
    check_draw(draw, sample_ids)
    check_key(key)
    check_device("key", key, sample_ids)
    return _draw_timesteps_op(*Draw.flat(draw), sample_ids, key, backend)


def _philox(counter, key, backend):
    for name, words in (("counter", counter), ("key", key)):
        if words.device.type == "cpu" and words.numel():
            check_range(name, words, WORD)
    compute = implementation("philox", counter.device, backend)
    return compute(counter.reshape(-1, 4).contiguous(), key.reshape(-1, 2).contiguous()).view(counter.shape)


def _standard_normal(sample_ids, numel, key, stream, offset, backend):
    compute = implementation("standard_normal", sample_ids.device, backend)
    return compute(sample_ids.contiguous(), numel, key.contiguous(), stream, offset)


def _draw_timesteps(*arguments):
    draw, (sample_ids, key, backend) = Draw.split(arguments)
    compute = implementation("draw_timesteps", sample_ids.device, backend)
    return compute(draw, sample_ids.contiguous(), key.contiguous())


_philox_op = define(
    "philox(Tensor counter, Tensor key, str backend) -> Tensor",
    _philox,
    lambda counter, key, backend: counter.new_empty(counter.shape),
)
_standard_normal_op = define(
    "standard_normal(Tensor sample_ids, SymInt numel, Tensor key, int stream, SymInt offset, str backend) -> Tensor",
    _standard_normal,
    lambda sample_ids, numel, key, stream, offset, backend: sample_ids.new_empty(
        (sample_ids.shape[0], numel), dtype=torch.float32
    ),
)
_draw_timesteps_op = define(
    f"draw_timesteps({DRAW_SCHEMA}, Tensor sample_ids, Tensor key, str backend) -> Tensor",
    _draw_timesteps,
    lambda thresholds, positions, total, sample_ids, key, backend: sample_ids.new_empty(sample_ids.shape),
)
