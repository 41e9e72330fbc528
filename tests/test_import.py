"""`import memfast` is cheap, and every public name can be had."""

import subprocess
import sys

import pytest

import memfast

HEAVY = ("torch", "triton", "faiss", "ot", "matplotlib", "diffusers", "scipy", "PIL", "typer", "rich")


def test_import_loads_nothing_heavy():
    code = f"import sys, memfast; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_using_the_objective_loads_no_optional_package():
    code = (
        "import sys, memfast; memfast.DenoisingObjective, memfast.ops, memfast.knn, memfast.audit, memfast.training; "
        "print([m for m in ('triton', 'faiss', 'ot', 'matplotlib', 'diffusers') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("name", memfast.__all__)
def test_every_public_name_exists(name):
    assert getattr(memfast, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        memfast.nothing  # noqa: B018
