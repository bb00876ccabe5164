"""A server under test has a keeper: a process that starts it, counts for it and ends it.

Whatever the server's processes leave behind falls to the keeper, so that what they spent is not
lost, and none of them survives.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from tests.bench.processes import adopt_orphans, descendants, entries

_HEARD = (signal.SIGCHLD, signal.SIGTERM)
_GRACE = 10.0
"""Seconds that a server has to end after SIGTERM."""


def keep(bench: Connection, command: list[str], environment: Mapping[str, str], log: Path) -> None:
    """Run a server until SIGTERM comes, then end all that is left of it.

    Says when it was started (by the monotonic clock), or why it could not be, and its exit code
    when it ends by itself.
    """
    adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    begin = time.monotonic()
    try:
        server = _spawn(command, environment, log)
    except OSError as error:
        bench.send(f"{command[0]}: {error.strerror}")
        return
    has_ended = False
    try:
        bench.send(begin)
        while signal.sigwaitinfo(_HEARD).si_signo != signal.SIGTERM:
            code = _reap().get(server)
            if code is not None:
                has_ended = True
                bench.send(code)
    finally:  # also where the bench is gone and hears nothing
        if not has_ended:
            _end(server)
        _clear()


def _spawn(command: list[str], environment: Mapping[str, str], log: Path) -> int:
    return os.posix_spawnp(
        command[0],
        command,
        environment,
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ),
        setsid=True,  # Ctrl-C is not for it
        setsigmask=(),
        setsigdef=(signal.SIGINT,),
    )


def _reap() -> dict[int, int]:
    """Exit codes of the children that have ended."""
    codes: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return codes
        if pid == 0:
            return codes
        codes[pid] = os.waitstatus_to_exitcode(status)


def _end(server: int) -> None:
    os.kill(server, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while (left := deadline - time.monotonic()) > 0:
        signal.sigtimedwait((signal.SIGCHLD,), left)
        if server in _reap():
            return


def _clear() -> None:
    """Kill whoever is left, and their children, which become ours."""
    while left := descendants(os.getpid(), list(entries())):
        for entry in left:
            try:
                os.kill(entry.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        signal.sigtimedwait((signal.SIGCHLD,), 0.1)
        _reap()
