"""An extractor: a network, its preprocessing, and an identity that changes whenever its features would."""

import dis
import hashlib
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any

import numpy as np
import torch

from memfast.features.preprocessing import Preprocessing
from memfast.foundation.errors import InputError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
FORMAT = 1


class Extractor:
    """Turns blocks of items into feature rows; call it with items ``[B, ...]``, it returns float32 ``[B, D]``.

    Args:
        run: tensor ``[B, ...]`` on ``device`` in ``dtype`` -> tensor ``[B, ...]``, flattened to rows.
        name: what a person calls it.
        identity: what its output depends on: kind, hash of the weights, version. Part of the cache key.
        preprocessing: applied first.
        device: where it runs.
        dtype: ``float32``, ``float16`` or ``bfloat16``, in which it runs.
    """

    def __init__(
        self,
        run: Callable[[torch.Tensor], Any],
        *,
        name: str,
        identity: dict[str, Any],
        preprocessing: Preprocessing,
        device: str | torch.device = "cpu",
        dtype: str = "float32",
    ) -> None:
        torch_dtype(dtype)
        self.run, self.name, self.preprocessing, self.dtype = run, name, preprocessing, dtype
        self.device = torch.device(device)
        self._identity = identity
        self._width: int | None = None

    @torch.no_grad()
    def __call__(self, items: np.ndarray) -> np.ndarray:
        """Features of a block of items.

        Raises:
            InputError: the network returned another number of rows, another width than before, or no tensor.
        """
        inputs = self.preprocessing(np.asarray(items)).to(self.device, DTYPES[self.dtype])
        output = _tensor(self.run(inputs))
        if output.ndim < 2 or len(output) != len(items):
            raise InputError(
                f"extractor '{self.name}'",
                expected=f"one row per item, shape [{len(items)}, D]",
                received=f"shape {list(output.shape)}",
            )
        rows = output.reshape(len(output), -1).float().cpu().numpy()
        if self._width not in (None, rows.shape[1]):
            raise InputError(
                f"extractor '{self.name}'",
                expected=f"{self._width} features, as in the first batch",
                received=f"{rows.shape[1]}",
            )
        self._width = rows.shape[1]
        return rows

    def describe(self) -> dict[str, Any]:
        """Everything the features depend on, as plain values: the cache key, and part of every result."""
        return {
            "name": self.name,
            "identity": self._identity,
            "preprocessing": self.preprocessing.to_dict(),
            "dtype": self.dtype,
            "format": FORMAT,
        }


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of a name, or an error that lists them."""
    if name not in DTYPES:
        raise InputError("dtype", expected=f"one of {', '.join(DTYPES)}", received=repr(name))
    return DTYPES[name]


def weights_hash(module: torch.nn.Module) -> str:
    """SHA-256 of all parameters and buffers, kept in the state or not, with their names, shapes and dtypes."""
    digest = hashlib.sha256()
    for name, tensor in sorted({**dict(module.named_buffers()), **module.state_dict()}.items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def behaviour_hash(module: torch.nn.Module) -> str:
    """SHA-256 of what a module does besides its weights: the types of its parts, their plain attributes and their code.

    Attributes count whose name does not begin with ``_``, whose value is a number, a text, None or a tuple or list of
    these, and that only ``__init__`` sets: what the other methods change is state. Code counts where it is not
    PyTorch's own; functions outside the parts' classes are not followed.
    """
    digest = hashlib.sha256()
    if isinstance(module, torch.jit.ScriptModule):
        digest.update(module.code.encode())
    for name, part in module.named_modules():
        kind = type(part)
        digest.update(f"{name}:{kind.__module__}.{kind.__qualname__}({part.extra_repr()})".encode())
        functions = {
            f"{owner.__qualname__}.{key}": value.__code__
            for owner in kind.__mro__
            if not owner.__module__.startswith(("torch.", "builtins"))
            for key, value in sorted(vars(owner).items())
            if inspect.isfunction(value)
        }
        state = {
            step.argval
            for key, code in functions.items()
            if not key.endswith(".__init__")
            for step in dis.get_instructions(code)
            if step.opname == "STORE_ATTR"
        }
        for key, code in functions.items():
            digest.update(f"{key}:{_code(code)}".encode())
        for key, value in sorted(vars(part).items()):
            if not key.startswith("_") and key not in {"training", *state} and _is_plain(value):
                digest.update(f"{key}={value!r};".encode())
    return digest.hexdigest()


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(one) for one in value)
    return value is None or isinstance(value, bool | int | float | str)


def _code(code: CodeType) -> str:
    """A function's instructions, names and constants; the order of a set of constants differs between processes."""
    constants = [
        _code(one) if isinstance(one, CodeType) else repr(sorted(map(repr, one)) if isinstance(one, frozenset) else one)
        for one in code.co_consts
    ]
    return f"{code.co_code.hex()}{code.co_names}{code.co_varnames}{constants}"


def _tensor(output: Any) -> torch.Tensor:
    for name in ("image_embeds", "pooler_output", "last_hidden_state", "logits"):
        if not isinstance(output, torch.Tensor) and getattr(output, name, None) is not None:
            output = getattr(output, name)
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if isinstance(output, np.ndarray):
        output = torch.from_numpy(output)
    if not isinstance(output, torch.Tensor):
        raise InputError("extractor", expected="a network that returns a tensor", received=type(output).__name__)
    return output
