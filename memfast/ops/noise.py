"""The noising ops: x_in = a_x * x0 + a_f * fixed + a_n * noise, the noise made on the fly from its address.

``noise`` takes clean tensors. ``gather_noise`` reads a uint8 data set in memory: gather, flip, normalise, draw and
noise in one launch, so that the clean data never exists as floats (1 byte per element read, against 8 to write and
read float32). The flips are addresses too, so ``gather_loss`` finds the same bytes again.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch

from memfast.foundation.deprecated import warn_deprecated
from memfast.foundation.errors import InputError
from memfast.ops.checks import FLOAT_DTYPES, check_draw, check_no_transform, check_operands
from memfast.ops.library import define, shaped_like
from memfast.ops.operands import DRAW_SCHEMA, OPERANDS, OPERANDS_SCHEMA, Draw, Operands, flip_width
from memfast.ops.registry import implementation

Function = TypeVar("Function", bound=Callable[..., Any])


class GatheredNoise(NamedTuple):
    """A noised batch from a data set.

    Attributes:
        x_in: ``[B, ...]``, the network's input.
        timesteps: int64 ``[B]``, given or drawn.
    """

    x_in: torch.Tensor
    timesteps: torch.Tensor


def noise(
    x0: torch.Tensor,
    table: torch.Tensor,
    timesteps: torch.Tensor,
    sample_ids: torch.Tensor,
    key: torch.Tensor,
    fixed_ids: torch.Tensor | None = None,
    *,
    backend: str = "auto",
) -> torch.Tensor:
    """Noise a batch: ``x_in = a_x * x0 + a_f * fixed + a_n * noise`` with the row of each sample's timestep.

    Args:
        x0: ``[B, ...]`` float32, bfloat16 or float16, of any memory format.
        table: float32 ``[T, 7]``, columns a_x, a_f, a_n, k_p, k_x, k_f, k_n.
        timesteps: int64 ``[B]``, row numbers of ``table``.
        sample_ids: int64 ``[B]``, addresses of the fresh noise.
        key: int64 ``[2]``, from :func:`memfast.key`.
        fixed_ids: int64 ``[B]``, addresses of the fixed noise; None leaves its term out.
        backend: a backend's name, or ``auto``.

    Returns:
        x_in in x0's dtype, shape and memory format; differentiable in ``x0``. Products and sums are float32, with one
        final rounding to the dtype: the same bits on every backend, whatever floating-point mode the caller is in.

    Raises:
        InputError: shapes, dtypes, devices or (on a CPU) values do not fit.
    """
    operands = Operands(x0, table, timesteps, sample_ids, key, fixed_ids)
    check_operands(operands)
    wants_gradient = x0.requires_grad and torch.is_grad_enabled()
    if wants_gradient and not torch.compiler.is_compiling():
        check_no_transform("x0")
    op = _noise_op if wants_gradient else _plain_noise_op
    return op(*operands, backend)


def _with_old_draw_arguments(function: Function) -> Function:
    """Take ``timesteps_or_thresholds``, ``draw``, ``positions`` and ``total`` of the version before, with a warning."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if "timesteps_or_thresholds" in kwargs:
            warn_deprecated("gather_noise(timesteps_or_thresholds=...)", "timesteps=", stacklevel=2)
            kwargs["timesteps"] = kwargs.pop("timesteps_or_thresholds")
        if kwargs.keys() & {"draw", "positions", "total"}:
            warn_deprecated("gather_noise(draw=...)", "timesteps=Draw(thresholds, positions, total)", stacklevel=2)
            draw, strata = kwargs.pop("draw", False), (kwargs.pop("positions", None), kwargs.pop("total", None))
            if draw and len(args) > 3:
                args = (*args[:3], Draw(args[3], *strata), *args[4:])
            elif draw:
                kwargs["timesteps"] = Draw(kwargs["timesteps"], *strata)
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


@_with_old_draw_arguments
def gather_noise(
    dataset: torch.Tensor,
    indices: torch.Tensor,
    table: torch.Tensor,
    timesteps: torch.Tensor | Draw,
    sample_ids: torch.Tensor,
    key: torch.Tensor,
    fixed_ids: torch.Tensor | None = None,
    *,
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
        timesteps: int64 ``[B]``, or a :class:`Draw`: then they are drawn in the same launch.
        sample_ids: int64 ``[B]``, addresses of noise, timestep and flip.
        key: int64 ``[2]``.
        fixed_ids: int64 ``[B]`` or None.
        flip: mirror every second sample, on average, along the last axis (stream "augmentation").
        dtype: float32, bfloat16 or float16, of x_in.
        backend: a backend's name, or ``auto``.

    Returns:
        x_in ``[B, ...]`` in ``dtype`` and the timesteps; the same bits as gathering first and calling :func:`noise`.

    Raises:
        InputError: shapes, dtypes, devices or (on a CPU) values do not fit.
    """
    draw = timesteps if isinstance(timesteps, Draw) else None
    given = None if isinstance(timesteps, Draw) else timesteps
    width = flip_width(dataset, flip)
    operands = Operands(dataset, table, given, sample_ids, key, fixed_ids, indices, width)
    check_operands(operands, drawn=draw is not None)
    if dtype not in FLOAT_DTYPES:
        raise InputError("dtype", expected="float32, bfloat16 or float16", received=str(dtype))
    if draw is not None:
        check_draw(draw, sample_ids)
    return GatheredNoise(*_gather_noise_op(*operands, *Draw.flat(draw), dtype, backend))


def _noise(*arguments):
    operands, (backend,) = Operands.split(arguments)
    x0 = operands.x0
    x_in, _ = implementation("noise", x0.device, backend)(operands.dense(), None, x0.dtype)
    return shaped_like(x_in, x0)


def _noise_fake(x0, *_):
    return torch.empty_like(x0)


def _save(ctx, inputs, output):
    operands, _ = Operands.split(inputs)
    ctx.save_for_backward(operands.table, operands.timesteps)


def _backward(ctx, grad):
    table, timesteps = ctx.saved_tensors
    scale = table[timesteps, 0].view(-1, *[1] * (grad.ndim - 1))
    return (grad * scale).to(grad.dtype), *[None] * OPERANDS


def _gather_noise(*arguments):
    operands, others = Operands.split(arguments)
    draw, (dtype, backend) = Draw.split(others)
    compute = implementation("noise", operands.x0.device, backend)
    x_in, timesteps = compute(operands.dense(), draw, dtype)
    # An op may not return one of its inputs.
    return x_in.view(operands.shape), timesteps if draw is not None else timesteps.clone()


def _gather_noise_fake(*arguments):
    operands, (*_, dtype, _backend) = Operands.split(arguments)
    batch = operands.shape[0]
    return operands.x0.new_empty(operands.shape, dtype=dtype), operands.sample_ids.new_empty(batch)


# An autograd formula in Python costs 10 us per call, wanted or not: the plain op has none.
_plain_noise_op = define(f"plain_noise({OPERANDS_SCHEMA}, str backend) -> Tensor", _noise, _noise_fake)
_noise_op = define(f"noise({OPERANDS_SCHEMA}, str backend) -> Tensor", _noise, _noise_fake)
torch.library.register_autograd("memfast::noise", _backward, setup_context=_save)
_gather_noise_op = define(
    f"gather_noise({OPERANDS_SCHEMA}, {DRAW_SCHEMA}, ScalarType dtype, str backend) -> (Tensor, Tensor)",
    _gather_noise,
    _gather_noise_fake,
)
