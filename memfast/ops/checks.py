"""What the ops refuse, and what they say. Shapes and dtypes are checked on every call, values on a CPU only."""

import torch
from torch.autograd import forward_ad

from memfast.foundation.errors import InputError
from memfast.ops.addresses import MAX_SAMPLE_ID, WORD, check_key, check_sample_ids

TABLE_COLUMNS = 7
# Four elements per counter and 32 bits of counter.
MAX_ELEMENTS = 2**34
MAX_STRATA = 2**31
_PLAIN = (torch.Tensor, torch.nn.Parameter)
FLOAT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def check_operands(
    x0: torch.Tensor,
    table: torch.Tensor,
    timesteps: torch.Tensor,
    sample_ids: torch.Tensor,
    key: torch.Tensor,
    fixed_ids: torch.Tensor | None,
) -> None:
    """Raise unless shapes, dtypes and devices fit together."""
    check_floating("x0", x0)
    batch = x0.shape[0]
    check_table(table)
    check_sample_ids(timesteps, batch, "timesteps")
    check_sample_ids(sample_ids, batch)
    if fixed_ids is not None:
        check_sample_ids(fixed_ids, batch, "fixed_ids")
        check_device("fixed_ids", fixed_ids, x0)
    check_key(key)
    check_device("table", table, x0)
    check_device("timesteps", timesteps, x0)
    check_device("sample_ids", sample_ids, x0)
    check_device("key", key, x0)


def check_prediction(prediction: torch.Tensor, shape: torch.Size, like: torch.Tensor) -> None:
    """Raise unless ``prediction`` is a floating tensor of ``shape`` on the device of ``like``."""
    check_floating("prediction", prediction)
    if prediction.shape != shape:
        do = "A network that also predicts a variance gives twice the channels: pass the first half."
        raise InputError(
            "prediction", expected=f"the shape of x0, {list(shape)}", received=str(list(prediction.shape)), do=do
        )
    check_device("prediction", prediction, like)


def check_floating(name: str, tensor: torch.Tensor) -> None:
    """Raise unless ``tensor`` is float32, bfloat16 or float16 with a batch axis, and without a forward-mode tangent."""
    if not isinstance(tensor, torch.Tensor) or tensor.dtype not in FLOAT_DTYPES or tensor.ndim == 0:
        raise InputError(
            name, expected="a float32, bfloat16 or float16 tensor of shape [B, ...]", received=describe(tensor)
        )
    # PyTorch would take the derivative of an op without a forward-mode formula for zero, and say nothing.
    if forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None:
        raise InputError(
            name, expected="a tensor without a forward-mode tangent", received="a dual tensor (torch.func.jvp)",
            do="Use the backward pass, or the plain formula: memfast.ops.standard_normal gives the noise.",
        )  # fmt: skip


def check_table(table: torch.Tensor) -> None:
    """Raise unless ``table`` is float32 ``[T, 7]``."""
    fits = isinstance(table, torch.Tensor) and table.dtype == torch.float32 and table.ndim == 2
    if not fits or table.shape[1] != TABLE_COLUMNS:
        raise InputError("table", expected="a float32 tensor of shape [T, 7]", received=describe(table))


def check_device(name: str, tensor: torch.Tensor, like: torch.Tensor) -> None:
    """Raise unless ``tensor`` is on the device of ``like``."""
    if tensor.device != like.device:
        raise InputError(
            name, expected=f"a tensor on {like.device}, where the data is", received=f"one on {tensor.device}",
            do=f"Use {name}.to(device) once, outside the training step.",
        )  # fmt: skip


def check_memory(name: str, tensor: torch.Tensor) -> None:
    """Raise if the tensor's values are not where its address says, as a DTensor's."""
    if type(tensor) in _PLAIN or tensor.device.type == "meta" or not tensor.numel() or tensor.data_ptr():
        return
    raise InputError(
        name, expected="a tensor with memory of its own", received=f"a {type(tensor).__name__}",
        do="Of a DTensor pass each process's part, tensor.to_local().",
    )  # fmt: skip


def check_no_gradient(name: str, tensor: torch.Tensor) -> None:
    """Raise if autograd expects a gradient that the op does not give."""
    if tensor.requires_grad and torch.is_grad_enabled():
        raise InputError(
            name, expected="a tensor that needs no gradient", received="one with requires_grad",
            do=f"No gradient reaches {name}: pass {name}.detach().",
        )  # fmt: skip


def check_no_transform(name: str) -> None:
    """Raise inside torch.func.grad and its like: PyTorch's own words there speak of the op's inside."""
    if torch._C._are_functorch_transforms_active():
        raise _transformed(name)


def check_no_gradient_transform(name: str) -> None:
    """Raise where the innermost of torch.func's transforms is a gradient; for code that is being compiled."""
    # The compiler knows the first call as a constant; the second one has a value only within a transform.
    if torch._C._are_functorch_transforms_active():
        innermost = torch._C._functorch.peek_interpreter_stack()
        if innermost.key() == torch._C._functorch.TransformType.Grad:
            raise _transformed(name)


def _transformed(name: str) -> InputError:
    return InputError(
        name, expected="a tensor outside of torch.func's transforms", received="one to be differentiated by them",
        do="Use torch.autograd.grad, or the plain formula: memfast.ops.standard_normal gives the noise.",
    )  # fmt: skip


def check_values(
    key: torch.Tensor,
    table: torch.Tensor | None = None,
    timesteps: torch.Tensor | None = None,
    sample_ids: torch.Tensor | None = None,
    fixed_ids: torch.Tensor | None = None,
) -> None:
    """Raise if a step, an id, a row number or a row is outside its range. Reads the values: for CPU tensors only."""
    if not 0 <= int(key[1]) <= WORD:
        raise InputError("key", expected="a step from 0 to 2**32 - 1", received=str(int(key[1])))
    for name, ids in (("sample_ids", sample_ids), ("fixed_ids", fixed_ids)):
        if ids is not None and ids.numel():
            check_range(name, ids, MAX_SAMPLE_ID)
    if table is not None and timesteps is not None and timesteps.numel():
        check_range("timesteps", timesteps, len(table) - 1)
        rows = table[timesteps]
        finite = torch.isfinite(rows).all(1)
        if not bool(finite.all()):
            row = int(timesteps[int((~finite).nonzero()[0])])
            raise InputError("table", expected="finite rows", received=f"row {row}: {table[row].tolist()}")


def check_range(name: str, values: torch.Tensor, largest: int) -> None:
    """Raise unless all ``values`` are from 0 to ``largest``."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > largest:
        raise InputError(name, expected=f"values from 0 to {largest}", received=str(low if low < 0 else high))


def describe(value: object) -> str:
    """Dtype and shape of a tensor, or the type of anything else."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
