"""What a module does besides its weights, as a hash: the part of a feature's identity that tensors do not hold."""

import dis
import enum
import functools
import hashlib
import inspect
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range, slice, re.Pattern)
NAMED = (type, ModuleType, BuiltinFunctionType, np.ufunc, torch.dtype, torch.device, torch.layout, torch.memory_format)
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
# Parts of a saved archive that tell where its source stood and which number its weights drew, not what it does.
INCIDENTAL = (".debug_pkl", ".data/serialization_id")
# PyTorch counts the classes that it has compiled in this process into their names.
COUNTED_NAME = re.compile(rb"___torch_mangle_\d+\.?")


class Opaque(Exception):
    """A value that cannot be told from another one that acts differently."""


def behaviour_hash(module: torch.nn.Module) -> str | None:
    """SHA-256 of what a module does besides its weights, or None where that cannot be told.

    The types of its parts, their code, hooks, and attributes that only ``__init__`` sets: numbers, texts, arrays,
    containers of these, functions with what they enclose, and objects with attributes of this kind. What the other
    methods set is state and does not count. A scripted or traced module counts with its whole program. Globals and
    files that the code reads are not followed.
    """
    module = getattr(module, "_orig_mod", module)
    digest = hashlib.sha256()
    scripted: list[str] = []
    try:
        for name, part in module.named_modules():
            if any(name.startswith(f"{parent}." if parent else "") for parent in scripted):
                continue
            if isinstance(part, torch.jit.ScriptModule):
                scripted.append(name)
                digest.update(f"{name}:{_program(part)}".encode())
            else:
                digest.update(f"{name}:{_part(part)}".encode())
    except Opaque:
        return None
    return digest.hexdigest()


def _part(part: torch.nn.Module) -> str:
    kind = type(part)
    written: list[Any] = [f"{kind.__module__}.{kind.__qualname__}({part.extra_repr()})"]
    if isinstance(part, torch.fx.GraphModule):
        return repr([*written, part.code])
    functions = dict(_methods(kind))
    state = {name for key, one in functions.items() if not key.endswith(".__init__") for name in _stored(one)}
    seen: list[Any] = [part]
    written += [(key, _method(one, seen)) for key, one in functions.items()]
    written += [(name, _written(list(vars(part)[name].values()), seen)) for name in HOOKS]
    own = {*vars(torch.nn.Module()), *state}
    for name, value in sorted(vars(part).items()):
        try:
            written += [(name, _written(value, seen))] if name not in own else []
        except Opaque:
            if not kind.__module__.startswith("torch."):
                raise
    return repr(written)


def _methods(kind: type) -> Iterator[tuple[str, FunctionType]]:
    """Every function of a class and its bases that is not PyTorch's own, by its full name."""
    for owner in kind.__mro__:
        if owner.__module__.startswith(("torch.", "builtins")):
            continue
        for key, value in sorted(vars(owner).items()):
            value = getattr(value, "__func__", value)
            if isinstance(value, functools.cached_property):
                value = value.func
            for number, one in enumerate((value.fget,) if isinstance(value, property) else (value,)):
                if inspect.isfunction(one):
                    yield f"{owner.__qualname__}.{key}{number or ''}", one


def _stored(function: FunctionType) -> set[str]:
    """Names of the attributes that a function sets."""
    return {step.argval for step in dis.get_instructions(inspect.unwrap(function)) if step.opname == "STORE_ATTR"}


def _written(value: Any, seen: list[Any]) -> Any:
    """``value`` as plain values and texts that are equal in two processes exactly where it acts the same."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, np.generic):
        return (str(value.dtype), value.item())
    if isinstance(value, PLAIN):
        return (type(value).__name__, repr(value))
    if isinstance(value, NAMED):
        owner, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", None)
        return f"{owner}.{name}" if name else repr(value)
    if any(one is value for one in seen):
        return "again"
    seen = [*seen, value]
    for kinds, write in _WRITERS.items():
        if isinstance(value, kinds):
            return write(value, seen)
    if type(value) is object:
        return "object"
    kind = type(value)
    slots = [name for owner in kind.__mro__ for name in np.atleast_1d(vars(owner).get("__slots__", ()))]
    if kind.__module__ in ("torch", "torch._C", "builtins") or not (hasattr(value, "__dict__") or slots):
        raise Opaque(f"{kind.__module__}.{kind.__qualname__}")
    attributes = {
        **{str(name): getattr(value, name) for name in slots if hasattr(value, name)},
        **getattr(value, "__dict__", {}),
    }
    methods = [(key, _method(one, seen)) for key, one in _methods(kind)]
    return (kind.__qualname__, methods, _written(attributes, seen))


def _method(value: FunctionType, seen: list[Any]) -> Any:
    """A function of a class: what its decorators enclose counts where it can be told, and never hides its code."""
    try:
        return _written(value, seen)
    except Opaque:
        return _code(inspect.unwrap(value).__code__)


def _function(value: FunctionType, seen: list[Any]) -> Any:
    enclosed = [cell.cell_contents for cell in value.__closure__ or () if not _is_empty(cell)]
    inner = getattr(value, "__wrapped__", None)
    return (
        value.__qualname__,
        _code(value.__code__),
        _written([value.__defaults__, value.__kwdefaults__, inner], seen),
        # What a decorator of PyTorch's encloses besides the function is its own bookkeeping.
        _written([one for one in enclosed if not value.__code__.co_filename.startswith(torch.__path__[0])], seen),
    )


def _is_empty(cell: Any) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:
        return True


def _tensor_text(value: Any, seen: list[Any]) -> Any:
    if isinstance(value, torch.Tensor):
        shape, flat = (str(value.dtype), *value.shape), value.detach().cpu().contiguous().reshape(-1)
        return (shape, hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest())
    if value.dtype.hasobject:
        return _written(value.tolist(), seen)
    return (str(value.dtype), value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest())


def _inner_module(value: torch.nn.Module, seen: list[Any]) -> Any:
    behaviour = behaviour_hash(value) if not any(one is value for one in seen[:-1]) else "again"
    if behaviour is None:
        raise Opaque
    return (behaviour, _written(dict(value.state_dict()), seen))


def _program(module: torch.jit.ScriptModule) -> str:
    """SHA-256 of a scripted module's archive, without what differs between two that act alike."""
    found = []
    with zipfile.ZipFile(io.BytesIO(module.save_to_buffer())) as archive:
        for name in archive.namelist():
            if not name.endswith(INCIDENTAL):
                content = COUNTED_NAME.sub(b"", name.partition("/")[2].encode() + b":" + archive.read(name))
                found.append(hashlib.sha256(content).hexdigest())
    return hashlib.sha256("".join(sorted(found)).encode()).hexdigest()


def _code(code: CodeType) -> str:
    """A function's instructions, names and constants; the order of a set of constants differs between processes."""
    constants = [
        _code(one) if isinstance(one, CodeType) else repr(sorted(map(repr, one)) if isinstance(one, frozenset) else one)
        for one in code.co_consts
    ]
    return f"{code.co_code.hex()}{code.co_names}{code.co_varnames}{constants}"


_WRITERS: dict[Any, Callable[[Any, list[Any]], Any]] = {
    (list, tuple): lambda value, seen: [type(value).__name__, *(_written(one, seen) for one in value)],
    (set, frozenset): lambda value, seen: sorted(repr(_written(one, seen)) for one in value),
    dict: lambda value, seen: [(_written(key, seen), _written(one, seen)) for key, one in value.items()],
    (torch.Tensor, np.ndarray): _tensor_text,
    torch.nn.Module: _inner_module,
    FunctionType: _function,
    MethodType: lambda value, seen: (_written(value.__func__, seen), _written(value.__self__, seen)),
    functools.partial: lambda value, seen: _written([value.func, value.args, value.keywords], seen),
}
