"""Sets faults in the system calls of a running process. The process ``ptracer`` makes them."""

from __future__ import annotations

import ctypes
import mmap
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pytest

from tests.support import ptracer
from tests.support.cluster import until
from tests.support.ptracer import Page


class Call(NamedTuple):
    """A system call that was made."""

    number: int
    fd: int
    result: int
    what: str
    """What its first argument is, where that is a descriptor."""


class Tracer:
    """Traces one process, until the block ends or the process does."""

    def __init__(self, pid: int) -> None:
        if platform.machine() != "x86_64":
            pytest.skip("the registers of other processors are not known here")
        self.pid = pid
        with tempfile.NamedTemporaryFile(prefix="ftpcluster-faults-") as file:
            file.truncate(ptracer.SIZE)
            self._map = mmap.mmap(file.fileno(), ptracer.SIZE)
            self._page = Page.from_buffer(self._map)
            program = Path(ptracer.__file__)
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-E", str(program), str(pid), file.name],
                stderr=subprocess.PIPE,
            )
            try:
                until(lambda: self._page.attached or self._process.poll() is not None)
            except BaseException:
                self.close()
                raise
        if not self._page.attached:
            assert self._process.stderr is not None
            reason = self._process.stderr.read().decode()
            self.close()
            pytest.skip(f"no process may be traced here: {reason}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Detach; the process goes on."""
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def arm(
        self,
        number: int,
        nth: int,
        kind: int,
        value: int,
        *,
        wants: str = "",
        only_fd: int = -1,
    ) -> None:
        """Have the ``nth`` call of this number fail with errno ``value``, or move that many bytes.

        Only calls count whose descriptor's kind begins with ``wants``, and that are on ``only_fd``
        (if it is not -1).
        """
        page = self._page
        page.armed = page.hit = 0
        page.number, page.left, page.kind, page.value = number, nth, kind, value
        page.wants = wants.encode()
        page.only_fd = only_fd
        page.target = b""
        page.armed = 1

    def disarm(self) -> bool:
        """End the fault. Returns whether it has occurred."""
        self._page.armed = 0
        return bool(self._page.hit)

    @property
    def target(self) -> str:
        """What the descriptor of the failed call was."""
        return str(self._page.target.decode(errors="replace"))

    def record(self) -> None:
        """Record calls from now on."""
        self._page.records = 0
        self._page.recording = 1

    def recorded(self) -> list[Call]:
        """Stop recording. Returns the calls."""
        self._page.recording = 0
        found = []
        for index in range(self._page.records):
            offset = ptracer.RECORDS + index * ptracer.RECORD.size
            number, fd, result, what = ptracer.RECORD.unpack_from(self._map, offset)
            found.append(Call(number, fd, result, what.rstrip(b"\0").decode()))
        return found


def is_alive(pid: int) -> bool:
    """Whether a process runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


assert ctypes.sizeof(Page) <= ptracer.RECORDS
