"""Threads that compute digests: few, nice, and one of them for a user.

A digest of 4 GB is seconds of a core, which takes its client one line. In the pool of the files
thirty of them would keep all cores busy, and whoever waits for a disk waiting: so they have threads
of their own, as few as hashes of passwords have, which give way to the loops. A user's digests take
turns, piece by piece, in whichever sessions they are: a short one does not wait for a long one.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakValueDictionary

from ftpcluster.passwords import give_way, threads_of_this_process
from ftpcluster.session.run import wait_out

T = TypeVar("T")

_NICENESS = 5
"""As that of threads that hash passwords. With more, on a machine that is busy with something else,
a thread that has Python's lock would wait for a core, and the loop for the thread."""


class DigestThreads:
    """Runs one piece of one digest of a user at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @functools.cached_property
    def _pool(self) -> Executor:
        return ThreadPoolExecutor(
            threads_of_this_process(),
            "ftpcluster-digests",
            functools.partial(give_way, _NICENESS),
        )

    async def run(self, user: str, function: Callable[..., T], *arguments: object) -> T:
        """What a thread says, once it is the user's turn.

        A thread that has begun is waited for also where that is cancelled: it may use a file.
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
