"""Row 1 and the reference: names, signatures, defaults."""

from __future__ import annotations

import asyncio
import enum
import importlib.metadata
import importlib.resources
import inspect
import pydoc
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import ftpcluster
from ftpcluster import common

NAMES = [
    "Server",
    "User",
    "Permission",
    "AbstractUserManager",
    "MemoryUserManager",
    "AvailableConnections",
    "Connection",
    "ConnectionConditions",
    "PathConditions",
    "PathPermissions",
    "worker",
    "AbstractPathIO",
    "PathIO",
    "AsyncPathIO",
    "MemoryPathIO",
    "AbstractAsyncLister",
    "universal_exception",
    "PathIOError",
    "PathIsNotAbsolute",
    "NoAvailablePort",
    "setlocale",
    "with_timeout",
]
EXAMPLES = Path(__file__).parent / "examples"
NO_DEFAULT = inspect.Parameter.empty


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_public(name: str) -> None:
    assert getattr(ftpcluster, name) is not None
    assert name in ftpcluster.__all__
    assert name in dir(ftpcluster)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Client"):
        _ = ftpcluster.Client  # type: ignore[attr-defined]


def test_star_import_gives_every_name() -> None:
    names: dict[str, Any] = {}
    exec("from ftpcluster import *", names)
    assert set(NAMES) <= set(names)


MODULES = {
    "server": (
        "AbstractUserManager AvailableConnections Connection ConnectionConditions "
        "MemoryUserManager PathConditions PathPermissions Permission Server User worker"
    ),
    "pathio": "AbstractPathIO AsyncPathIO MemoryPathIO PathIO PathIOError universal_exception",
    "common": "AbstractAsyncLister Connection setlocale with_timeout",
    "errors": "NoAvailablePort PathIOError PathIsNotAbsolute",
}


@pytest.mark.parametrize(
    ("module", "name"), [(m, name) for m, names in MODULES.items() for name in names.split()]
)
def test_names_can_be_imported_from_where_the_reference_has_them(module: str, name: str) -> None:
    there = importlib.import_module(f"ftpcluster.{module}")
    assert getattr(there, name) is getattr(ftpcluster, name)
    assert name in there.__all__


def test_constants_and_helpers_of_the_reference_are_there() -> None:
    assert (common.DEFAULT_BLOCK_SIZE, common.END_OF_LINE) == (8192, "\r\n")
    assert common.wrap_with_container("line") == ("line",)
    assert common.wrap_with_container(["line"]) == ["line"]
    assert ftpcluster.__version__ == importlib.metadata.version("ftpcluster")


def test_path_layers_and_listers_are_generic_as_the_references_are() -> None:
    class Layer(ftpcluster.AbstractPathIO[Path]):
        """One of a user's own."""

    class Lister(ftpcluster.AbstractAsyncLister[Path]):
        """One of a user's own."""

    assert issubclass(Layer, ftpcluster.AbstractPathIO)
    assert issubclass(Lister, ftpcluster.AbstractAsyncLister)


class Doubling:
    """A context whose value is twice what it was made of."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.is_left = False

    async def __aenter__(self) -> int:
        return 2 * self.value

    async def __aexit__(self, *_: object) -> None:
        self.is_left = True


async def test_async_enterable_lets_a_result_be_entered_at_once() -> None:
    made: list[Doubling] = []

    @common.async_enterable
    async def doubling(value: int) -> Doubling:
        made.append(Doubling(value))
        return made[-1]

    async with doubling(2) as four:
        assert four == 4
        assert not made[0].is_left
    assert made[0].is_left
    async with await doubling(3) as six:
        assert six == 6


async def test_what_is_read_can_be_iterated() -> None:
    blocks = iter((b"one", b"two", b""))

    async def read() -> bytes:
        return next(blocks)

    assert [block async for block in common.AsyncStreamIterator(read)] == [b"one", b"two"]


@pytest.mark.parametrize(
    "first", ["ftpcluster.worker.entry", "ftpcluster.server", "ftpcluster.worker.worker_services"]
)
def test_worker_is_the_decorator_whatever_was_imported_before(first: str) -> None:
    """In a worker process, too, where the package of that name has been imported."""
    program = f"import {first}; from ftpcluster import worker; worker(print)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_docstring_of_its_own(name: str) -> None:
    documented = vars(getattr(ftpcluster, name)).get("__doc__") or getattr(ftpcluster, name).__doc__
    assert documented
    assert documented.strip()


def test_nothing_of_aioftp_is_imported() -> None:
    program = (
        "import sys, ftpcluster; [getattr(ftpcluster, n) for n in ftpcluster.__all__]; "
        "sys.exit('aioftp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    required = importlib.metadata.requires("ftpcluster") or []
    assert not [line for line in required if "aioftp" in line and "extra" not in line]


def test_the_package_says_that_it_is_typed() -> None:
    assert importlib.resources.files("ftpcluster").joinpath("py.typed").is_file()


def test_help_on_server_reads_its_arguments_and_commands() -> None:
    text = pydoc.plain(pydoc.render_doc(ftpcluster.Server))
    for word in ("block_size", "ipv4_pasv_forced_response_address", "commands_mapping", "async"):
        assert word in text
    for method in ("start", "serve_forever", "run", "close", "build_list_string", "retr", "stor"):
        assert re.search(rf" {method}\([\s|]*self", text), method


# ---------------------------------------------------------------------- signatures

SERVER = {
    "block_size": 8192,
    "socket_timeout": None,
    "idle_timeout": None,
    "wait_future_timeout": 1,
    "path_timeout": None,
    "path_io_factory": ftpcluster.PathIO,
    "maximum_connections": None,
    "read_speed_limit": None,
    "write_speed_limit": None,
    "read_speed_limit_per_connection": None,
    "write_speed_limit_per_connection": None,
    "ipv4_pasv_forced_response_address": None,
    "data_ports": None,
    "encoding": "utf-8",
    "welcome_message": "welcome",
    "system_type": "UNIX Type: L8",
}
USER = {
    "base_path": Path("."),
    "home_path": PurePosixPath("/"),
    "permissions": None,
    "maximum_connections": None,
    "read_speed_limit": None,
    "write_speed_limit": None,
    "read_speed_limit_per_connection": None,
    "write_speed_limit_per_connection": None,
}
KEYWORDS = {
    ftpcluster.Server: SERVER,
    ftpcluster.User: USER,
    ftpcluster.Permission: {"readable": True, "writable": True},
    ftpcluster.AbstractUserManager: {"timeout": None},
    ftpcluster.MemoryUserManager: {"timeout": None},
    ftpcluster.ConnectionConditions: {"wait": False, "fail_code": "503", "fail_info": None},
}
POSITIONAL = {
    ftpcluster.Server: {"users": None},
    ftpcluster.User: {"login": None, "password": None},
    ftpcluster.Permission: {"path": "/"},
    ftpcluster.AvailableConnections: {"value": None},
    ftpcluster.PathIO: {"timeout": None, "connection": None, "state": None},
    ftpcluster.AsyncPathIO: {"timeout": None, "connection": None, "state": None},
    ftpcluster.MemoryPathIO: {"timeout": None, "connection": None, "state": None},
    ftpcluster.AbstractPathIO: {"timeout": None, "connection": None, "state": None},
    ftpcluster.Server.start: {"self": NO_DEFAULT, "host": None, "port": 0},
    ftpcluster.Server.run: {"self": NO_DEFAULT, "host": None, "port": 0},
    ftpcluster.User.get_permissions: {"self": NO_DEFAULT, "path": NO_DEFAULT},
    ftpcluster.Permission.is_parent: {"self": NO_DEFAULT, "other": NO_DEFAULT},
    ftpcluster.AbstractUserManager.get_user: {"self": NO_DEFAULT, "login": NO_DEFAULT},
    ftpcluster.AbstractUserManager.authenticate: {
        "self": NO_DEFAULT,
        "user": NO_DEFAULT,
        "password": NO_DEFAULT,
    },
    ftpcluster.AbstractUserManager.notify_logout: {"self": NO_DEFAULT, "user": NO_DEFAULT},
    ftpcluster.MemoryUserManager.get_user: {"self": NO_DEFAULT, "login": NO_DEFAULT},
}


@pytest.mark.parametrize("subject", KEYWORDS, ids=lambda subject: subject.__qualname__)
def test_keyword_arguments_and_their_defaults_are_the_references(subject: Any) -> None:
    parameters = inspect.signature(subject).parameters
    for name, default in KEYWORDS[subject].items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY, name
        assert parameters[name].default == default, name


@pytest.mark.parametrize("subject", POSITIONAL, ids=lambda subject: subject.__qualname__)
def test_positional_arguments_and_their_defaults_are_the_references(subject: Any) -> None:
    parameters = list(inspect.signature(subject).parameters.values())
    positional = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert {p.name: p.default for p in positional} == POSITIONAL[subject]


def test_what_ftpcluster_adds_to_server_is_optional() -> None:
    for parameter in inspect.signature(ftpcluster.Server).parameters.values():
        assert parameter.default is not NO_DEFAULT, parameter


@pytest.mark.parametrize("name", ["start", "run"])
def test_start_and_run_take_more_keywords_for_the_listener(name: str) -> None:
    parameters = inspect.signature(getattr(ftpcluster.Server, name)).parameters.values()
    assert any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (ftpcluster.Server, "start run serve_forever close build_list_string"),
        (ftpcluster.User, "get_permissions"),
        (ftpcluster.AbstractUserManager, "get_user authenticate notify_logout"),
        (ftpcluster.MemoryUserManager, "get_user authenticate notify_logout"),
        (
            ftpcluster.PathIO,
            "exists is_dir is_file mkdir rmdir unlink stat rename seek write read close",
        ),
    ],
)
def test_methods_that_the_reference_has_as_coroutines_are_coroutines(
    owner: type, names: str
) -> None:
    for name in names.split():
        assert inspect.iscoroutinefunction(getattr(owner, name)), name


def test_a_user_manager_without_its_two_methods_cannot_be_made() -> None:
    with pytest.raises(TypeError):
        ftpcluster.AbstractUserManager()  # type: ignore[abstract]


def test_the_responses_of_get_user_are_the_references() -> None:
    responses = ftpcluster.AbstractUserManager.GetUserResponse
    assert issubclass(responses, enum.Enum)
    assert {each.name: each.value for each in responses} == {
        "OK": "ok",
        "PASSWORD_REQUIRED": "password_required",
        "ERROR": "error",
    }
    assert ftpcluster.MemoryUserManager.GetUserResponse is responses


def test_the_bases_are_the_references() -> None:
    assert issubclass(ftpcluster.Connection, defaultdict)
    assert issubclass(ftpcluster.MemoryUserManager, ftpcluster.AbstractUserManager)
    for layer in (ftpcluster.PathIO, ftpcluster.AsyncPathIO, ftpcluster.MemoryPathIO):
        assert issubclass(layer, ftpcluster.AbstractPathIO)
    for error in (ftpcluster.PathIOError, ftpcluster.PathIsNotAbsolute, ftpcluster.NoAvailablePort):
        assert issubclass(error, Exception)


def test_the_decorators_name_the_references_conditions() -> None:
    for name in [
        "user_required",
        "login_required",
        "passive_server_started",
        "data_connection_made",
        "rename_from_required",
    ]:
        assert hasattr(ftpcluster.ConnectionConditions, name), name
    for name in [
        "path_must_exists",
        "path_must_not_exists",
        "path_must_be_dir",
        "path_must_be_file",
    ]:
        assert hasattr(ftpcluster.PathConditions, name), name
    for name in ("readable", "writable"):
        assert hasattr(ftpcluster.PathPermissions, name), name


def test_mypy_in_strict_mode_has_nothing_against_a_users_scripts() -> None:
    """The scripts are checked as a user's, who has a py.typed package and no configuration."""
    scripts = [str(path) for path in sorted(EXAMPLES.glob("*.py")) if path.stem != "__init__"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", *scripts],
        cwd=EXAMPLES.parents[2],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_setlocale_sets_and_restores_the_locale() -> None:
    import locale

    before = locale.setlocale(locale.LC_ALL)
    with ftpcluster.setlocale("C") as name:
        assert name == locale.setlocale(locale.LC_ALL) == "C"
    assert locale.setlocale(locale.LC_ALL) == before
    with pytest.raises(KeyError), ftpcluster.setlocale("C"):
        raise KeyError
    assert locale.setlocale(locale.LC_ALL) == before


class Bounded:
    timeout: float | None = None
    path_timeout: float | None = None

    @ftpcluster.with_timeout
    async def waits(self) -> str:
        """Waits for nothing."""
        await asyncio.Event().wait()
        return "never"

    @ftpcluster.with_timeout("path_timeout")
    async def answers(self, what: str, *, times: int = 1) -> str:
        return what * times


async def test_with_timeout_ends_a_method_after_the_timeout_of_its_object() -> None:
    subject = Bounded()
    subject.timeout = 0.01
    with pytest.raises(TimeoutError):
        await subject.waits()
    assert subject.waits.__doc__ == "Waits for nothing."


@pytest.mark.parametrize("timeout", [None, 20.0])
async def test_with_timeout_takes_the_name_of_the_attribute_too(timeout: float | None) -> None:
    subject = Bounded()
    subject.path_timeout = timeout
    assert await subject.answers("a", times=3) == "aaa"
