"""A worker's configuration, on its way to a process that is spawned.

``multiprocessing`` writes the arguments of a process into a pipe, and waits where that is full. So
the supervisor would wait for a child that starts slowly or is stopped, and for ever for a child
that dies before it reads. A configuration may be larger than any pipe. So it goes in a file without
a name, in memory, and only the descriptor's number goes through the pipe.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from typing import Any

from ftpcluster.config import Config, WorkerConfig


def pack(config: Config, certificates: tuple[bytes, ...] | None) -> bytes:
    """Pack the part that is the same for all workers of a generation; this is done once."""
    return pickle.dumps((config, certificates), pickle.HIGHEST_PROTOCOL)


@contextlib.contextmanager
def config_in_memory(index: int, packed: bytes) -> Iterator[object]:
    """An object that becomes a worker's ``WorkerConfig`` in a process that is spawned meanwhile.

    Raises OSError.
    """
    with open(os.memfd_create("settings", os.MFD_CLOEXEC), "w+b") as file:
        file.write(packed)
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
