"""The noising op: x_in = a_x * x0 + a_f * fixed + a_n * noise, the noise made on the fly from its address."""

import torch

from memfast.ops.checks import check_no_gradient, check_no_transform, check_operands
from memfast.ops.library import define, flat, shaped_like
from memfast.ops.registry import implementation


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
        final rounding to the dtype: the same bits on every backend.

    Raises:
        InputError: shapes, dtypes, devices or (on a CPU) values do not fit.
    """
    check_operands(x0, table, timesteps, sample_ids, key, fixed_ids)
    check_no_gradient("table", table)
    wants_gradient = x0.requires_grad and torch.is_grad_enabled()
    if wants_gradient and not torch.compiler.is_compiling():
        check_no_transform("x0")
    op = _noise_op if wants_gradient else _plain_noise_op
    return op(x0, table, timesteps, sample_ids, key, fixed_ids, backend)


def _noise(x0, table, timesteps, sample_ids, key, fixed_ids, backend):
    compute = implementation("noise", x0.device, backend)
    fixed_ids = None if fixed_ids is None else fixed_ids.contiguous()
    x_in = compute(
        flat(x0), table.contiguous(), timesteps.contiguous(), sample_ids.contiguous(), fixed_ids, key.contiguous()
    )
    return shaped_like(x_in, x0)


def _save(ctx, inputs, output):
    _, table, timesteps, *_ = inputs
    ctx.save_for_backward(table, timesteps)


def _backward(ctx, grad):
    table, timesteps = ctx.saved_tensors
    scale = table[timesteps, 0].view(-1, *[1] * (grad.ndim - 1))
    return (grad * scale).to(grad.dtype), None, None, None, None, None, None


def _noise_fake(x0, table, timesteps, sample_ids, key, fixed_ids, backend):
    return torch.empty_like(x0)


_ARGUMENTS = (
    "(Tensor x0, Tensor table, Tensor timesteps, Tensor sample_ids, Tensor key, Tensor? fixed_ids, str backend)"
)
# An autograd formula in Python costs 10 us per call, wanted or not: the plain op has none.
_plain_noise_op = define(f"plain_noise{_ARGUMENTS} -> Tensor", _noise, _noise_fake)
_noise_op = define(f"noise{_ARGUMENTS} -> Tensor", _noise, _noise_fake)
torch.library.register_autograd("memfast::noise", _backward, setup_context=_save)
