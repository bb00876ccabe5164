"""Which layer may import which: held against one dict. And reply codes have one home."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ftpcluster"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS: dict[str, set[str]] = {
    "protocol": {"_native", "native", "protocol"},
    "quota": {"protocol", "quota"},
    "config": {"config", "net", "passwords", "privileges", "protocol", "safe_paths"},
    "answers": set(),
    "runtime": set(),
    "arguments": {"protocol"},
    "descriptors": set(),
    "daemon_calls": {"runtime"},
    "expiry": set(),
    "native": set(),
    "_native": {"protocol"},
    "linewriter": {"runtime"},
    "logfile": {"linewriter", "privileges", "safe_paths"},
    "logs": {"linewriter", "protocol"},
    "libcrypt": set(),
    "passwords": {"libcrypt"},
    "prctl": set(),
    "privileges": {"prctl"},
    "safe_paths": {"privileges"},
    "refused_users": {"users"},
    "users": {"arguments", "passwords", "protocol", "quota"},
    "storage": {"_native", "answers", "descriptors", "expiry", "native", "protocol", "storage"},
    "net": {"_native", "daemon_calls", "descriptors", "expiry", "native", "net", "protocol"},
    "session": {
        *("answers", "logfile", "logs", "net", "passwords", "protocol", "quota", "session"),
        *("_native", "descriptors", "expiry", "native", "refused_users", "storage", "users"),
    },
    "admin": {"admin"},
    "ipc": {"descriptors", "ipc", "protocol", "quota"},
    "worker": {
        *(
            "compat",
            "config",
            "daemon_calls",
            "descriptors",
            "expiry",
            "ipc",
            "linewriter",
            "logfile",
            "logs",
            "net",
            "passwords",
            "prctl",
            "privileges",
            "protocol",
        ),
        *("quota", "refused_users", "runtime", "safe_paths", "session", "storage", "users"),
        "worker",
    },
    "supervisor": {
        *(
            "admin",
            "daemon_calls",
            "descriptors",
            "expiry",
            "ipc",
            "net",
            "prctl",
            "protocol",
            "quota",
        ),
        "supervisor",
    },
    "compat": {
        *("answers", "arguments", "compat", "config", "expiry", "net", "protocol", "quota"),
        *("session", "storage", "users"),
    },
    "server": {"compat", "users"},
    "pathio": {"compat"},
    "common": {"compat"},
    "errors": {"compat", "protocol", "users"},
    "__init__": {"compat", "protocol", "users"},
    "__main__": {"cli", "native", "runtime", "worker"},
}
LAYERS["cli"] = {*LAYERS, "cli"}
PURE = {"protocol", "quota"}
SESSION = (
    *(
        "ends",
        "transfer_waits",
        "timer_wheel",
        "counts",
        "command_run",
        "login_queue",
        "rights",
        "xferlog",
        "digest_threads",
        "sending_threads",
        "owner_names",
    ),
    *(
        "throttle",
        "conversation",
        "transfer_parameters",
        "row",
        "login",
        "home",
        "control",
        "hooks",
        "services",
    ),
    *("lingering", "accepting", "state", "in_use", "server_dtp", "download", "upload"),
    *("small_download", "small_upload"),
    *(
        "commands.write_only",
        "commands.access",
        "commands.hosts",
        "commands.digests",
        "commands.renaming",
    ),
    *("commands.files", "commands.long_lines", "commands.sorting"),
    *("commands.directories", "commands.listings", "commands.parameters", "commands.security"),
    *("commands.site", "commands.transfers", "commands.information", "commands.table"),
    *("deadlines", "journal"),
    *(
        "running_command",
        "activity",
        "preconditions",
        "phases",
        "control_connection",
        "server_pi",
        "process_sessions",
    ),
)
"""The modules of ``session/``: each may import those before it, for types alone as well."""
EXCEPTIONS: dict[str, str] = {}
"""What is still wrong, and why. The list only shrinks: what is right by now must leave it."""
IMPURE = {"asyncio", "os", "select", "selectors", "signal", "socket", "threading", "time", "uvloop"}


def layer_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """All of a source, about which several tests ask."""
    return tuple(ast.walk(ast.parse(source)))


def imports(source: str, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every imported module as its components, wherever in the code the import stands."""
    for node in nodes(source):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = package[: len(package) - node.level + 1] if node.level else ()
            module = (*home, *(node.module.split(".") if node.module else ()))
            # of the package itself a name may be a layer, or what __init__ re-exports
            yield from ((*module, alias.name) for alias in node.names)


def name_of(module: Path) -> str:
    """The name of a module within the package, in dots."""
    return ".".join(module.relative_to(PACKAGE).with_suffix("").parts)


NAMES = {name_of(module) for module in MODULES}


def imported_modules(source: str, package: tuple[str, ...]) -> Iterator[str]:
    """The modules of the package, in dots, that a source imports."""
    for module in imports(source, package):
        if module[0] == "ftpcluster":
            # the last component may be a name in a module
            yield from {".".join(module[1:]), ".".join(module[1:-1])} & NAMES


def is_wrong_within_session(importer: str, imported: str) -> bool:
    """Whether a module of ``session/`` imports one that stands behind it."""
    target = imported.removeprefix("session.")
    if target not in SESSION:
        return False
    return SESSION.index(target) >= SESSION.index(importer.removeprefix("session."))


def wrong_imports(source: str, layer: str, package: tuple[str, ...]) -> list[str]:
    wrong = []
    for module in imports(source, package):
        top, *rest = module
        if top == "ftpcluster":
            target = rest[0] if rest and rest[0] in LAYERS else "__init__"
            allowed = target in LAYERS[layer]
        else:
            allowed = top not in IMPURE or layer not in PURE
        if not allowed:
            wrong.append(".".join(module))
    return wrong


def wrong_in(module: Path) -> set[str]:
    """What a module imports and may not, each as "importer: imported"."""
    package = ("ftpcluster", *module.relative_to(PACKAGE).parent.parts)
    source, name = module.read_text(), name_of(module)
    found = {
        f"{name}: {imported}"
        for imported in imported_modules(source, package)
        if layer_of(module) == "session" and name.removeprefix("session.") in SESSION
        if imported.startswith("compat") or is_wrong_within_session(name, imported)
    }
    for wrong in wrong_imports(source, layer_of(module), package):
        without_name = wrong.removeprefix("ftpcluster.").rpartition(".")[0]
        if f"{name}: {without_name}" not in found:
            found.add(f"{name}: {wrong}")
    return found


def test_a_module_imports_only_what_its_layer_may() -> None:
    wrong = {each for module in MODULES for each in wrong_in(module)}
    assert wrong - EXCEPTIONS.keys() == set()
    assert EXCEPTIONS.keys() - wrong == set(), "take these exceptions out"


def test_exceptions_name_modules_that_there_are() -> None:
    names = {name_of(module) for module in MODULES}
    assert {each.partition(": ")[0] for each in EXCEPTIONS} <= names


def test_every_module_of_session_has_its_place() -> None:
    modules = {name_of(m) for m in MODULES if layer_of(m) == "session" and m.stem != "__init__"}
    assert sorted(modules) == sorted(f"session.{name}" for name in SESSION)


def test_commands_are_reached_by_their_table_alone() -> None:
    """The modules beside ``commands/`` import none of it but the table."""
    for module in MODULES:
        if layer_of(module) == "session" and not name_of(module).startswith("session.commands."):
            package = ("ftpcluster", *module.relative_to(PACKAGE).parent.parts)
            imported = set(imported_modules(module.read_text(), package))
            commands = {each for each in imported if each.startswith("session.commands.")}
            assert commands <= {"session.commands.table"}, module


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("session.timer_wheel", "from ftpcluster.session.state import Session"),
        ("session.timer_wheel", "from ftpcluster.session import state"),
        ("session.state", "if TYPE_CHECKING:\n    from .upload import Upload"),
        ("session.commands.table", "from ftpcluster.session.server_pi import ServerPI"),
    ],
)
def test_a_wrong_import_within_session_is_found(importer: str, source: str) -> None:
    package = ("ftpcluster", *importer.split(".")[:-1])
    found = imported_modules(source, package)
    assert any(is_wrong_within_session(importer, each) for each in found)


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("supervisor", "from ftpcluster.session.command_run import CommandRun"),
        ("supervisor", "def f():\n    import ftpcluster.worker.worker"),
        ("supervisor", "from ..storage import local"),
        ("supervisor", "from ftpcluster import Server"),
        ("worker", "if TYPE_CHECKING:\n    from ftpcluster import supervisor"),
        ("protocol", "from time import monotonic"),
        ("quota", "import asyncio.events"),
        ("ipc", "from ftpcluster.session import state"),
        ("session", "if TYPE_CHECKING:\n    from ftpcluster.compat.connection import Connection"),
    ],
)
def test_a_wrong_import_is_found(layer: str, source: str) -> None:
    assert wrong_imports(source, layer, ("ftpcluster", layer))


def test_every_part_of_the_package_has_its_layer() -> None:
    assert {layer_of(module) for module in MODULES} == set(LAYERS)


@pytest.mark.parametrize("module", ["ftpcluster.supervisor.supervisor", "ftpcluster.cli.main"])
def test_a_supervisor_process_never_loads_session_code(module: str) -> None:
    code = f"import sys, {module}; print(*(m for m in sys.modules if m.startswith('ftpcluster.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[1] for name in done.stdout.split()}
    assert "supervisor" in loaded
    assert loaded.isdisjoint({"compat", "session", "storage", "server"})


def test_a_process_that_loads_a_configuration_again_loads_no_command() -> None:
    """It is started at each reload."""
    code = "import sys, ftpcluster.cli.aside, ftpcluster.cli.loading_again; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {".".join(name.split(".")[:2]) for name in done.stdout.split()}
    assert "ftpcluster.config" in loaded
    assert loaded.isdisjoint({"click", "rich", "ftpcluster.supervisor", "ftpcluster.admin"})


# ---------------------------------------------------------------------- digits of reply codes

_A_REPLY = re.compile(r"[1-5][0-5]\d[ -]")


def docstrings(source: str) -> set[int]:
    """The strings that are statements: docstrings, also those of variables."""
    return {id(n.value) for n in nodes(source) if isinstance(n, ast.Expr)}


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
    skipped = docstrings(source)
    found = set()
    for node in nodes(source):
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


def test_digits_of_reply_codes_stand_only_in_the_module_of_replies() -> None:
    found = {module: reply_digits(module.read_text()) for module in MODULES}
    del found[PACKAGE / "protocol" / "reply.py"]
    assert {module: digits for module, digits in found.items() if digits} == {}


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
