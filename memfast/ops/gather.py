"""Noise and loss straight from a uint8 data set in memory: gather, flip, normalise, draw and noise in one launch.

The clean data never exists as floats: the loss reads the same bytes again (1 byte per element, against 8 to write and
read float32), with the same flips, which are addresses too.
"""

import functools
from typing import NamedTuple

import torch

from memfast.foundation.errors import InputError
from memfast.ops.addresses import check_key, check_sample_ids
from memfast.ops.checks import (
    FLOAT_DTYPES,
    check_device,
    check_no_gradient,
    check_prediction,
    check_table,
    describe,
)  # fmt: skip
from memfast.ops.library import define, flat, shaped_like
from memfast.ops.loss import check_reduction, differentiable, gradient_scale, save_gradient, scaled_gradient, value_like
from memfast.ops.random import check_draw
from memfast.ops.registry import implementation


class GatheredNoise(NamedTuple):
    """A noised batch from a data set.

    Attributes:
        x_in: ``[B, ...]``, the network's input.
        timesteps: int64 ``[B]``, given or drawn.
    """

    x_in: torch.Tensor
    timesteps: torch.Tensor


def gather_noise(
    dataset: torch.Tensor,
    indices: torch.Tensor,
    table: torch.Tensor,
    timesteps_or_thresholds: torch.Tensor,
    sample_ids: torch.Tensor,
    key: torch.Tensor,
    fixed_ids: torch.Tensor | None = None,
    *,
    draw: bool = False,
    positions: torch.Tensor | None = None,
    total: int | None = None,
    flip: bool = False,
    dtype: torch.dtype = torch.float32,
    backend: str = "auto",
) -> GatheredNoise:
    """Noise a batch of a uint8 data set: ``x0 = (2 * byte - 255) / 255``, then as :func:`noise` does.

    Args:
        dataset: uint8 ``[N, ...]`` contiguous, items in the network's layout: ``[N, C, H, W]`` or ``[N, L]`` (so
            that an element's address is the same as in :func:`noise`, and a flip reverses the last axis).
        indices: int64 ``[B]``, rows of ``dataset``.
        table: float32 ``[T, 7]``.
        timesteps_or_thresholds: int64 ``[B]`` timesteps; with ``draw`` the thresholds of :func:`draw_timesteps`.
        sample_ids: int64 ``[B]``, addresses of noise, timestep and flip.
        key: int64 ``[2]``.
        fixed_ids: int64 ``[B]`` or None.
        draw: draw the timesteps, in the same launch.
        positions: for stratified draws, as in :func:`draw_timesteps`.
        total: for stratified draws, as in :func:`draw_timesteps`.
        flip: mirror every second sample, on average, along the last axis (stream "augmentation").
        dtype: float32, bfloat16 or float16, of x_in.
        backend: a backend's name, or ``auto``.

    Returns:
        x_in ``[B, ...]`` in ``dtype`` and the timesteps; the same bits as gathering first and calling :func:`noise`.
    """
    batch = _check(dataset, indices, table, sample_ids, key, fixed_ids)
    if dtype not in FLOAT_DTYPES:
        raise InputError("dtype", expected="float32, bfloat16 or float16", received=str(dtype))
    if draw:
        check_draw(timesteps_or_thresholds, sample_ids, positions, total)
    else:
        check_sample_ids(timesteps_or_thresholds, batch, "timesteps")
        check_device("timesteps", timesteps_or_thresholds, dataset)
    arguments = (timesteps_or_thresholds, draw, sample_ids, fixed_ids, key, flip, dtype, positions, total or 1, backend)
    return GatheredNoise(*_gather_noise_op(dataset, indices, table, *arguments))


def gather_loss(
    prediction: torch.Tensor,
    dataset: torch.Tensor,
    indices: torch.Tensor,
    table: torch.Tensor,
    timesteps: torch.Tensor,
    sample_ids: torch.Tensor,
    key: torch.Tensor,
    fixed_ids: torch.Tensor | None = None,
    *,
    flip: bool = False,
    reduction: str = "mean",
    backend: str = "auto",
) -> torch.Tensor:
    """The :func:`loss` of a batch that :func:`gather_noise` made: the same data set, indices, ids, key and ``flip``.

    Returns:
        float32 scalar, or ``[B]`` with ``reduction="none"``; differentiable in ``prediction``.
    """
    batch = _check(dataset, indices, table, sample_ids, key, fixed_ids)
    check_prediction(prediction, torch.Size((batch, *dataset.shape[1:])), dataset)
    check_sample_ids(timesteps, batch, "timesteps")
    check_device("timesteps", timesteps, dataset)
    mean = check_reduction(reduction)
    arguments = (prediction, dataset, indices, table, timesteps, sample_ids, key, fixed_ids, flip, mean, backend)
    return differentiable(_loss_op, _plain_loss_op, _loss_value_op, prediction, arguments)


def _check(dataset, indices, table, sample_ids, key, fixed_ids) -> int:
    if not isinstance(dataset, torch.Tensor) or dataset.dtype != torch.uint8 or dataset.ndim < 2:
        raise InputError("dataset", expected="a uint8 tensor of shape [N, ...]", received=describe(dataset))
    if not dataset.is_contiguous():
        raise InputError(
            "dataset", expected="a contiguous tensor", received=f"strides {dataset.stride()}",
            do="Call .contiguous() once, outside the training loop.",
        )  # fmt: skip
    check_sample_ids(indices, name="indices")
    check_table(table)
    check_no_gradient("table", table)
    check_key(key)
    named = {"indices": indices, "sample_ids": sample_ids, "table": table, "key": key, "fixed_ids": fixed_ids}
    for name, tensor in named.items():
        if name in ("sample_ids", "fixed_ids") and tensor is not None:
            check_sample_ids(tensor, len(indices), name)
        if tensor is not None:
            check_device(name, tensor, dataset)
    return len(indices)


def _width(dataset, flip):
    return dataset.shape[-1] if flip else 0


def _gather_noise(
    dataset, indices, table, timesteps_or_thresholds, draw, sample_ids, fixed_ids, key, flip, dtype, positions, total,
    backend,
):  # fmt: skip
    compute = implementation("gather_noise", dataset.device, backend)
    given = timesteps_or_thresholds.contiguous()
    x_in, timesteps = compute(
        flat(dataset), indices.contiguous(), table.contiguous(), None if draw else given, given if draw else None,
        sample_ids.contiguous(), _dense(fixed_ids), key.contiguous(), _width(dataset, flip), dtype, _dense(positions),
        total,
    )  # fmt: skip
    # An op may not return one of its inputs.
    return x_in.view(-1, *dataset.shape[1:]), timesteps if draw else timesteps.clone()


def _gather_noise_fake(
    dataset, indices, table, timesteps_or_thresholds, draw, sample_ids, fixed_ids, key, flip, dtype, positions, total,
    backend,
):  # fmt: skip
    x_in = dataset.new_empty((indices.shape[0], *dataset.shape[1:]), dtype=dtype)
    return x_in, indices.new_empty(indices.shape)


def _loss(
    prediction, dataset, indices, table, timesteps, sample_ids, key, fixed_ids, flip, mean, backend, with_gradient=True
):
    compute = implementation("gather_loss", prediction.device, backend)
    value, gradient = compute(
        flat(prediction), flat(dataset), indices.contiguous(), table.contiguous(), timesteps.contiguous(),
        sample_ids.contiguous(), _dense(fixed_ids), key.contiguous(), _width(dataset, flip), mean,
        gradient_scale(prediction, mean) if with_gradient else None,
    )  # fmt: skip
    return (value, shaped_like(gradient, prediction)) if with_gradient else value


_loss_value = functools.partial(_loss, with_gradient=False)


def _loss_fake(prediction, dataset, indices, table, timesteps, sample_ids, key, fixed_ids, flip, mean, backend):
    return value_like(prediction, mean), torch.empty_like(prediction)


def _loss_value_fake(prediction, dataset, indices, table, timesteps, sample_ids, key, fixed_ids, flip, mean, backend):
    return value_like(prediction, mean)


def _save(ctx, inputs, output):
    ctx.mark_non_differentiable(output[1])
    save_gradient(ctx, output[1], inputs[-2])


def _backward(ctx, grad, _):
    return scaled_gradient(ctx, grad), *[None] * 10


def _dense(tensor):
    return None if tensor is None else tensor.contiguous()


_gather_noise_op = define(
    "gather_noise(Tensor dataset, Tensor indices, Tensor table, Tensor timesteps_or_thresholds, bool draw,"
    " Tensor sample_ids, Tensor? fixed_ids, Tensor key, bool flip, ScalarType dtype, Tensor? positions, SymInt total,"
    " str backend) -> (Tensor, Tensor)",
    _gather_noise,
    _gather_noise_fake,
)
_ARGUMENTS = (
    "(Tensor prediction, Tensor dataset, Tensor indices, Tensor table, Tensor timesteps, Tensor sample_ids, Tensor key,"
    " Tensor? fixed_ids, bool flip, bool mean, str backend)"
)
_loss_value_op = define(f"gather_loss_value{_ARGUMENTS} -> Tensor", _loss_value, _loss_value_fake)
_plain_loss_op = define(f"plain_gather_loss{_ARGUMENTS} -> (Tensor, Tensor)", _loss, _loss_fake)
_loss_op = define(f"gather_loss{_ARGUMENTS} -> (Tensor, Tensor)", _loss, _loss_fake)
torch.library.register_autograd("memfast::gather_loss", _backward, setup_context=_save)
