"""An extractor: a network, its preprocessing, and an identity that changes whenever its features would."""

import hashlib
from collections.abc import Callable
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
        repeatable: whether an equal ``identity`` means equal features, in another process too; otherwise nothing is
            cached.
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
        repeatable: bool = True,
    ) -> None:
        torch_dtype(dtype)
        self.repeatable = repeatable
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
        """Everything the features depend on, as plain values: the cache key, and part of every result.

        ``cacheable`` is False where the extractor has no identity that holds in another process.
        """
        return {
            "name": self.name,
            "identity": self._identity,
            "preprocessing": self.preprocessing.to_dict(),
            "dtype": self.dtype,
            "cacheable": self.repeatable,
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
