"""Users' directories, opened for their sessions: on the loop, or in threads where they are slow."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from weakref import WeakValueDictionary

from ftpcluster.storage.base import Storage
from ftpcluster.storage.contained import Root
from ftpcluster.storage.local import LocalStorage, is_same
from ftpcluster.storage.mounts import MountTable
from ftpcluster.storage.pooled import PooledStorage, SlowRoot
from ftpcluster.storage.slow_calls import Device, SlowCalls
from ftpcluster.storage.threads import Threads

_ROOTS = 256
"""Users' directories that stay open between their sessions."""
_THREADS = 16
_PATIENCE = 20.0
_OWN = "own"
"""All disks of this machine, where somebody wants them to be used in threads."""


class LocalFiles:
    """Opens users' directories. The sessions that use a directory share its descriptor."""

    def __init__(
        self,
        threads: int = _THREADS,
        patience: float = _PATIENCE,
        mounts: MountTable | None = None,
    ) -> None:
        """``threads``: how many may wait for each device that may not answer. ``patience``: seconds
        in which a call of one has to end. ``mounts``: made before the process was confined."""
        self._roots: OrderedDict[str, Root] = OrderedDict()
        self._mounts = MountTable() if mounts is None else mounts
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
        root = self._roots.get(path)
        if root is None or not is_same(root, path):
            root = self._roots[path] = Root(path)
            if len(self._roots) > _ROOTS:
                self._roots.popitem(last=False)  # sessions that use it keep it open
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
            root = self._slow_roots[path] = SlowRoot(path, calls)
        return root

    def close(self) -> None:
        """No session is left. Calls that hang are left alone."""
        self._mounts.close()
        if self._threads is not None:
            self._threads.close()
