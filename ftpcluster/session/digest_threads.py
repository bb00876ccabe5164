"""Threads that compute digests: few, nice, and one of them for a user.

A client starts a digest with one line, and a digest of 4 GB takes seconds of a core. Thirty of them
in the file pool would keep all cores busy, and disk requests waiting. So digests have their own
threads, as few as password hashes have, with a niceness that lets the loops go first. The digests
of one user take turns piece by piece, over all the user's sessions in this process. So a short one
does not wait for the end of a long one.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar
from weakref import WeakValueDictionary

from ftpcluster.passwords import nice_threads
from ftpcluster.session.command_run import wait_out

T = TypeVar("T")


class DigestThreads:
    """Runs one piece of one digest of a user at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @functools.cached_property
    def _pool(self) -> Executor:
        return nice_threads("ftpcluster-digests")

    async def run(self, user: str, function: Callable[..., T], *arguments: object) -> T:
        """Run ``function`` in a thread when it is the user's turn.

        A cancelled call still waits for a thread that has begun: the thread may use a file.
        """
        turn = self._turns.get(user)
        if turn is None:
            turn = self._turns[user] = asyncio.Lock()
        async with turn:
            work = self._loop.run_in_executor(self._pool, functools.partial(function, *arguments))
            if (cancelled := await wait_out(work)) is not None:
                raise cancelled
            return work.result()

    def close(self) -> None:
        if "_pool" in self.__dict__:
            self._pool.shutdown(wait=False, cancel_futures=True)
