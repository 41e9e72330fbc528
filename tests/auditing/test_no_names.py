"""The audit, its result, its reports and its command know no criterion by name: criteria declare what they need."""

import ast
from pathlib import Path

import pytest

import memfast
from memfast.criteria import choose

HOUSE = Path(memfast.__file__).parent
FILES = [
    path
    for folder in ("auditing", "results", "reports")
    for path in sorted((HOUSE / folder).rglob("*.py"))
    if "trace" not in str(path)
]


def names_and_texts(path):
    """Every name, and every text that is no documentation, in the code of a file."""
    tree = ast.parse(path.read_text())
    told = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
    }
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return names, {node.value for node in texts if id(node) not in told}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_no_criterion_is_known_by_name(path):
    names, texts = names_and_texts(path)
    assert not names & {type(one).__name__ for one in choose()}
    assert not texts & {one.name for one in choose()}
