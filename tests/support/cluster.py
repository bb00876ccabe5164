"""``ftpcluster run`` as a real process, as a user starts it."""

from __future__ import annotations

import itertools
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tests.support.command import AS_ROOT
from tests.support.dialogue import Dialogue
from tests.support.forking import CHECKOUT, Forked, environment, fork
from tests.support.proc_net import other_end

READY = re.compile(r"^ready on (.+) \((\d+) workers?\)$", re.MULTILINE)
_RELOADED = re.compile(r"^.* (?:not )?reloaded: .*$", re.MULTILINE)
SPAWNED = {"FTPCLUSTER__LOG__LEVEL": "info"}
"""An environment in which workers are spawned: where it has settings there is no fork server."""
DEADLINE = 30.0  # seconds; generous, for machines under load

T = TypeVar("T")


class Cluster:
    """A running cluster. Its stderr is collected in ``log``. It is stopped when the block ends."""

    def __init__(
        self,
        *arguments: str,
        env: dict[str, str] | None = None,
        hosts: Sequence[str] | None = ("127.0.0.1", "::1"),
        program: Sequence[str] = ("ftpcluster", "run"),
        stdin: int = subprocess.DEVNULL,
        cwd: Path | None = None,
        python: str = sys.executable,
        stderr: tuple[int, int] | None = None,
        fresh: bool = False,
    ) -> None:
        """``program``: the module to run, and the arguments before the flags.

        ``hosts``: addresses to listen on; None: a configuration file has them. ``stderr``: our end
        and the server's end; None: a new pipe. ``fresh``: start a new interpreter; else the
        supervisor is forked (``forking.py``) where that makes no difference.
        """
        ours, theirs = os.pipe() if stderr is None else stderr
        anywhere = () if hosts is None else ("--port", "0")
        command = [*program, *anywhere, *arguments]
        if "--host" not in arguments:
            for host in hosts or ():
                command += ["--host", host]
        self._runtime = tempfile.TemporaryDirectory(prefix="ftpcluster-")
        self.admin = f"{self._runtime.name}/admin.sock"
        whole_env = environment({"RUNTIME_DIRECTORY": self._runtime.name, **(env or {})})
        forked = None
        is_ours = command[0].startswith(("ftpcluster", "tests.support."))
        is_another = cwd not in (None, CHECKOUT) and (Path(cwd) / "ftpcluster").is_dir()
        if is_ours and python == sys.executable and not is_another and not fresh:
            forked = _forked(command, whole_env, cwd, stdin, theirs)
        self.process: Forked | subprocess.Popen[bytes] = forked or subprocess.Popen(
            [python, "-m", *command],
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            cwd=cwd,
            env=whole_env,
            start_new_session=True,
        )
        self._text = ""
        self._forgotten = 0
        self.port = 0
        self._news = threading.Condition()
        self._ended = False
        os.close(theirs)
        self.is_read = threading.Event()
        """While it is cleared, nobody reads the server's stderr."""
        self.is_read.set()
        # a daemon: a process that a test leaves may keep the other end open
        self._reader = threading.Thread(target=self._collect, args=(ours,), daemon=True)
        self._reader.start()

    def _collect(self, stderr: int) -> None:
        with open(stderr, "rb", buffering=0) as log:
            while self.is_read.wait() and (data := log.read(65536)):
                with self._news:
                    self._text += data.decode(errors="replace").replace(AS_ROOT, "")
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def log(self) -> str:
        """What it has written on stderr."""
        return self._text[self._forgotten :]

    def forget_log(self) -> None:
        """Have ``log`` begin here, for another test that uses the same cluster."""
        self._forgotten = len(self._text)

    def __enter__(self) -> Cluster:
        try:
            self.port = int(self.wait_for(READY)[1].split(",")[0].rpartition(":")[2])
        except BaseException:
            self._kill_all()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.stop(signal.SIGKILL if self.process.poll() is not None else signal.SIGTERM)
        finally:
            self._kill_all()

    def _kill_all(self) -> None:
        """Leave nothing behind, also where a test has failed."""
        for pid in (self.pid, *self.processes()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        self._runtime.cleanup()

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self.process.pid

    def workers(self) -> list[int]:
        """Process ids of the workers that live now."""
        found = []
        for child in children(self.pid):
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            if command.startswith(b"ftpcluster: worker") or b"spawn_main" in command:
                found.append(child)
        return found

    def processes(self) -> list[int]:
        """All live processes of the cluster, with the supervisor: those of its POSIX session."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    state, _, _, session = (
                        (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                    )
                except OSError:
                    continue
                if int(session) == self.pid and state not in "ZX":
                    found.append(int(entry.name))
        return found

    def worker_of(self, sock: socket.socket) -> int:
        """The worker that serves the control connection whose other end is ``sock``."""
        link = f"socket:[{until(lambda: _inode_of_other_end(sock))}]"
        return until(lambda: next((pid for pid in self.workers() if link in open_files(pid)), None))

    def wait_for(self, pattern: re.Pattern[str], start: int = 0) -> re.Match[str]:
        """Read the log until ``pattern`` is found in it, from character ``start`` on."""
        with self._news:
            self._news.wait_for(lambda: pattern.search(self.log, start) or self._ended, DEADLINE)
            match = pattern.search(self.log, start)
        assert match is not None, f"no {pattern.pattern!r} on stderr:\n{self.log}"
        return match

    def hang_up(self) -> str:
        """Have it reload (SIGHUP). Returns the line of the log with the result."""
        start = len(self.log)
        self.process.send_signal(signal.SIGHUP)
        return self.wait_for(_RELOADED, start)[0]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it. Returns the exit code; further calls do no more than that."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, and for the end of its log. Returns the exit code."""
        self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        self._runtime.cleanup()
        return self.process.returncode


def _forked(
    command: list[str], env: dict[str, str], cwd: Path | None, stdin: int, stderr: int
) -> Forked | None:
    with open(os.devnull, "r+b") as nothing:
        given, write = nothing.fileno(), -1
        if stdin == subprocess.PIPE:
            given, write = os.pipe()
        streams = (given, nothing.fileno(), stderr)
        forked = fork(command, env, streams, cwd=cwd, new_session=True)
    if write >= 0:
        os.close(given)
        if forked is None:
            os.close(write)
        else:
            forked.stdin = os.fdopen(write, "wb", buffering=0)
    return forked


def loop_of(pid: int) -> str:
    """The event loop of a process: libuv is woken by an eventfd, stock asyncio by a socket pair."""
    return "uvloop" if "anon_inode:[eventfd]" in open_files(pid) else "asyncio"


def _inode_of_other_end(sock: socket.socket) -> str | None:
    fields = other_end(sock)
    return None if fields is None or fields[9] == "0" else fields[9]


def until(look: Callable[[], T | None], deadline: float = DEADLINE) -> T:
    """Call ``look`` again and again until its result is true, and return that.

    For what nothing announces, such as files, descriptors and counts of other processes.
    """
    end = time.monotonic() + deadline
    while not (seen := look()):
        assert time.monotonic() < end, f"still {seen!r} after {deadline} s"
        time.sleep(0.01)
    return seen


def children(pid: int) -> list[int]:
    """Child processes."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def processor_time(pid: int) -> float:
    """Seconds that the threads of a process have run: clock_getcpuclockid(3) of it."""
    return time.clock_gettime((~pid << 3) | 2)


def starve(pid: int, spare: int = 0) -> None:
    """Let a process open only ``spare`` more descriptors, until ``restore`` is called."""
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = (number for number in range(1 << 20) if number not in used)
    limit = next(itertools.islice(free, spare, None))
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))


def restore(pid: int) -> None:
    """Set the limit of descriptors back to the hard limit, as the server itself sets it."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


def open_files(pid: int) -> list[str]:
    """The targets of /proc/PID/fd; none where the process is gone."""
    found = []
    try:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found.append(str(fd.readlink()))
            except FileNotFoundError:
                pass  # closed meanwhile
    except OSError:
        pass
    return found


def begin_download(client: Dialogue, path: str) -> socket.socket:
    """Begin a RETR, and read nothing. Returns the data connection.

    Its receive buffer is small: a file of 16 MiB does not fit into the kernel's buffers, so the
    transfer cannot end before somebody reads.
    """
    match = re.search(r"\(\|\|\|(\d+)\|\)", client.says("EPSV", 229))
    assert match is not None
    data = socket.socket(socket.AF_INET6 if ":" in client.host else socket.AF_INET)
    try:
        data.settimeout(DEADLINE)
        data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        data.connect((client.host, int(match[1])))
        client.says(f"RETR {path}", 150)
    except BaseException:
        data.close()
        raise
    return data


def fill(port: int, limit: int) -> list[Dialogue]:
    """Open ``limit`` connections, and assert that no more are let in.

    A connection that was closed just now may still count for a moment. So a connection that is
    refused below the limit is tried again.
    """
    held: list[Dialogue] = []

    def one_more() -> Dialogue | None:
        client = Dialogue(port, greeting=None)
        code, text = client.reply()
        if code == 220:
            return client
        assert (code, client.is_closed()) == (421, True), text
        client.sock.close()
        return None

    try:
        while len(held) < limit:
            held.append(until(one_more))
        for _ in range(3):
            beyond = one_more()
            assert beyond is None, f"more than {limit} connections were let in"
    except BaseException:
        for client in held:
            client.sock.close()
        raise
    return held
