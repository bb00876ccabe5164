"""Running a command's coroutine without a task.

Most commands never wait: their coroutine ends at its first step, inside the callback that read
the command line, and its reply leaves at once. A task would cost more than the command and delay
it by a turn of the loop. A command that does wait goes on as a RunningCommand, step by step, as a
task would.

Code that runs this way has no ``asyncio.current_task()``. Code that is not ours (user managers,
path layers, commands of a subclass) may need one: ``await in_task(...)`` gives it a real task.
"""

from __future__ import annotations

import asyncio
import signal
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from ftpcluster.net.readiness import Readiness

T = TypeVar("T")
Blocker = asyncio.Future[Any] | Readiness
"""What a coroutine waits for."""


@types.coroutine
def give_way() -> Generator[None, None, None]:
    """Let the loop do something else before going on."""
    yield


async def wait_out(work: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until a thread is done, despite cancellations; returns the last one.

    Else the file that the thread uses could be closed, and its descriptor be another file's.
    """
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            cancelled = error  # by ABOR, and perhaps by the session's end after it
        except Exception:
            break  # the work's own error, which its result raises
    return cancelled


async def in_task(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that is not ours, run in a task of its own.

    If the coroutine fails in the step in which it is cancelled, its error is raised in place of the
    cancellation. Otherwise the error would be lost.
    """
    task = asyncio.get_running_loop().create_task(contained(coroutine))
    task.add_done_callback(lambda _: coroutine.close())  # cancelled before its first step
    try:
        return await task
    except asyncio.CancelledError:
        if task.done() and not task.cancelled() and task.exception() is not None:
            task.result()
        raise
    finally:
        del task  # a cycle otherwise: its error holds this frame, and the frame the task


class EndedItself(Exception):
    """Code that is not ours wanted to end the process, with all other sessions in it."""


async def contained(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that is not ours; EndedItself in place of SystemExit and its like.

    A ``BaseException`` that is no ``Exception`` would end the loop, or pass all our handlers.
    KeyboardInterrupt is raised as it is, unless SIGINT is ignored: Ctrl-C may end the program.
    """
    try:
        return await coroutine
    except (Exception, asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        is_interrupt = isinstance(error, KeyboardInterrupt)
        if is_interrupt and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            raise
        raise EndedItself(f"it raised {type(error).__name__}") from error
