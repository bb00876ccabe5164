"""``ftpcluster run`` as a real process, as a user starts it."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

READY = re.compile(r"^ready on (.+) \((\d+) workers?\)$", re.MULTILINE)
DEADLINE = 30.0  # seconds; generous, for machines under load


class Cluster:
    """A running cluster. Its stderr is collected in ``log``; it is stopped when the block ends."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "ftpcluster", "run", "--port", "0", *arguments]
        if "--host" not in arguments:
            command += ["--host", "127.0.0.1", "--host", "::1"]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        self.log = ""
        self.port = 0

    def __enter__(self) -> Cluster:
        self.port = int(self.wait_for(READY)[1].split(",")[0].rpartition(":")[2])
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.stop(signal.SIGKILL if self.process.poll() is not None else signal.SIGTERM)

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
            if b"spawn_main" in command:
                found.append(child)
        return found

    def wait_for(self, pattern: re.Pattern[str], start: int = 0) -> re.Match[str]:
        """Read the log until ``pattern`` is found in it, from character ``start`` on."""
        assert self.process.stderr is not None
        deadline = time.monotonic() + DEADLINE
        while (match := pattern.search(self.log, start)) is None:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self.process.stderr], [], [], max(left, 0))
            data = os.read(self.process.stderr.fileno(), 65536) if readable else b""
            assert data, f"no {pattern.pattern!r} on stderr:\n{self.log}"
            self.log += data.decode(errors="replace")
        return match

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; the exit code. Second calls only tell the code."""
        assert self.process.stderr is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
            _, rest = self.process.communicate(timeout=DEADLINE)
            self.log += rest.decode(errors="replace")
        else:
            self.process.stderr.close()
        return self.process.returncode


def children(pid: int) -> list[int]:
    """Child processes."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]
