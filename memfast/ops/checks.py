"""What the ops refuse, and what they say. Shapes and dtypes are checked on every call, values on a CPU only."""

import math

import torch
from torch.autograd import forward_ad

from memfast.foundation.errors import InputError
from memfast.ops.addresses import MAX_SAMPLE_ID, WORD, check_key, check_sample_ids
from memfast.ops.operands import Draw, Operands

TABLE_COLUMNS = 7
# Four elements per counter and 32 bits of counter.
MAX_ELEMENTS = 2**34
# CUDA finds the column of a flipped element with 32 bits.
MAX_FLIPPED = 2**32 - 1
MAX_STRATA = 2**31
# The largest one-dimensional grid of CUDA.
MAX_PROGRAMS = 2**31 - 1
_PLAIN = (torch.Tensor, torch.nn.Parameter)
FLOAT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def check_operands(operands: Operands, drawn: bool = False) -> None:
    """Raise unless shapes, dtypes and devices of the operands fit together; ``drawn``: there are no timesteps yet."""
    x0, table, timesteps, sample_ids, key, fixed_ids, indices, _ = operands
    if indices is None:
        check_floating("x0", x0)
        batch = x0.shape[0]
    else:
        _check_dataset(x0)
        check_sample_ids(indices, name="indices")
        batch = indices.shape[0]
        check_device("indices", indices, x0)
    check_elements(x0, flipped=operands.flip_width != 0)
    check_table(table)
    check_no_gradient("table", table)
    if not drawn:
        check_sample_ids(timesteps, batch, "timesteps")
    if timesteps is not None:
        check_device("timesteps", timesteps, x0)
    check_sample_ids(sample_ids, batch)
    if fixed_ids is not None:
        check_sample_ids(fixed_ids, batch, "fixed_ids")
        check_device("fixed_ids", fixed_ids, x0)
    check_key(key)
    check_device("table", table, x0)
    check_device("sample_ids", sample_ids, x0)
    check_device("key", key, x0)


def check_draw(draw: Draw, sample_ids: torch.Tensor) -> None:
    """Raise unless thresholds and positions fit the samples."""
    check_sample_ids(draw.thresholds, name="thresholds")
    check_sample_ids(sample_ids)
    check_device("thresholds", draw.thresholds, sample_ids)
    if draw.positions is None:
        return
    check_sample_ids(draw.positions, sample_ids.shape[0], "positions")
    check_device("positions", draw.positions, sample_ids)
    if draw.total is None or not 0 < draw.total <= MAX_STRATA:
        raise InputError("total", expected="the size of the global batch, 1 to 2**31", received=str(draw.total))


def check_elements(x0: torch.Tensor, flipped: bool = False) -> None:
    """Raise if a sample has more elements than its noise has addresses, or than a flip can count."""
    # Most batches hold fewer elements all together.
    if x0.numel() <= MAX_ELEMENTS and not flipped:
        return
    numel = math.prod(x0.shape[1:])
    if numel > MAX_ELEMENTS:
        raise InputError("x0", expected="at most 2**34 elements per sample", received=f"{numel}")
    if flipped and numel > MAX_FLIPPED:
        raise InputError("dataset", expected="at most 2**32 - 1 elements per item to flip", received=f"{numel}")


def check_programs(name: str, batch: int, programs_per_sample: int) -> None:
    """Raise if a GPU cannot start so many programs (thread blocks) at once."""
    if batch * programs_per_sample > MAX_PROGRAMS:
        raise InputError(
            name, expected=f"at most {MAX_PROGRAMS} thread blocks in a launch",
            received=f"{batch} samples of {programs_per_sample} blocks each", do="Split the batch.",
        )  # fmt: skip


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


def check_values(operands: Operands) -> None:
    """Raise if a step, an id, a row number or a row is outside its range. Reads the values: for CPU tensors only."""
    table, timesteps, indices = operands.table, operands.timesteps, operands.indices
    check_addresses(operands.key, sample_ids=operands.sample_ids, fixed_ids=operands.fixed_ids)
    if timesteps is not None and timesteps.numel():
        check_range("timesteps", timesteps, len(table) - 1)
        rows = table[timesteps]
        finite = torch.isfinite(rows).all(1)
        if not bool(finite.all()):
            row = int(timesteps[int((~finite).nonzero()[0])])
            raise InputError("table", expected="finite rows", received=f"row {row}: {table[row].tolist()}")
    if indices is not None and indices.numel():
        check_range("indices", indices, len(operands.x0) - 1)


def check_addresses(key: torch.Tensor, **ids: torch.Tensor | None) -> None:
    """Raise if the key's step or an id is outside its range. Reads the values: for CPU tensors only."""
    if not 0 <= int(key[1]) <= WORD:
        raise InputError("key", expected="a step from 0 to 2**32 - 1", received=str(int(key[1])))
    for name, values in ids.items():
        if values is not None and values.numel():
            check_range(name, values, MAX_SAMPLE_ID)


def check_draw_values(draw: Draw, sample_ids: torch.Tensor, key: torch.Tensor) -> None:
    """Raise if the step, an id or a position is outside its range. Reads the values: for CPU tensors only."""
    check_addresses(key, sample_ids=sample_ids)
    if draw.positions is not None and draw.positions.numel():
        check_range("positions", draw.positions, (draw.total or 1) - 1)


def check_range(name: str, values: torch.Tensor, largest: int) -> None:
    """Raise unless all ``values`` are from 0 to ``largest``."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > largest:
        raise InputError(name, expected=f"values from 0 to {largest}", received=str(low if low < 0 else high))


def describe(value: object) -> str:
    """Dtype and shape of a tensor, or the type of anything else."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__


def _check_dataset(dataset: torch.Tensor) -> None:
    if not isinstance(dataset, torch.Tensor) or dataset.dtype != torch.uint8 or dataset.ndim < 2:
        raise InputError("dataset", expected="a uint8 tensor of shape [N, ...]", received=describe(dataset))
    if not dataset.is_contiguous():
        raise InputError(
            "dataset", expected="a contiguous tensor", received=f"strides {dataset.stride()}",
            do="Call .contiguous() once, outside the training loop.",
        )  # fmt: skip
