"""Which backend serves an op, and what is said where none does."""

import importlib
import importlib.util
from pathlib import Path

import pytest
import torch

from memfast import ops
from memfast.foundation.errors import BackendUnavailableError, InputError
from memfast.ops import contract, registry

CPU = torch.device("cpu")


@pytest.fixture
def fresh():
    """Forget what was resolved, before and after."""
    registry._resolve.cache_clear()
    registry.why_unavailable.cache_clear()
    yield
    registry._resolve.cache_clear()
    registry.why_unavailable.cache_clear()


def test_auto_takes_the_kernels_on_a_cpu():
    if registry.why_unavailable("cpu"):
        pytest.skip(registry.why_unavailable("cpu"))
    assert registry.implementation("noise", CPU).__module__ == "memfast.ops.cpu.noise"


def test_auto_falls_back_to_the_reference_without_the_module(fresh, monkeypatch):
    monkeypatch.setattr("memfast.ops.cpu.why_unavailable", lambda: "not built")
    assert registry.implementation("noise", CPU).__module__ == "memfast.ops.reference.noise"
    with pytest.raises(BackendUnavailableError, match="backend 'cpu' cannot compute 'noise' on cpu: not built"):
        registry.implementation("noise", CPU, "cpu")


def test_the_variable_names_a_backend(fresh, monkeypatch):
    monkeypatch.setenv("MEMFAST_BACKEND", "reference")
    assert registry.implementation("noise", CPU).__module__ == "memfast.ops.reference.noise"
    monkeypatch.setenv("MEMFAST_BACKEND", "fast")
    with pytest.raises(InputError, match=r"backend: expected one of auto, .*received 'fast'"):
        registry.implementation("noise", CPU)


def test_an_op_that_a_backend_lacks(fresh):
    with pytest.raises(BackendUnavailableError, match="does not implement this op"):
        registry.implementation("unknown", CPU, "reference")


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_backends_implement_the_contract(backend):
    wanted = {name for name in vars(contract.BackendModule) if not name.startswith("_")}
    module = importlib.import_module(registry._row(backend).module)
    assert wanted <= set(module.__all__)


def test_public_names_exist():
    assert all(hasattr(ops, name) for name in ops.__all__)


def test_backends_have_the_same_files():
    """A package holds some of the files of the contract, its own helpers, and nothing under a second name."""
    helpers = {"triton": {"device", "launch"}}
    families = set(registry.FILES.values())
    for row in registry.BACKENDS:
        folder = Path(importlib.util.find_spec(row.module).origin).parent
        files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        assert files - families == helpers.get(row.name, set())
        assert row.name not in ("cpu", "reference") or families <= files


@pytest.mark.parametrize(("old", "new"), [("products", "inner_products"), ("within", "range_search")])
def test_old_names_warn_and_work(old, new):
    with pytest.warns(DeprecationWarning, match=rf"memfast\.ops\.{old} is deprecated.*memfast\.ops\.{new}"):
        assert getattr(ops, old) is getattr(ops, new)
    assert old not in ops.__all__
