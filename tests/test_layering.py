"""Which layer may import which: held against one dict. And reply codes have one home."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ftpcluster"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS: dict[str, set[str]] = {
    "protocol": {"protocol"},
    "quota": {"protocol", "quota"},
    "config": {"config", "net", "passwords", "privileges", "protocol", "safe_paths"},
    "common": set(),
    "arguments": {"protocol"},
    "logfile": {"privileges", "safe_paths"},
    "logs": {"protocol"},
    "libcrypt": set(),
    "passwords": {"libcrypt"},
    "prctl": set(),
    "privileges": set(),
    "safe_paths": {"privileges"},
    "users": {"arguments", "passwords", "protocol"},
    "storage": {"common", "protocol", "storage"},
    "net": {"net", "protocol"},
    "session": {
        *("logfile", "logs", "net", "passwords", "protocol", "quota", "session", "storage"),
        "users",
    },
    "admin": {"admin"},
    "ipc": {"ipc", "protocol", "quota"},
    "worker": {
        *("common", "config", "ipc", "logfile", "logs", "net", "passwords", "prctl", "protocol"),
        *("quota", "server", "session", "storage", "users", "worker"),
    },
    "supervisor": {"admin", "ipc", "net", "protocol", "quota", "supervisor"},
    "verbs": {"protocol", "session"},
    "server_arguments": {"arguments", "net", "protocol", "quota", "session", "storage", "users"},
    "server_paths": {"protocol", "session", "storage"},
    "server_services": {"protocol", "server", "session", "storage", "users"},
    "server": {
        *("net", "protocol", "quota", "server_arguments", "server_paths", "server_services"),
        *("session", "storage", "users", "verbs"),
    },
    "__init__": {"common", "protocol", "quota", "server", "session", "storage", "users"},
    "__main__": {"cli"},
}
LAYERS["cli"] = {*LAYERS, "cli"}
PURE = {"protocol", "quota"}
IMPURE = {"asyncio", "os", "select", "selectors", "signal", "socket", "threading", "time", "uvloop"}


def layer_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every imported module as its components, wherever in the code the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = package[: len(package) - node.level + 1] if node.level else ()
            module = (*home, *(node.module.split(".") if node.module else ()))
            # of the package itself a name may be a layer, or what __init__ re-exports
            yield from ((*module, alias.name) for alias in node.names)


def wrong_imports(source: str, layer: str, package: tuple[str, ...]) -> list[str]:
    wrong = []
    for module in imports(ast.parse(source), package):
        top, *rest = module
        if top == "ftpcluster":
            target = rest[0] if rest and rest[0] in LAYERS else "__init__"
            allowed = target in LAYERS[layer]
        else:
            allowed = top not in IMPURE or layer not in PURE
        if not allowed:
            wrong.append(".".join(module))
    return wrong


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_layer_may(module: Path) -> None:
    package = ("ftpcluster", *module.relative_to(PACKAGE).parent.parts)
    assert wrong_imports(module.read_text(), layer_of(module), package) == []


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("supervisor", "from ftpcluster.session.run import Run"),
        ("supervisor", "def f():\n    import ftpcluster.worker.worker"),
        ("supervisor", "from ..storage import local"),
        ("supervisor", "from ftpcluster import Server"),
        ("worker", "if TYPE_CHECKING:\n    from ftpcluster import supervisor"),
        ("protocol", "from time import monotonic"),
        ("quota", "import asyncio.events"),
        ("ipc", "from ftpcluster.session import state"),
    ],
)
def test_a_wrong_import_is_found(layer: str, source: str) -> None:
    assert wrong_imports(source, layer, ("ftpcluster", layer))


def test_every_part_of_the_package_has_its_layer() -> None:
    assert {layer_of(module) for module in MODULES} == set(LAYERS)


@pytest.mark.parametrize("module", ["ftpcluster.supervisor.supervisor", "ftpcluster.cli"])
def test_a_supervisor_process_never_loads_session_code(module: str) -> None:
    code = f"import sys, {module}; print(*(m for m in sys.modules if m.startswith('ftpcluster.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[1] for name in done.stdout.split()}
    assert "supervisor" in loaded
    assert loaded.isdisjoint({"session", "storage", "server"})


# ---------------------------------------------------------------------- digits of reply codes

_A_REPLY = re.compile(r"[1-5][0-5]\d[ -]")


def docstrings(tree: ast.AST) -> set[int]:
    """The strings that are statements: docstrings, also those of variables."""
    return {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}


def suspects(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions of a node that stand where a reply code belongs."""
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        yield from node.args if name in ("Reply", "Code") else ()
        yield from (k.value for k in node.keywords if k.arg == "code")
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if node.value and any(is_a_code(t) for t in targets):
            yield node.value
    elif isinstance(node, ast.Compare):
        if any(is_a_code(side) for side in (node.left, *node.comparators)):
            yield from (node.left, *node.comparators)
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        yield from node.elts if any(is_a_code(e) for e in node.elts) else ()


def is_a_code(node: ast.expr) -> bool:
    """``code``, ``reply_code``, ``x.code``, ``Code.OK``."""
    if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "Code":
        return True
    name = getattr(node, "attr", getattr(node, "id", ""))
    return bool(name == "code" or name.endswith("_code"))


def reply_digits(source: str) -> list[str]:
    """Lines of ``source`` on which a reply code is written in digits."""
    tree = ast.parse(source)
    skipped = docstrings(tree)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in skipped:
            text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            if isinstance(text, str) and _A_REPLY.match(text):
                found.add(node.lineno)
        for suspect in suspects(node):
            for part in ast.walk(suspect):  # also within `550 if … else 450`
                value = getattr(part, "value", None)
                if isinstance(part, ast.Constant) and type(value) is int and 100 <= value < 600:
                    found.add(part.lineno)
    return [source.splitlines()[line - 1].strip() for line in sorted(found)]


@pytest.mark.parametrize(
    "module",
    [module for module in MODULES if module != PACKAGE / "protocol" / "reply.py"],
    ids=lambda m: str(m.relative_to(PACKAGE)),
)
def test_digits_of_reply_codes_stand_only_in_the_module_of_replies(module: Path) -> None:
    assert reply_digits(module.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "Reply(226, 'Done.')",
        "reply.Reply(code=550, text='No.')",
        "send('226 Done.')",
        "send(b'421-Bye')",
        "send(f'257 {path}')",
        "class E(FTPError):\n    code = 530",
        "class E(FTPError):\n    code: int = 530",
        "if reply.code == 226: pass",
        "if reply.code in (Code.OK, 226): pass",
        "Reply(550 if gone else 450, text)",
    ],
)
def test_a_reply_code_in_digits_is_found(source: str) -> None:
    assert reply_digits(source)


@pytest.mark.parametrize(
    "source",
    ["'''226 in a docstring'''", "_PORTS = 226", "read(512)", "'Sent 226 bytes'", "Reply(Code.OK)"],
)
def test_other_numbers_are_no_reply_codes(source: str) -> None:
    assert reply_digits(source) == []
