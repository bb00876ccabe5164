"""Loading a configuration in a process of its own, which is left alone if it hangs.

To load a configuration, files and users' directories are looked at, and names are looked up. On
storage that does not answer (NFS, FUSE) such a call may never return, and no signal ends it. A
thread in it would keep this process from ending; another process does not, and init reaps it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, Literal, TypeVar, cast

from ftpcluster.config import ConfigError
from ftpcluster.config.progress import tell_progress
from ftpcluster.expiry import time_limit
from ftpcluster.privileges import CannotRunAs

log = logging.getLogger(__name__)

T = TypeVar("T")
_PATIENCE = 10.0
"""Seconds that each file, directory or name has to answer."""
_SILENCE = 3.0
"""Seconds after which the log says what a reload waits for."""
_ENDED = "the process that was to load the configuration has ended"
_PIECE = 1 << 18
_SHORT, _LONG = struct.Struct("!i"), struct.Struct("!iQ")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
Kind = Literal["at", "done", "refused", "failed"]


def call_bounded(function: Callable[[], T]) -> T:
    """The result of a picklable function that another process calls.

    Raises ConfigError, also if a file or name does not answer, and CannotRunAs.
    """
    at = ""
    with _called(function, may_fork=threading.active_count() == 1) as results:
        while True:
            if not results.poll(_PATIENCE):
                raise _no_answer(at)
            kind, value = _received(results)
            if kind == "done":
                return cast(T, value)
            at = value


class _Pieces:
    """The messages of a connection, as they come. A large one comes in many pieces: to wait for the
    rest of it would keep the loop.
    """

    def __init__(self, results: Connection) -> None:
        self._fd = results.fileno()
        self._came = bytearray()
        os.set_blocking(self._fd, False)  # uvloop does so in any case

    def take(self) -> Iterator[tuple[Literal["done", "at"], Any]]:
        """The messages that are complete."""
        with contextlib.suppress(BlockingIOError):
            piece = os.read(self._fd, _PIECE)
            if not piece:
                raise RuntimeError(_ENDED)
            self._came += piece
        while (message := self._next()) is not None:
            yield _meant(pickle.loads(message))  # noqa: S301 (our own process)

    def _next(self) -> bytes | None:
        """As ``multiprocessing.connection`` sends them: the length, in longer ones after a -1."""
        came, head = len(self._came), _SHORT.size
        length = _SHORT.unpack_from(self._came)[0] if came >= head else 0
        if length == -1:
            head = _LONG.size
            length = _LONG.unpack_from(self._came)[1] if came >= head else 0
        if came < head + length:
            return None
        message = bytes(self._came[head : head + length])
        del self._came[: head + length]
        return message


async def call_bounded_beside(function: Callable[[], T]) -> T:
    """``call_bounded`` without blocking the loop. After a while the log has what it waits for."""
    at, told = "", ""
    with _called(function, may_fork=False) as results:
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        pieces = _Pieces(results)
        loop.add_reader(results.fileno(), readable.set)
        try:
            while True:
                if not await _is_set(readable, _SILENCE):
                    if told != at:
                        told = at
                        log.warning("the reload waits for %s", at)
                    if not await _is_set(readable, _PATIENCE - _SILENCE):
                        raise _no_answer(at)
                readable.clear()
                for kind, value in pieces.take():
                    if kind == "done":
                        return cast(T, value)
                    at = value
        finally:
            loop.remove_reader(results.fileno())


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with time_limit(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _no_answer(at: str) -> ConfigError:
    return ConfigError(
        f"{at or 'a process that was to load it'} does not answer, for {_PATIENCE:g} s now; see to "
        "it that its storage does, or leave it out"
    )


def _received(results: Connection) -> tuple[Literal["done", "at"], Any]:
    try:
        return _meant(results.recv())
    except EOFError:
        raise RuntimeError(_ENDED) from None


def _meant(message: Any) -> tuple[Literal["done", "at"], Any]:
    kind, value = message
    if kind == "refused":
        raise value
    if kind == "failed":
        raise RuntimeError(value)
    return kind, value


@contextlib.contextmanager
def _called(function: Callable[[], object], *, may_fork: bool) -> Iterator[Connection]:
    """A process that calls a function; the connection gives its results. It ends with the block."""
    with contextlib.ExitStack() as stack:
        try:
            ours, childs_end = os.pipe()
            results = stack.enter_context(Connection(ours, writable=False))
            with _signals_blocked(), Connection(childs_end, readable=False):
                pid = _forked(function, childs_end) if may_fork else _spawned(function, childs_end)
        except OSError as error:
            raise ConfigError(f"no process can be started to load it: {error.strerror}") from error
        try:
            yield results
        except BaseException:
            _leave(pid)
            raise
        if may_fork:  # it has sent its result, and ends: no thread is needed
            _reap(pid)
        else:
            _leave(pid)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """A process that is started in this block blocks these signals: they are for the supervisor."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _forked(function: Callable[[], object], fd: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work(function, fd)
        finally:
            os._exit(0)
    return pid


def _spawned(function: Callable[[], object], fd: int) -> int:
    with open(os.memfd_create("order", os.MFD_CLOEXEC), "w+b") as order:
        pickle.dump(function, order)
        order.seek(0)
        process = subprocess.Popen(  # noqa: S603 (ourselves)
            (sys.executable, "-c", f"import {__name__} as it; it.main()", str(fd)),
            stdin=order,
            stdout=subprocess.DEVNULL,
            pass_fds=(fd,),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    process.returncode = 0  # it is waited for by its pid
    return process.pid


def _leave(pid: int) -> None:
    """End a process, and have it reaped without waiting for it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    try:
        threading.Thread(target=_reap, args=(pid,), name="reaper", daemon=True).start()
    except RuntimeError:
        pass  # no thread can be started: it is a zombie until this process ends


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def work(function: Callable[[], object], fd: int) -> None:
    """Call the function, and send progress and result. This runs in the other process."""
    with Connection(fd, readable=False) as results:
        tell_progress(lambda what: results.send(("at", what)))
        outcome: tuple[Kind, object]
        try:
            outcome = "done", function()
        except (ConfigError, CannotRunAs) as error:
            outcome = "refused", error
        except BaseException:
            outcome = "failed", traceback.format_exc()
        with contextlib.suppress(BrokenPipeError):
            results.send(outcome)


def main() -> None:
    """The main function of a spawned process: the function to call comes from stdin."""
    work(pickle.load(sys.stdin.buffer), int(sys.argv[1]))  # noqa: S301 (the supervisor's own)
