"""The house rules that a machine can check: no import circles, short functions, few parameters, unique class names."""

import ast
import collections
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "memfast"
LONGEST_FUNCTION = 80
MOST_PARAMETERS = 12
# The thin public wrappers that spell out a configuration. Verbs of the command line have flags as parameters.
PUBLIC_WRAPPERS = {
    "memfast.auditing.run.audit",
    "memfast.data.reading.open_source",
    "memfast.evaluation.run.evaluate",
    "memfast.sampling.samplers.ddim",
    "memfast.sampling.samplers.ddpm",
    "memfast.sampling.samplers.heun",
    "memfast.trace.tracing.trace_run",
    "memfast.trace.tracing.trace_pipeline",
}
KERNELS = "memfast.ops."
COMMANDS = "memfast.cli."


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imports_of(name: str) -> set[str]:
    """The modules of memfast that a module imports: at its top, inside functions, and for type checking."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "memfast":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return {one for one in found if one in MODULES and one != "memfast"} - {name}


def circles() -> list[list[str]]:
    """Strongly connected groups of more than one module (Tarjan's algorithm)."""
    graph = {name: sorted(imports_of(name)) for name in MODULES if name != "memfast"}
    number, lowest, stack, on_stack, groups = {}, {}, [], set(), []

    def visit(name):
        number[name] = lowest[name] = len(number)
        stack.append(name)
        on_stack.add(name)
        for other in graph[name]:
            if other not in number:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in on_stack:
                lowest[name] = min(lowest[name], number[other])
        if lowest[name] == number[name]:
            group = []
            while True:
                one = stack.pop()
                on_stack.discard(one)
                group.append(one)
                if one == name:
                    break
            if len(group) > 1:
                groups.append(sorted(group))

    for name in graph:
        if name not in number:
            visit(name)
    return groups


def functions() -> list[tuple[str, ast.FunctionDef]]:
    found = []

    def walk(node, place):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append((f"{place}.{child.name}", child))
                walk(child, f"{place}.{child.name}")
            elif isinstance(child, ast.ClassDef):
                walk(child, f"{place}.{child.name}")
            else:
                walk(child, place)

    for name, tree in TREES.items():
        walk(tree, name)
    return found


def code_lines(function: ast.FunctionDef, source: list[str]) -> int:
    """Lines of the body that hold code: without docstring, comments and blank lines."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    lines = source[body[0].lineno - 1 : function.end_lineno]
    return sum(1 for line in lines if line.strip() and not line.strip().startswith("#"))


def parameters(function: ast.FunctionDef) -> int:
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(1 for one in every if one.arg not in ("self", "cls"))


def test_no_module_imports_itself_through_others():
    assert circles() == []


def test_no_function_is_longer_than_a_screen():
    sources = {name: path.read_text(encoding="utf-8").splitlines() for name, path in MODULES.items()}
    long = {}
    for name, function in functions():
        module = max((one for one in MODULES if name.startswith(f"{one}.")), key=len)
        lines = code_lines(function, sources[module])
        if lines > LONGEST_FUNCTION and name not in PUBLIC_WRAPPERS:
            long[name] = lines
    assert long == {}


def test_no_function_takes_more_parameters_than_a_reader_can_keep():
    many = {
        name: parameters(function)
        for name, function in functions()
        if parameters(function) > MOST_PARAMETERS
        and name not in PUBLIC_WRAPPERS
        and not name.startswith((KERNELS, COMMANDS))
    }
    assert many == {}


def test_the_public_wrappers_exist():
    names = {name for name, _ in functions()}
    assert names >= PUBLIC_WRAPPERS


def test_each_class_has_a_name_of_its_own():
    places = collections.defaultdict(list)
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("name", [name for name in MODULES if name.count(".") == 1])
def test_every_package_says_what_it_is(name):
    assert ast.get_docstring(TREES[name])
