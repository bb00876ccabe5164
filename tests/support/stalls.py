"""A callback that keeps the process, at the moment when that matters for timers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable


async def stall(seconds: float, first: Callable[[], object]) -> None:
    """Keep the process for some seconds, after ``first`` was called.

    It is the callback of a descriptor that does so: libuv then runs timers before it looks at
    descriptors again.
    """
    loop = asyncio.get_running_loop()
    ours, its = socket.socketpair()
    done = loop.create_future()

    def keep() -> None:
        loop.remove_reader(ours)
        first()
        time.sleep(seconds)
        done.set_result(None)

    with ours, its:
        loop.add_reader(ours, keep)
        its.send(b"now")
        await done
