"""A worker's configuration, on its way to a process that is spawned.

``multiprocessing`` writes the arguments of a process into a pipe, and waits where that is full. So
the supervisor would wait for a child that starts slowly or is stopped, and for ever for a child
that dies before it reads. A configuration may be larger than any pipe. So it goes in a file without
a name, in memory, and only the descriptor's number goes through the pipe.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from typing import Any

from ftpcluster.config import Config, WorkerConfig


class Packed:
    """The part that is the same for all workers of a generation. It is packed when the first of
    them starts: a change of accounts must not pay for it."""

    def __init__(self, config: Config, certificates: tuple[bytes, ...] | None) -> None:
        self._settings = config, certificates

    @functools.cached_property
    def content(self) -> bytes:
        return pickle.dumps(self._settings, pickle.HIGHEST_PROTOCOL)


@contextlib.contextmanager
def config_in_memory(index: int, packed: Packed) -> Iterator[object]:
    """An object that becomes a worker's ``WorkerConfig`` in a process that is spawned meanwhile.

    Raises OSError.
    """
    with open(os.memfd_create("settings", os.MFD_CLOEXEC), "w+b") as file:
        file.write(packed.content)
        file.seek(0)
        yield _InMemory(index, file.fileno())


@dataclass(frozen=True, slots=True)
class _InMemory:
    index: int
    fd: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack, (self.index, DupFd(self.fd))


def _unpack(index: int, fd: Any) -> WorkerConfig:
    with open(fd.detach(), "rb") as file:
        config, certificates = pickle.load(file)  # noqa: S301 (the supervisor's own)
    return WorkerConfig(index=index, config=config, certificates=certificates)
