"""Users' directories, opened for their sessions: on the loop, or in threads where they are slow."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import weakref
from collections.abc import Callable
from pathlib import PurePosixPath
from weakref import WeakValueDictionary

from ftpcluster.storage.base import Storage
from ftpcluster.storage.contained import Root
from ftpcluster.storage.local import LocalStorage
from ftpcluster.storage.mounts import MountTable
from ftpcluster.storage.pooled import PooledStorage, SlowRoot
from ftpcluster.storage.roots import OpenRoots
from ftpcluster.storage.slow_calls import Device, SlowCalls
from ftpcluster.storage.threads import Threads

log = logging.getLogger(__name__)

_THREADS = 16
_PATIENCE = 20.0
_FOUND = 300.0
"""Storage that has been found slow is used in threads for so many seconds."""
_OWN = "own"
"""The device that stands for all disks of this machine, where these are used in threads, too."""


class LocalFiles:
    """Opens users' directories. The sessions that use a directory share its descriptor."""

    check: Callable[[str], None] | None = None
    """Raises OSError where this process may not use what is at a path. A thread may call it."""

    def __init__(
        self,
        threads: int = _THREADS,
        patience: float = _PATIENCE,
        loop: asyncio.AbstractEventLoop | None = None,
        mounts: MountTable | None = None,
    ) -> None:
        """``threads``: how many may wait for each device that may not answer. ``patience``: seconds
        in which a call of one has to end. ``mounts``: made before the process was confined."""
        self._roots = OpenRoots(loop)
        self._found: dict[str, Root] = {}
        self._tell_long = _teller(self)
        self._mounts = MountTable() if mounts is None else mounts
        self._each, self._patience = threads, patience
        self._threads: Threads | None = None
        self._slow_roots: WeakValueDictionary[str, SlowRoot] = WeakValueDictionary()
        self._devices: WeakValueDictionary[str, Device] = WeakValueDictionary()

    def open(
        self, base_path: str | os.PathLike[str], made_home: PurePosixPath | None = None
    ) -> Storage:
        """A user's files. Raises OSError where the directory is missing or may not be entered.

        Of one that may not answer nothing is asked here: ``Storage.opened`` does that.
        ``made_home``: a missing directory is made, with this one in it.
        """
        path = os.fspath(base_path)
        device = self._mounts.slow_storage(path)
        if device is not None:
            return PooledStorage(self._slow_root(path, device, self._patience, made_home))
        if made_home is not None:
            _make(path, made_home)
        if (found := self._found.get(path)) is not None:
            return LocalStorage(found, self._tell_long)
        return LocalStorage(self._roots.open(path, self.check), self._tell_long)

    def on_long(self, root: Root, seconds: float) -> None:
        """Storage that was taken for fast has kept the loop waiting."""
        if root.substitute is not None:
            return
        device = self._mounts.device(root.path) or _OWN
        root.substitute = PooledStorage(self._slow_root(root.path, device, self._patience))
        self._found[root.path] = root
        asyncio.get_running_loop().call_later(_FOUND, self._believe_again, root)
        log.warning(
            "a command kept this process waiting for %.1f s for the storage at %s: for %d minutes"
            " it is used in threads",
            seconds, root.path, _FOUND / 60,
        )  # fmt: skip

    def _believe_again(self, root: Root) -> None:
        root.substitute = None
        if self._found.get(root.path) is root:
            del self._found[root.path]

    def open_in_threads(
        self,
        base_path: str | os.PathLike[str],
        patience: float | None = None,
        made_home: PurePosixPath | None = None,
    ) -> Storage:
        """A user's files, whatever they are on. ``patience``: in place of the usual."""
        path = os.fspath(base_path)
        device = self._mounts.device(path) or _OWN
        return PooledStorage(self._slow_root(path, device, patience or self._patience, made_home))

    def _slow_root(
        self, path: str, name: str, patience: float, made_home: PurePosixPath | None = None
    ) -> SlowRoot:
        root = self._slow_roots.get(path)
        if root is None:
            loop = asyncio.get_running_loop()
            if self._threads is None:
                self._threads = Threads(loop)
            device = self._devices.get(name)
            if device is None:
                device = self._devices[name] = Device(self._each)
            calls = SlowCalls(path, loop, self._threads, device, patience)
            make = None if made_home is None else functools.partial(_make, home=made_home)
            root = self._slow_roots[path] = SlowRoot(path, calls, self.check, make)
        return root

    def close(self) -> None:
        """No session is left. Calls that hang are left alone."""
        self._mounts.close()
        self._roots.close()
        if self._threads is not None:
            self._threads.close()


def _make(path: str, home: PurePosixPath) -> None:
    """Make a user's directory where it is missing. The one above it has to be there.

    Only in a directory that was just made is the home made: another one could have links in it.
    """
    try:
        os.mkdir(path)
    except FileExistsError:
        pass
    else:
        os.makedirs(f"{path}/{home}", exist_ok=True)
        log.info("the directory %s was made", path)


def _teller(files: LocalFiles) -> Callable[[Root, float], None]:
    """What storages call: they do not keep ``files``, which keeps them."""
    found = weakref.ref(files)

    def tell(root: Root, seconds: float) -> None:
        if (files := found()) is not None:
            files.on_long(root, seconds)

    return tell
