"""Running a command's coroutine without a task.

Most commands never wait: their coroutine ends at its first step, inside the callback that read
the command line, and its reply leaves at once. A task would cost more than the command and delay
it by a turn of the loop. A command that does wait goes on here, step by step, as a task would.

What runs this way has no ``asyncio.current_task()``. Code that is not ours (user managers, path
layers, commands of a subclass) may need one: ``await in_task(...)`` gives it a real task.
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
    """One coroutine on its way, after the step in which it had to wait for the first time."""

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
            blocker._asyncio_future_blocking = False  # what a task does, to tell await from yield
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
    """Wait until a thread is done, however often that is cancelled; the last cancellation.

    A file that the thread uses is still open then: its descriptor could be another file's.
    """
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            cancelled = error  # ABOR, and the client's end may follow it
        except Exception:
            break  # its own, which is in its result
    return cancelled


async def in_task(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that is not ours, run in a task of its own.

    Its error is raised also where it has failed in the very step in which it was cancelled: in a
    cancellation's place, since nobody else would hear of it.
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
        del task  # its error would hold this frame, and the frame the task


class EndedItself(Exception):
    """Code that is not ours wanted to end the process, with all other sessions in it."""


async def contained(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that is not ours, whatever that raises.

    What is no ``Exception`` would leave the loop, or no handler of ours would take it. Ctrl-C is
    somebody else's matter, where that is not ignored.
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
