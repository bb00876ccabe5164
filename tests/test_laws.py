"""How long and how deep code may be, and that names are not used twice. Exceptions only shrink."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ftpcluster"
MODULES = sorted(PACKAGE.rglob("*.py"))
LINES_OF_A_FUNCTION, LINES_OF_A_FILE, NESTING = 40, 400, 4
EXCEPTIONS = {
    "supervisor/supervisor.py": "all messages of workers come in here, and all orders",
    "supervisor/worker_lives.py": "one state machine: boot, reload, replacement and stop share it",
    "cli/aside.py call_bounded_beside": "two loops within with and try: neither is clearer apart",
}
"""What is longer or deeper on purpose, and why."""
TWICE = {
    "server": "aioftp has its module at the top; compat has the code",
    "pathio": "as server",
    "common": "as server",
    "errors": "as server; protocol has the replies of errors",
}
"""Names of modules that occur twice, and why."""
BLOCKS = (
    *(ast.If, ast.For, ast.While, ast.Try, ast.With, ast.Match),
    *(ast.AsyncFor, ast.AsyncWith),
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def lines_of_code(source: str, function: Function) -> int:
    """Lines that are neither empty, nor a comment, nor of a docstring."""
    said: set[int] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            said.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = source.splitlines()
    numbers = range(function.lineno, (function.end_lineno or function.lineno) + 1)
    texts = (lines[number - 1].strip() for number in numbers if number not in said)
    return sum(bool(text) and not text.startswith("#") for text in texts)


def depth(node: ast.AST, above: int = 0) -> int:
    """The deepest nesting of blocks; an ``elif`` is no deeper than its ``if``."""
    deepest = above
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deeper = isinstance(child, BLOCKS) and not is_elif
        deepest = max(deepest, depth(child, above + deeper))
    return deepest


def broken(path: str, source: str) -> set[str]:
    """The places of a module that are longer or deeper than the laws say."""
    found = {path} if source.count("\n") > LINES_OF_A_FILE else set()
    for function in functions(ast.parse(source)):
        is_long = lines_of_code(source, function) > LINES_OF_A_FUNCTION
        if is_long or depth(function) > NESTING:
            found.add(f"{path} {function.name}")
    return found


def test_functions_and_files_are_short_and_flat_but_where_a_reason_is_given() -> None:
    found: set[str] = set()
    for module in MODULES:
        found |= broken(str(module.relative_to(PACKAGE)), module.read_text())
    assert found == set(EXCEPTIONS)


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n" + "    x = 1\n" * (LINES_OF_A_FUNCTION + 1),
        "async def f():\n"
        + "".join("    " * n + "if x:\n" for n in range(1, 6))
        + "    " * 6
        + "y",
        "def f():\n try:\n  with a:\n   for b in c:\n    while d:\n     if e: pass\n finally: g",
        "\n" * (LINES_OF_A_FILE + 1),
    ],
)
def test_what_is_too_long_or_too_deep_is_found(source: str) -> None:
    assert broken("module.py", source)


def test_what_says_much_and_does_little_is_short() -> None:
    said = '    """\n' + "    text\n" * 60 + '    """\n' + "    # a comment\n\n" * 60
    assert not broken("module.py", "def f():\n" + said + "    return 1\n")
    chain = "".join(f"    elif x == {n}:\n        y\n" for n in range(10))
    assert not broken("module.py", "def f():\n    if x:\n        y\n" + chain)


def test_no_two_classes_or_modules_have_one_name() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for module in MODULES:
        if module.stem != "__init__":
            places[module.stem].add(str(module))
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(str(module))
    assert {name for name, where in places.items() if len(where) > 1} == set(TWICE)


def imported(module: Path) -> set[Path]:
    """The modules of the package that a module imports anywhere, also only for types."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.startswith("ftpcluster")
        ):
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                found.add(PACKAGE.parent / (name.replace(".", "/") + ".py"))
    return found & set(MODULES)


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = {module: imported(module) for module in MODULES}
    while ready := {module for module, needs in left.items() if not needs & left.keys()}:
        left = {module: needs for module, needs in left.items() if module not in ready}
    assert not left, sorted(str(module.relative_to(PACKAGE)) for module in left)
