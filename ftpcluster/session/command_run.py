"""Running a command's coroutine without a task.

Most commands never wait: their coroutine ends at its first step, inside the callback that read
the command line, and its reply leaves at once. A task would cost more than the command and delay
it by a turn of the loop. A command that does wait goes on here, step by step, as a task would.

Code that runs this way has no ``asyncio.current_task()``. Code that is not ours (user managers,
path layers, commands of a subclass) may need one: ``await in_task(...)`` gives it a real task.
"""

from __future__ import annotations

import asyncio
import signal
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from ftpcluster.net.readiness import Readiness

T = TypeVar("T")
Blocker = asyncio.Future[Any] | Readiness
"""What a coroutine waits for."""


class CoroutineRun(Generic[T]):
    """A running coroutine, from the step in which it first had to wait."""

    __slots__ = ("_blocker", "_cancelled", "_coroutine", "_loop", "_on_done")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, T],
        blocker: Blocker | None,
        on_done: Callable[[T | None, BaseException | None], None],
    ) -> None:
        """Takes over a coroutine after a step that yielded ``blocker``.

        ``on_done(result, error)`` is called once, when it has ended.
        """
        self._loop = loop
        self._coroutine = coroutine
        self._on_done = on_done
        self._cancelled = False
        self._blocker: Blocker | None = None
        self._wait(blocker)

    def cancel(self) -> None:
        """Throw CancelledError where the coroutine waits."""
        self._cancelled = True
        if self._blocker is not None:
            self._blocker.cancel()

    def _wait(self, blocker: Blocker | None) -> None:
        self._blocker = blocker
        if blocker is None:  # it gave the loop a turn
            self._loop.call_soon(self._step)
        else:
            blocker._asyncio_future_blocking = False  # as a task does, to tell await from yield
            blocker.add_done_callback(self._step)
            if self._cancelled:
                blocker.cancel()

    def _step(self, _: Blocker | None = None) -> None:
        self._blocker = None
        try:
            if self._cancelled:
                self._cancelled = False
                blocker = self._coroutine.throw(asyncio.CancelledError())
            else:
                blocker = self._coroutine.send(None)
        except StopIteration as done:
            self._on_done(done.value, None)
        except (Exception, asyncio.CancelledError) as error:
            self._on_done(None, error)
        else:
            self._wait(blocker)


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
