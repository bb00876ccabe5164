"""Users' directories, opened: those that are used, and for some seconds those that were.

An open directory keeps its file system from being unmounted, so none is kept for long. To open one
for each of many logins in a row would take longer than the rest of a login.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable
from weakref import WeakValueDictionary

from ftpcluster.storage.contained import Root

_KEPT_FOR = 3.0
"""Seconds, at least, for which a directory stays open that nobody uses; twice that at the most."""
_MOST = 256
"""Directories that are kept open so."""


class OpenRoots:
    """The sessions that use a directory share its descriptor."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Without ``loop`` none stays open that no session uses."""
        self._loop = loop
        self._known: WeakValueDictionary[str, Root] = WeakValueDictionary()
        self._kept: OrderedDict[str, Root] = OrderedDict()
        self._older: OrderedDict[str, Root] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def open(self, path: str, check: Callable[[str], None] | None = None) -> Root:
        """What is at a path now. Raises OSError where it is missing or may not be entered.

        ``check`` raises it where this process may not use it. It is called of what is opened anew.
        """
        root = self._known.get(path)
        if root is None or not is_same(root, path):
            root = Root(path)
            if check is not None:
                check(path)
            self._known[path] = root
            self._older.pop(path, None)
        if self._loop is not None:
            self._kept[path] = root
            if len(self._kept) > _MOST:
                self._kept.popitem(last=False)
            if self._timer is None:
                self._timer = self._loop.call_later(_KEPT_FOR, self._let_go)
        return root

    def _let_go(self) -> None:
        """Close those that nobody has asked for since the last time, and that nobody uses."""
        assert self._loop is not None
        self._older, self._kept = self._kept, OrderedDict()
        self._timer = self._loop.call_later(_KEPT_FOR, self._let_go) if self._older else None

    def close(self) -> None:
        """No session is left."""
        self._kept.clear()
        self._older.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def is_same(root: Root, path: str) -> bool:
    """Whether the directory that was opened still is the one at that path."""
    status = os.stat(path)
    return root.identity == (status.st_dev, status.st_ino)
