"""Servers to test against: in this process on both loops, and as a cluster."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any

import pytest
import uvloop

from ftpcluster import Server

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell that starts us in the background has it so; what we start would not obey it, either
    signal.signal(signal.SIGINT, signal.default_int_handler)

if sys.dont_write_bytecode:
    # each test process would rewrite the asserts of all tests anew, and each interpreter that the
    # tests start compile all that it imports
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class InProcess:
    """A ``Server`` that runs in a thread of this process, on a loop of the given kind."""

    def __init__(self, loop: str, make: Callable[[], Server], host: str = "127.0.0.1") -> None:
        self._make = make
        self._host = host
        self._loop_factory = LOOPS[loop]
        self._started: Future[int] = Future()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.port = self._started.result(20)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._loop_factory, debug=False) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        try:
            self.server = self._make()
            await self.server.start(self._host, 0)
        except BaseException as error:
            self._started.set_exception(error)
            raise
        self._started.set_result(self.server.server_port)
        await self._stop.wait()
        await self.server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left over: {left}"

    def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in the server's thread and loop; its result."""
        done: Future[Any] = Future()

        def work() -> None:
            try:
                done.set_result(function())
            except BaseException as error:
                done.set_exception(error)

        self.loop.call_soon_threadsafe(work)
        return done.result(20)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory that is served."""
    directory = tmp_path / "root"
    directory.mkdir()
    return directory


@pytest.fixture(scope="session", autouse=True)
def _runtime_directory(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where servers have their admin sockets that are not told otherwise: not at the machine's."""
    os.environ["RUNTIME_DIRECTORY"] = str(tmp_path_factory.mktemp("runtime"))


_HERE = Path(__file__)
_MINUTES = 300
"""Seconds. A test with such a timeout of its own may take minutes."""
KINDS = ("cluster", "uvloop", "asyncio")
"""Kinds of servers, the most telling one first: a cluster's workers run on uvloop."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Import all tests, each process of pytest-xdist from others on.

    The first import of a test's module rewrites its asserts, and keeps the result. All processes
    would rewrite the same modules at the same time. So each rewrites some, and finds the others.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args != session.config.getini("testpaths"):
        return
    paths = sorted(_HERE.parent.rglob("test_*.py"))
    first = len(paths) * int(worker["workerid"][2:]) // worker["workercount"]
    for path in paths[first:] + paths[:first]:
        name = ".".join(path.relative_to(_HERE.parents[1]).with_suffix("").parts)
        try:
            importlib.import_module(name)
        except (Exception, pytest.skip.Exception):
            pass  # its collection says so


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Mark as slow what only repeats a test on another kind of server, and put all in order.

    Sessions are the same code on all kinds. What differs (the loop, where accounts are kept)
    has tests of its own, and ``-m slow`` runs the whole on the other kinds.
    """
    of_test: dict[str, list[tuple[int, pytest.Item]]] = {}
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        kind = next((each for each in KINDS if each in values), None)
        if kind is not None:
            name = re.sub(rf"\b{kind}\b", "*", item.nodeid)
            of_test.setdefault(name, []).append((KINDS.index(kind), item))
    for variants in of_test.values():
        first = min(rank for rank, _ in variants)
        for rank, item in variants:
            if rank != first:
                item.add_marker(pytest.mark.slow)
    yield  # what is not asked for has left the list
    items[:] = _in_order(items)


def _in_order(items: list[pytest.Item]) -> list[pytest.Item]:
    """What is alone comes first: one process of pytest-xdist gets all of it. Each process begins
    with one part of the list. What takes minutes begins a third into the parts: behind what is
    alone, which waits for all that runs, and not at the end, where nothing else would be left.
    """
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if _takes_minutes(item)]
    rest = sorted((item for item in items if not _takes_minutes(item)), key=_is_alone, reverse=True)
    size = -(-len(rest) // count)
    ordered: list[pytest.Item] = []
    for number in range(count):
        part = rest[number * size : (number + 1) * size]
        ordered += [*part[: size // 3], *long[number::count], *part[size // 3 :]]
    return ordered


def _takes_minutes(item: pytest.Item) -> bool:
    timeout = item.get_closest_marker("timeout")
    return timeout is not None and timeout.args[0] >= _MINUTES


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


_held: list[IO[str]] = []
"""The locks of tests that are ``alone``, from the first of several to the last."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, Any, Any]:
    """While a test runs that is ``alone``, the other processes of pytest-xdist run none.

    All tests share one lock, which those have for themselves. Who waits for that holds another
    one, behind which the others queue: else they would never let it go.
    """
    if not _is_alone(item):
        with _HERE.open() as lock:
            with (_HERE.parent / "__init__.py").open() as queue:
                fcntl.flock(queue, fcntl.LOCK_SH)
                fcntl.flock(lock, fcntl.LOCK_SH)
            return (yield)
    if not _held:
        _held.extend((_HERE.parent / name).open() for name in ("__init__.py", _HERE.name))
        for file in _held:
            fcntl.flock(file, fcntl.LOCK_EX)
    try:
        return (yield)
    finally:
        if nextitem is None or not _is_alone(nextitem):
            while _held:
                _held.pop().close()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Tests of servers often wait: two processes for each core."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_collection_finish() -> None:
    """What was collected stays: the collections of garbage that tests ask for need not look at it.

    With 10,000 tests in memory each took 0.1 s.
    """
    gc.collect()
    gc.freeze()
