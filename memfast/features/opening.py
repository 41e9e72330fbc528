"""Whatever a user calls an extractor becomes one."""

import copy
import os
import secrets
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch

from memfast.features.extractor import Extractor, torch_dtype, weights_hash
from memfast.features.files import from_file
from memfast.features.named import from_name
from memfast.features.preprocessing import Preprocessing
from memfast.foundation.errors import InputError

_OWN: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()
SUFFIXES = (".onnx", ".pt2", ".pt", ".ts", ".torchscript", ".jit")


def open_extractor(
    features: Any,
    *,
    preprocessing: Preprocessing | None = None,
    device: str | None = None,
    dtype: str | None = None,
    identity: str | None = None,
) -> Extractor:
    """An extractor from a torch module, a model file, or a name.

    Args:
        features: an `Extractor`; a ``torch.nn.Module`` that takes float32 ``[B, C, H, W]``, run in evaluation
            mode and otherwise left as it is; a path to a TorchScript, ``.pt2`` or ``.onnx`` file; or
            ``efficientnet-lite0``, ``hf:MODEL``, ``timm:MODEL``, ``open_clip:MODEL/FILE`` whose weights are on this
            machine.
        preprocessing: None takes the named model's own, or values from 0 to 1 with no resizing.
        device: None takes a GPU where there is one.
        dtype: ``float32`` (None), ``float16`` or ``bfloat16``.
        identity: for a torch module: your name for what it does, for example ``"my-encoder-v3"``. Features are cached
            under it and the hash of the weights: give another one whenever the code or a setting changes. None: nothing
            is cached, because a module's weights do not tell what its code does.

    Raises:
        InputError: nothing that can be opened, weights that are not on this machine, options beside an `Extractor`,
            which has its own, or an identity for a file or a name, which have theirs.

    >>> extractor = open_extractor(torch.nn.Flatten(), preprocessing=Preprocessing(images=False), device="cpu")
    >>> extractor(torch.ones(2, 3, 4).numpy()).shape
    (2, 12)
    """
    options = {"preprocessing": preprocessing, "device": device, "dtype": dtype, "identity": identity}
    if isinstance(features, Extractor):
        given = [name for name, value in options.items() if value is not None]
        if given:
            raise InputError(
                "options", expected="none beside an Extractor, which has its own", received=", ".join(given),
                do="Make the Extractor with them.",
            )  # fmt: skip
        return features
    dtype = dtype or "float32"
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(features, torch.nn.Module):
        return _from_module(features, preprocessing or Preprocessing(), device, dtype, identity)
    if identity is not None:
        raise InputError(
            "identity", expected="None for a file or a name: its content or its model identifies it",
            received=repr(identity), do="Leave identity out.",
        )  # fmt: skip
    if isinstance(features, str | os.PathLike):
        if Path(features).suffix in SUFFIXES:
            return from_file(Path(features), preprocessing or Preprocessing(), device=device, dtype=dtype)
        return from_name(str(features), preprocessing, device=device, dtype=dtype)
    raise InputError(
        "features", expected="a torch module, a model file, a name or an Extractor", received=type(features).__name__
    )


def _from_module(
    features: torch.nn.Module, preprocessing: Preprocessing, device: str, dtype: str, identity: str | None
) -> Extractor:
    if identity is not None and (not isinstance(identity, str) or not identity):
        raise InputError("identity", expected="a text such as 'my-encoder-v3', or None", received=repr(identity))
    module = _placed(features, torch.device(device), torch_dtype(dtype))
    # A module without a name equals nothing but itself, and only in this process.
    known_as = identity or f"without a name, {_OWN.setdefault(features, secrets.token_hex(16))}"
    return Extractor(
        lambda inputs: _evaluated(module, inputs),
        name=type(module).__name__,
        identity={
            "kind": f"{type(module).__module__}.{type(module).__qualname__}",
            "identity": known_as,
            "weights": weights_hash(module),
        },
        preprocessing=preprocessing,
        device=device,
        dtype=dtype,
        repeatable=identity is not None,
    )


def _placed(module: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """The module itself where it fits, otherwise a copy: its owner may be training it."""
    tensors = [*module.parameters(), *module.buffers()]
    fits = all(
        one.device == torch.empty(0, device=device).device and (one.dtype == dtype or not one.is_floating_point())
        for one in tensors
    )
    return module if fits else copy.deepcopy(module).to(device, dtype)


def _evaluated(module: torch.nn.Module, inputs: torch.Tensor) -> Any:
    """The module's output in evaluation mode; the mode of each part is put back."""
    in_training = [part for part in module.modules() if part.training]
    try:
        return module.eval()(inputs)
    finally:
        for part in in_training:
            part.training = True
