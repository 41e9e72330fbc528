"""Losses: mean of (k_p * prediction - (k_x * x0 + k_f * fixed + k_n * noise))**2, and its gradient in one pass."""

import functools
import math

import torch

from memfast.foundation.errors import InputError
from memfast.ops.arithmetic import ieee_arithmetic
from memfast.ops.checks import (
    check_no_gradient,
    check_no_gradient_transform,
    check_no_transform,
    check_operands,
    check_prediction,
)
from memfast.ops.library import define, shaped_like
from memfast.ops.operands import OPERANDS, OPERANDS_SCHEMA, Operands, flat, flip_width
from memfast.ops.registry import implementation

REDUCTIONS = ("mean", "none")


def loss(
    prediction: torch.Tensor,
    x0: torch.Tensor,
    table: torch.Tensor,
    timesteps: torch.Tensor,
    sample_ids: torch.Tensor,
    key: torch.Tensor,
    fixed_ids: torch.Tensor | None = None,
    *,
    reduction: str = "mean",
    backend: str = "auto",
) -> torch.Tensor:
    """The weighted squared error of a prediction; the noise is made again from its address, never stored.

    ``residual = k_p * prediction - (k_x * x0 + k_f * fixed + k_n * noise)``; a sample's loss is the mean of residual**2
    over its elements. The gradient is computed in the forward pass where autograd wants one.

    Args:
        prediction: ``[B, ...]``, the network's output, in the shape of ``x0``; its dtype may differ.
        x0: ``[B, ...]`` clean data.
        table: float32 ``[T, 7]``, columns a_x, a_f, a_n, k_p, k_x, k_f, k_n.
        timesteps: int64 ``[B]``, as given to :func:`noise`.
        sample_ids: int64 ``[B]``, as given to :func:`noise`.
        key: int64 ``[2]``, as given to :func:`noise`.
        fixed_ids: int64 ``[B]`` or None, as given to :func:`noise`.
        reduction: ``mean`` (a scalar, the mean over the batch; 0 for an empty one) or ``none`` (``[B]``).
        backend: a backend's name, or ``auto``.

    Returns:
        float32 loss, once differentiable in ``prediction`` only.

    Raises:
        InputError: shapes, dtypes, devices or (on a CPU) values do not fit.
    """
    return _checked_loss(prediction, Operands(x0, table, timesteps, sample_ids, key, fixed_ids), reduction, backend)


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

    Raises:
        InputError: shapes, dtypes, devices or (on a CPU) values do not fit.
    """
    width = flip_width(dataset, flip)
    operands = Operands(dataset, table, timesteps, sample_ids, key, fixed_ids, indices, width)
    return _checked_loss(prediction, operands, reduction, backend)


def _checked_loss(prediction: torch.Tensor, operands: Operands, reduction: str, backend: str) -> torch.Tensor:
    """The loss by the cheapest op that gives the gradient autograd wants."""
    check_operands(operands)
    check_prediction(prediction, torch.Size(operands.shape), operands.x0)
    check_no_gradient("x0", operands.x0)
    if reduction not in REDUCTIONS:
        raise InputError("reduction", expected="'mean' or 'none'", received=repr(reduction))
    if torch.compiler.is_compiling():
        # The compiler does not see requires_grad inside torch.func.grad: the gradient would be zero without a word.
        check_no_gradient_transform("prediction")
    arguments = (prediction, *operands, reduction == "mean", backend)
    if not (prediction.requires_grad and torch.is_grad_enabled()):
        return _loss_value_op(*arguments)
    if torch.compiler.is_compiling():
        return _loss_op(*arguments)[0]
    check_no_transform("prediction")
    # An autograd function around the op without a formula costs half of what the formula does.
    return _GradientInForward.apply(prediction, arguments)


class _GradientInForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, prediction, arguments):
        value, gradient = _plain_loss_op(*arguments)
        _save_gradient(ctx, gradient, arguments[-2])
        return value

    @staticmethod
    def backward(ctx, grad):
        return _scaled_gradient(ctx, grad), None


def _value_like(prediction, mean):
    """An empty loss."""
    return prediction.new_empty(() if mean else (prediction.shape[0],), dtype=torch.float32)


def _gradient_scale(prediction: torch.Tensor, mean: bool) -> float:
    """What the stored gradient's coefficient k_p is multiplied with.

    float32 and bfloat16 store the gradient itself, so that a backward pass with cotangent 1 has nothing to do. float16
    would underflow (2 / (B * D) is below its smallest number for a million elements, and a gradient scaler works on the
    cotangent), so it stores 2 * k_p * residual and divides in the backward pass.
    """
    return 2.0 if prediction.dtype == torch.float16 else 2.0 * _divisor(prediction, mean)


def _save_gradient(ctx, gradient, mean):
    """Keep what the backward pass needs: the gradient, and what remains to multiply it with."""
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(gradient)
    ctx.mean = mean


def _scaled_gradient(ctx, grad):
    """The gradient of the prediction: what the forward pass stored, times the cotangent, out of place."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "memfast.ops.loss has no second derivative: its gradient is computed in the forward pass. Call backward "
            "without create_graph, or use the plain formula (memfast.ops.standard_normal gives the noise)."
        )
    (gradient,) = ctx.saved_tensors
    if grad is None:
        return None
    on_cpu = type(grad) is torch.Tensor and grad.device.type == "cpu"
    if on_cpu and gradient.dtype != torch.float16 and grad.ndim == 0 and grad.item() == 1.0:
        return gradient
    return _loss_backward_op(gradient, grad, ctx.mean)


def _divisor(prediction, mean):
    count = prediction.numel() if mean else math.prod(prediction.shape[1:])
    return 1.0 / count if count else 0.0


def _loss(prediction, *arguments, with_gradient=True):
    operands, (mean, backend) = Operands.split(arguments)
    compute = implementation("loss", prediction.device, backend)
    scale = _gradient_scale(prediction, mean) if with_gradient else None
    value, gradient = compute(flat(prediction), operands.dense(), mean, scale)
    return (value, shaped_like(gradient, prediction)) if with_gradient else value


_loss_value = functools.partial(_loss, with_gradient=False)


def _loss_fake(prediction, *arguments):
    return _value_like(prediction, arguments[-2]), torch.empty_like(prediction)


def _loss_value_fake(prediction, *arguments):
    return _value_like(prediction, arguments[-2])


def _save(ctx, inputs, output):
    ctx.mark_non_differentiable(output[1])
    _save_gradient(ctx, output[1], inputs[-2])


def _backward(ctx, grad, _):
    return _scaled_gradient(ctx, grad), *[None] * (OPERANDS + 2)


def _scale(gradient, grad, mean):
    with ieee_arithmetic(gradient.device):
        factor = grad * _divisor(gradient, mean) if gradient.dtype == torch.float16 else grad
        # As a tensor with axes the float32 factor is not rounded to a 16-bit gradient's type; the product is, once.
        return torch.mul(gradient, factor.view(-1, *[1] * (gradient.ndim - 1)), out=torch.empty_like(gradient))


_ARGUMENTS = f"(Tensor prediction, {OPERANDS_SCHEMA}, bool mean, str backend)"
_loss_value_op = define(f"loss_value{_ARGUMENTS} -> Tensor", _loss_value, _loss_value_fake)
_plain_loss_op = define(f"plain_loss{_ARGUMENTS} -> (Tensor, Tensor)", _loss, _loss_fake)
_loss_op = define(f"loss{_ARGUMENTS} -> (Tensor, Tensor)", _loss, _loss_fake)
_loss_backward_op = define(
    "loss_backward(Tensor gradient, Tensor grad, bool mean) -> Tensor",
    _scale,
    lambda gradient, grad, mean: torch.empty_like(gradient),
)
torch.library.register_autograd("memfast::loss", _backward, setup_context=_save)
