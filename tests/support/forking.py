"""``python -m ftpcluster …`` without the start of an interpreter, which takes the most time.

One process imports the command line once, and forks for each command. So a command is a process of
its own, with its own arguments, environment, directory and standard streams. Modules of
``tests.support`` that become ``ftpcluster`` run the same way.
"""

from __future__ import annotations

import atexit
import gc
import json
import multiprocessing.process
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

CHECKOUT = Path(__file__).parents[2]
_TIMEOUT = 60.0
_REQUEST = 1 << 20
"""Bytes of the longest request: arguments and environment."""
_READ_AT_START = (
    *("PYTHON", "LD_", "LC_", "LANG", "TZ", "MALLOC_", "GLIBC_", "OPENSSL_"),
    "FTPCLUSTER_NATIVE",
)
"""Prefixes of variables that an interpreter, a library or an import reads at its start."""


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Our environment with ``more``, and with the checkout at the beginning of PYTHONPATH."""
    path = os.pathsep.join(filter(None, (str(CHECKOUT), more.get("PYTHONPATH"))))
    return {**os.environ, **more, "PYTHONPATH": path}


class Forked:
    """A process that was forked, with the methods of ``subprocess.Popen``."""

    def __init__(self, pid: int, status: int) -> None:
        """``status``: the end of a pipe from which its exit code comes."""
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = None
        self._status = status
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Its exit code, negative where a signal ended it; None while it runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def _look(self, timeout: float | None) -> int | None:
        with self._lock:
            if self.returncode is None:
                poll = select.poll()
                poll.register(self._status, select.POLLIN)
                if poll.poll(None if timeout is None else timeout * 1000):
                    said = os.read(self._status, 64)
                    os.close(self._status)
                    assert said, "the process that forks has ended"
                    self.returncode = int(said)
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass  # it has ended just now

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Forker:
    """The process that has imported the command line, as its parent sees it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.environment = environment({})
        with theirs:
            for end in (self._socket, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST)
            self._socket.settimeout(_TIMEOUT)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forking", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=self.environment,
                cwd=CHECKOUT,
            )

    def fork(self, order: Sequence[object], streams: Sequence[int]) -> Forked:
        """``order``: the arguments of ``_become``, but for the streams."""
        status, its_end = os.pipe()
        try:
            socket.send_fds(self._socket, [json.dumps(order).encode()], [*streams, its_end])
            return Forked(int(self._socket.recv(64)), status)
        except BaseException:
            os.close(status)
            raise
        finally:
            os.close(its_end)


_forker: _Forker | None = None
_lock = threading.Lock()


def fork(
    command: Sequence[str],
    env: Mapping[str, str],
    streams: Sequence[int],
    *,
    cwd: Path | None = None,
    new_session: bool = False,
) -> Forked | None:
    """Run ``python -m`` with ``command``. ``streams``: its stdin, stdout and stderr.

    Returns None where ``env`` has variables that only a new interpreter would read.
    """
    global _forker
    with _lock:
        _forker = _forker or _Forker()
        if _at_start(env) != _at_start(_forker.environment):
            return None
        order = [list(command), str(cwd or Path.cwd()), dict(env), new_session]
        return _forker.fork(order, streams)


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in env.items()
        if name.startswith(_READ_AT_START) and name != "PYTHONPATH"
    }


# ---------------------------------------------------------------------- the process that forks


def serve(control: socket.socket) -> None:
    """Fork for each command that is asked for, until the parent is gone.

    Also returns in the commands, when they have ended.
    """
    # what all of them need, and what `run` and its workers need besides
    import ftpcluster.cli.main
    import ftpcluster.cli.user
    import ftpcluster.worker.confinement
    import ftpcluster.worker.seccomp
    import ftpcluster.worker.worker  # noqa: F401

    gc.freeze()  # else a garbage collection in a command would copy every page
    poll = select.poll()  # not epoll, whose descriptor the commands would inherit
    poll.register(control, select.POLLIN)
    running: dict[int, tuple[int, int]] = {}
    while True:
        for fd, _ in poll.poll():
            if fd != control.fileno():
                poll.unregister(fd)
                _tell(fd, *running.pop(fd))
                continue
            order, fds, _, _ = socket.recv_fds(control, _REQUEST, 4)
            if not order:
                return
            *streams, status = fds
            pid = os.fork()
            if not pid:
                control.detach()
                _become(*json.loads(order), streams)
                return
            for stream in streams:
                os.close(stream)
            control.send(str(pid).encode())
            end = os.pidfd_open(pid)
            running[end] = (pid, status)
            poll.register(end, select.POLLIN)


def _tell(end: int, pid: int, status: int) -> None:
    """A command has ended: write its exit code into the pipe ``status``."""
    os.close(end)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        os.write(status, str(code).encode())
    except BrokenPipeError:
        pass  # nobody waits for it
    os.close(status)


def _become(
    command: list[str], cwd: str, env: dict[str, str], new_session: bool, streams: list[int]
) -> None:
    """Be the command, as ``python -m`` would be it."""
    for fd, stream in enumerate(streams):
        os.dup2(stream, fd)
    os.closerange(3, 1 << 20)
    if new_session:
        os.setsid()
    os.chdir(cwd)
    multiprocessing.process.ORIGINAL_DIR = cwd  # type: ignore[attr-defined]
    os.environ.clear()
    os.environ.update(env)
    more = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    # each once: a confined worker forks for each, to look for modules there
    sys.path[:] = dict.fromkeys((cwd, *more, *sys.path[1:]))
    become(command)


def become(command: Sequence[str]) -> None:
    """Be ``python -m`` with ``command`` from now on: a new interpreter only where it has to be."""
    if "ftpcluster.cli.main" not in sys.modules:
        os.execv(sys.executable, (sys.executable, "-m", *command))
    sys.argv[:] = command
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            _exit(error.code or 0)
        raise


def _exit(code: int) -> NoReturn:
    """End as an interpreter does, but for taking all modules apart: that writes to every page that
    is shared with the process that forks, which takes longer than most commands."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
