"""A command of ``ftpcluster``, run to its end.

An interpreter that imports the command line takes longer than most commands. So one process
imports it once, and forks for each command: the command is a process of its own, with its own
arguments, environment, directory and standard streams.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.cluster import CHECKOUT, environment

_TIMEOUT = 60.0
_REQUEST = 1 << 20
"""Bytes of the longest request: arguments and environment."""


class Forker:
    """The process that has imported the command line, as its parent sees it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            for end in (self._socket, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST)
            self._socket.settimeout(_TIMEOUT)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.command", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment({}),
                cwd=CHECKOUT,
            )

    def run(
        self, arguments: list[str], cwd: str, env: Mapping[str, str], streams: list[int]
    ) -> int:
        """Run a command to its end; its exit code, negative where a signal ended it."""
        request = json.dumps([arguments, cwd, dict(env)]).encode()
        socket.send_fds(self._socket, [request], streams)
        try:
            return int(self._socket.recv(64))
        except TimeoutError:
            self._process.kill()
            self._process.wait()
            global _forker
            _forker = None
            raise subprocess.TimeoutExpired(arguments, _TIMEOUT) from None


_forker: Forker | None = None


def command(
    *arguments: str | bytes,
    cwd: Path | None = None,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """``python -m ftpcluster …`` to its end. ``env`` is added to the environment."""
    global _forker
    _forker = _forker or Forker()
    given = [os.fsdecode(argument) for argument in arguments]
    with (
        tempfile.TemporaryFile() as stdin_file,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        stdin_file.write(stdin.encode())
        stdin_file.seek(0)
        streams = [stdin_file.fileno(), stdout.fileno(), stderr.fileno()]
        code = _forker.run(given, str(cwd or CHECKOUT), environment(dict(env or {})), streams)
        written = []
        for file in (stdout, stderr):
            file.seek(0)
            written.append(file.read().decode(errors="surrogateescape"))
    return subprocess.CompletedProcess(given, code, *written)


def serve(control: socket.socket) -> None:
    """Run each command that is asked for in a process of its own, until the parent is gone."""
    import ftpcluster.cli  # noqa: F401 (what all of them need)

    while True:
        request, streams, _, _ = socket.recv_fds(control, _REQUEST, 3)
        if not request:
            return
        pid = os.fork()
        if not pid:
            control.close()
            _become(*json.loads(request), streams)
            return
        for fd in streams:
            os.close(fd)
        _, status = os.waitpid(pid, 0)
        control.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(arguments: list[str], cwd: str, env: dict[str, str], streams: list[int]) -> None:
    """Be the command, as ``python -m ftpcluster`` would be it."""
    for fd, stream in enumerate(streams):
        os.dup2(stream, fd)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:1] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[:] = ["ftpcluster", *arguments]
    runpy.run_module("ftpcluster", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
