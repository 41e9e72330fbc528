"""Extractors from files: TorchScript, torch.export and ONNX.

A model file is a program. TorchScript and ONNX files are read by their C++ readers, which build tensors and operators
and never run Python's pickle. `torch.export.load` falls back to pickle for what it cannot read otherwise; here it is
called with pickle switched off, so that such a file is refused. Load only files whose origin you trust all the same.
"""

import pickle
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from memfast.features.extractor import Extractor, torch_dtype
from memfast.features.preprocessing import Preprocessing
from memfast.foundation.errors import InputError, MissingPackageError
from memfast.foundation.values import file_hash


def from_file(path: str | Path, preprocessing: Preprocessing, *, device: str, dtype: str) -> Extractor:
    """An extractor from a ``.onnx``, ``.pt2`` or TorchScript (``.pt``, ``.ts``, ``.torchscript``, ``.jit``) file.

    Raises:
        InputError: the file is not what its name says, or holds pickled objects.
        MissingPackageError: onnxruntime is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("features", expected="an existing model file", received=str(path))
    identity = {"kind": path.suffix.lstrip("."), "sha256": file_hash(path)}
    arguments: dict[str, Any] = {"name": path.name, "identity": identity, "preprocessing": preprocessing}
    if path.suffix == ".onnx":
        if dtype != "float32":
            raise InputError("dtype", expected="float32 for an ONNX file, which fixes its own dtypes", received=dtype)
        return Extractor(_onnx(path), **arguments)
    run = _exported(path) if path.suffix == ".pt2" else _torchscript(path, device)
    return Extractor(run.to(device, torch_dtype(dtype)), device=device, dtype=dtype, **arguments)


def _torchscript(path: Path, device: str) -> torch.nn.Module:
    try:
        return torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise InputError(
            str(path),
            expected="a TorchScript archive",
            received=str(error).strip().splitlines()[0][:200],
            do="A pickled module is refused: pickle can run any code. Save with torch.jit.save or torch.onnx.export.",
        ) from error


def _exported(path: Path) -> torch.nn.Module:
    try:
        with _without_pickle():
            return torch.export.load(str(path)).module()
    except Exception as error:
        raise InputError(
            str(path),
            expected="a torch.export archive without pickled objects",
            received=(str(error).strip() or type(error).__name__).splitlines()[0][:200],
            do="Write it with torch.export.save.",
        ) from error


# Two threads that patch and restore in turn would leave a patch in the process.
_PATCHING = threading.Lock()


@contextmanager
def _without_pickle() -> Iterator[None]:
    """In this thread every load of torch reads tensors only, and Python's unpickler refuses."""
    thread = threading.get_ident()

    def refuse(*_: Any, **__: Any) -> Any:
        raise ValueError("it holds pickled objects, which could run any code")

    def only_here(replacement: Any, original: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            here = threading.get_ident() == thread
            return (replacement if here else original)(*arguments, **options)

        return call

    with _PATCHING, ExitStack() as stack:
        load = torch.load

        def safe_load(*arguments: Any, **options: Any) -> Any:
            return load(*arguments, **{**options, "weights_only": True})

        for owner, name, value in (
            (torch, "load", safe_load), (pickle, "loads", refuse), (pickle, "load", refuse),
            (pickle, "Unpickler", refuse), (torch._C, "_pickle_load_obj", refuse),
        ):  # fmt: skip
            if hasattr(owner, name):
                stack.enter_context(patch.object(owner, name, only_here(value, getattr(owner, name))))
        yield


def _onnx(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingPackageError("onnxruntime", purpose="an ONNX extractor", extra="test") from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InputError(str(path), expected="an ONNX model", received=str(error).splitlines()[0][:200]) from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise InputError(str(path), expected="a model of one input", received=f"{len(inputs)} inputs")
    return lambda tensor: session.run(None, {inputs[0].name: tensor.cpu().numpy()})[0]
