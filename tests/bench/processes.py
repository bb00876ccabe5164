"""Processes: children that end with this one, and what the system says of a whole family."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, NamedTuple

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ENDINGS = (signal.SIGINT, signal.SIGTERM)
_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PATIENCE = 20.0

_libc = ctypes.CDLL(None, use_errno=True)
# a client is ready in no time, and inherits what this process has imported
_context = multiprocessing.get_context("fork")


_interrupts: list[int] = []


class Lost(Exception):
    """A child has ended, or said nothing for too long."""


@dataclass(frozen=True)
class Child:
    """A process of ours, and the pipe to it. It ends with the block, at the latest."""

    process: ForkProcess
    connection: Connection

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.join(_PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.connection.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def hears(self, patience: float) -> Any:
        """What it says next. Raises Lost."""
        try:
            if self.connection.poll(patience):
                return self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise Lost(f"process {self.pid} of the bench has ended") from None
        raise Lost(f"process {self.pid} of the bench says nothing for {patience:.0f} s")


def end_when_asked() -> None:
    """SIGTERM is what Ctrl-C is: KeyboardInterrupt."""
    for number in _ENDINGS:
        signal.signal(number, _on_interrupt)


def _on_interrupt(number: int, _: object) -> None:
    _interrupts.append(number)
    raise KeyboardInterrupt


def look_for_interrupts() -> None:
    """Raise KeyboardInterrupt again: in a finalizer, say, the first one would get lost."""
    if _interrupts:
        raise KeyboardInterrupt


def start(target: Callable[..., None], *arguments: object) -> Child:
    """Run ``target(connection, *arguments)`` in a child.

    Ctrl-C is not for it: it ends by SIGTERM, which also comes when this process is gone.
    """
    look_for_interrupts()
    ours, theirs = _context.Pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        process = _context.Process(
            target=_begin, args=(before, ours, target, theirs, *arguments), daemon=True
        )
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return Child(process, ours)


def _begin(
    mask: set[signal.Signals],
    other_end: Connection,
    target: Callable[..., None],
    connection: Connection,
    *arguments: object,
) -> None:
    other_end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent.pid:
        return  # it ended before it could be asked to tell
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        target(connection, *arguments)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # nobody is left to hear it


def adopt_orphans() -> None:
    """From now on a descendant of this process whose parent ends is its child."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    # as unsigned long: prctl takes variable arguments
    if _libc.prctl(option, ctypes.c_ulong(value)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl {option}: {os.strerror(error)}")


class Entry(NamedTuple):
    """A process, as /proc/PID/stat describes it; times are seconds of CPU."""

    pid: int
    parent: int
    own: float
    waited_for: float  # of its children that have ended, and of theirs


def entries() -> Iterator[Entry]:
    """All processes of this moment."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text()
            except OSError:
                continue  # it has ended meanwhile
            # behind the name, which may hold anything
            fields = stat.rpartition(")")[2].split()
            user, system, children_user, children_system = map(int, fields[11:15])
            yield Entry(
                int(name),
                int(fields[1]),
                (user + system) * _TICK,
                (children_user + children_system) * _TICK,
            )


def descendants(pid: int, among: list[Entry]) -> list[Entry]:
    """All that a process has started, and what they have, without itself."""
    children: dict[int, list[Entry]] = {}
    for entry in among:
        children.setdefault(entry.parent, []).append(entry)
    found: list[Entry] = []
    generation = [pid]
    while generation:
        born = [child for each in generation for child in children.get(each, ())]
        found += born
        generation = [child.pid for child in born]
    return found


def cpu_below(pid: int) -> float:
    """Seconds of CPU of all descendants, also of those that have ended; without its own.

    That is whole where each orphan is waited for by somebody of the family, see ``adopt_orphans``.
    """
    now = list(entries())
    waited_for = sum(entry.waited_for for entry in now if entry.pid == pid)
    return waited_for + sum(entry.own + entry.waited_for for entry in descendants(pid, now))


def memory_below(pid: int) -> float:
    """Megabytes of all descendants: PSS, which shares out what they share.

    Raises PermissionError where a process has become another user that may not be looked at.
    """
    found = 0
    for entry in descendants(pid, list(entries())):
        try:
            found += memory_of(entry.pid)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    return found / 1e6


def memory_of(pid: int) -> int:
    """Bytes of one process: PSS. Raises OSError where it has ended, or may not be looked at."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = (line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:"))
    return sum(map(int, sizes)) * 1024
