"""Users' directories, opened for their sessions: on the loop, or in threads where they are slow."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from weakref import WeakValueDictionary

from ftpcluster.storage.base import Storage
from ftpcluster.storage.local import LocalStorage
from ftpcluster.storage.mounts import MountTable
from ftpcluster.storage.pooled import PooledStorage, SlowRoot
from ftpcluster.storage.roots import OpenRoots
from ftpcluster.storage.slow_calls import Device, SlowCalls
from ftpcluster.storage.threads import Threads

_THREADS = 16
_PATIENCE = 20.0
_OWN = "own"
"""All disks of this machine, where somebody wants them to be used in threads."""


class LocalFiles:
    """Opens users' directories. The sessions that use a directory share its descriptor."""

    check: Callable[[str], None] | None = None
    """Raises OSError where this process may not use what is at a path. A thread may call it."""

    def __init__(
        self,
        threads: int = _THREADS,
        patience: float = _PATIENCE,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """``threads``: how many may wait for each device that may not answer. ``patience``: seconds
        in which a call of one has to end. To be made before the process is confined."""
        self._roots = OpenRoots(loop)
        self._mounts = MountTable()
        self._each, self._patience = threads, patience
        self._threads: Threads | None = None
        self._slow_roots: WeakValueDictionary[str, SlowRoot] = WeakValueDictionary()
        self._devices: WeakValueDictionary[str, Device] = WeakValueDictionary()

    def open(self, base_path: str | os.PathLike[str]) -> Storage:
        """A user's files. Raises OSError where the directory is missing or may not be entered.

        Of one that may not answer nothing is asked here: ``Storage.opened`` does that.
        """
        path = os.fspath(base_path)
        device = self._mounts.slow_storage(path)
        if device is not None:
            return PooledStorage(self._slow_root(path, device, self._patience))
        root = self._roots.open(path)
        if self.check is not None:
            self.check(path)
        return LocalStorage(root)

    def open_in_threads(
        self, base_path: str | os.PathLike[str], patience: float | None = None
    ) -> Storage:
        """A user's files, whatever they are on. ``patience``: in place of the usual."""
        path = os.fspath(base_path)
        device = self._mounts.slow_storage(path) or _OWN
        return PooledStorage(self._slow_root(path, device, patience or self._patience))

    def _slow_root(self, path: str, name: str, patience: float) -> SlowRoot:
        root = self._slow_roots.get(path)
        if root is None:
            loop = asyncio.get_running_loop()
            if self._threads is None:
                self._threads = Threads(loop)
            device = self._devices.get(name)
            if device is None:
                device = self._devices[name] = Device(self._each)
            calls = SlowCalls(path, loop, self._threads, device, patience)
            root = self._slow_roots[path] = SlowRoot(path, calls, self.check)
        return root

    def close(self) -> None:
        """No session is left. Calls that hang are left alone."""
        self._mounts.close()
        self._roots.close()
        if self._threads is not None:
            self._threads.close()
