"""Arrays and tensors that a user gives, as NumPy arrays; what NumPy would read wrongly is refused."""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from memfast.foundation.errors import InputError, first_line

if TYPE_CHECKING:
    import torch


def plain_array(name: str, value: Any) -> np.ndarray:
    """``value`` as a NumPy array: a tensor of any device, an array, or nested lists.

    bfloat16 and the 8-bit floats of PyTorch, which NumPy lacks, become float32 without loss.

    Args:
        name: what the error calls it.
        value: what was given.

    Raises:
        InputError: a masked array (NumPy would forget the mask), a sparse, quantized, nested or meta tensor, or
            something that is no array.

    >>> plain_array("x", [1, 2]).tolist()
    [1, 2]
    """
    if is_tensor(value):
        require_dense(name, value)
        return dense_to_numpy(value.detach())
    require_unmasked(name, value)
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise InputError(name, expected="a dense array", received="a sparse one", do="Convert it with .toarray().")
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(name, expected="an array of numbers", received=first_line(error)) from error


def is_tensor(value: Any) -> bool:
    """Whether ``value`` is a PyTorch tensor; PyTorch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def require_unmasked(name: str, value: Any) -> None:
    """Raise where ``value``, or an item of the list ``value``, is a NumPy masked array.

    Raises:
        InputError: it is one.
    """
    items = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(item, np.ma.MaskedArray) for item in items):
        raise InputError(
            name, expected="an array without a mask", received="a NumPy masked array",
            do="Drop the masked items, or fill them with .filled(value).",
        )  # fmt: skip


def require_dense(name: str, tensor: "torch.Tensor") -> None:
    """Raise where a tensor's numbers cannot be read one by one.

    Raises:
        InputError: a sparse, quantized, nested, masked or meta tensor.
    """
    kind = None
    if type(tensor).__name__ == "MaskedTensor":
        kind = "a masked one"
    elif tensor.is_nested:
        kind = "a nested one"
    elif str(tensor.layout) != "torch.strided":
        kind = f"one of layout {tensor.layout}"
    elif tensor.is_quantized:
        kind = f"a quantized one ({tensor.dtype})"
    elif tensor.is_meta:
        kind = "one on the meta device, which holds no numbers"
    elif str(tensor.dtype).startswith("torch.float4"):
        kind = f"one of {tensor.dtype}, which packs two numbers into one"
    if kind is not None:
        raise InputError(name, expected="a dense tensor of numbers", received=kind, do="Convert it first.")


def dense_to_numpy(tensor: "torch.Tensor") -> np.ndarray:
    """A dense tensor as a NumPy array; the narrow floats that NumPy lacks become float32."""
    return (tensor.float() if is_narrow_float(tensor) else tensor).resolve_conj().resolve_neg().cpu().numpy()


def is_narrow_float(tensor: "torch.Tensor") -> bool:
    """Whether its dtype is a float that NumPy lacks: bfloat16 or one of 8 bits."""
    return tensor.dtype.is_floating_point and str(tensor.dtype) not in (
        "torch.float16",
        "torch.float32",
        "torch.float64",
    )
