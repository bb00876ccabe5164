"""Calls that may never return, each in a thread of its own that nobody waits for.

A call that hangs in the kernel cannot be ended, not even by a signal. Python joins the threads of a
loop's executor when the program ends, so such a call there would keep it from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ftpcluster.runtime import leave_aborts_to_the_main_thread

T = TypeVar("T")


def call_in_daemon(
    loop: asyncio.AbstractEventLoop, name: str, function: Callable[[], T]
) -> asyncio.Future[T]:
    """Call ``function`` in a daemon thread. OSError (EAGAIN) where no thread can be started."""
    answer: asyncio.Future[T] = loop.create_future()
    call = functools.partial(_call, loop, answer, function)
    try:
        threading.Thread(target=call, name=name, daemon=True).start()
    except RuntimeError as error:
        answer.set_exception(OSError(errno.EAGAIN, str(error)))
    return answer


def _call(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any], function: Callable[[], Any]
) -> None:
    leave_aborts_to_the_main_thread()
    try:
        tell = functools.partial(answer.set_result, function())
    except Exception as error:
        tell = functools.partial(answer.set_exception, error)
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(_tell, answer, tell)


def _tell(answer: asyncio.Future[Any], tell: Callable[[], None]) -> None:
    if not answer.done():
        tell()
