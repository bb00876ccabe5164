"""Workers that are forked by the fork server, or spawned where that fails.

The supervisor never waits for the fork server. It asks, and goes on. The forked worker reports
itself, and only then gets its order. If no worker reports in time, one is spawned; a forked worker
that comes after that is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import select
import signal
import socket
from collections.abc import Callable, Sequence

from ftpcluster.descriptors import close_quietly
from ftpcluster.expiry import Expiry
from ftpcluster.ipc.orders import NoOrder, receive, send
from ftpcluster.prctl import adopt_orphans, thread_name
from ftpcluster.supervisor.cut_connections import cut_connections
from ftpcluster.supervisor.process import ProcessLike
from ftpcluster.supervisor.procstatus import ended_children, stuck_thread

log = logging.getLogger(__name__)

_PATIENCE = 5.0
"""Seconds that the fork server has for an answer. After that it counts as hung."""
_ENDING = 1.0
"""Seconds after which a process whose descriptors are closed has ended."""


class ForkServer:
    """A process that forks workers on demand."""

    def __init__(self, pid: int, requests: socket.socket) -> None:
        """Takes over ``requests``, the socket to our child ``pid``. Raises OSError."""
        self.pid = pid
        self.is_usable = True
        self._pidfd = os.pidfd_open(pid)
        requests.settimeout(0)
        self._requests = requests
        self._asked: set[socket.socket] = set()

    def give_up_root(self, identity: object, kept: Sequence[int]) -> None:
        """Have the fork server change its user, before this process does; end it if it fails to."""
        try:
            send(self._requests, pickle.dumps((identity, kept)))
            if select.select((self._requests,), (), (), _PATIENCE)[0]:
                receive(self._requests)
                return
        except (OSError, NoOrder):
            pass
        self.end("does not give up root")

    def watch(self) -> None:
        """Watch for its end from now on, in the running loop."""
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self.end("has ended")
        close_quietly(self._pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)

    def end(self, why: str) -> None:
        """Stop using it, and kill it. The workers that it has forked go on."""
        if self.is_usable:
            self.is_usable = False
            close_quietly(self._requests.detach())
            _signal(self._pidfd, signal.SIGKILL)
            log.warning("the fork server %s: workers start without it, which takes longer", why)

    def reap_later(self) -> None:
        """Reap, in a moment, children that were killed before they could tell their pid."""
        asyncio.get_running_loop().call_later(_ENDING, self._reap)

    def _reap(self) -> None:
        with contextlib.suppress(OSError):
            for pid in ended_children(thread_name("fork server"), apart_from=self.pid):
                os.waitpid(pid, os.WNOHANG)

    def ask(self) -> socket.socket:
        """Ask for a worker; returns the socket on which it sends its pid and waits for its order.

        ``answered`` has to be called in the end. Raises OSError.
        """
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            ours.settimeout(0)
            if not self._asked:
                adopt_orphans(wanted=True)
            self._asked.add(ours)
            send(self._requests, b"fork", [its.fileno()])
        except OSError:
            self.answered(ours)
            raise
        finally:
            close_quietly(its.detach())
        return ours

    def answered(self, answers: socket.socket) -> None:
        """Close a socket that ``ask`` returned."""
        self._asked.discard(answers)
        close_quietly(answers.detach())
        if not self._asked:
            with contextlib.suppress(OSError):  # else it adopts other orphans, too: harmless
                adopt_orphans(wanted=False)


class ForkedProcess:
    """A child of this process that the fork server has started."""

    def __init__(self, pid: int) -> None:
        """Raises OSError; then the child is killed."""
        self.pid: int | None = pid
        self.exitcode: int | None = None
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def abort(self) -> None:
        self._send(signal.SIGABRT)
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self.exitcode is None:
            _signal(self._pidfd, number)

    def on_exit(self, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_end, callback)

    def _on_end(self, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        close_quietly(self._pidfd)
        assert self.pid is not None
        _, status = os.waitpid(self.pid, 0)  # it has ended, so this does not block
        self.exitcode = os.waitstatus_to_exitcode(status)
        callback()

    @property
    def is_stuck(self) -> bool:
        return self.pid is not None and stuck_thread(self.pid) is not None

    def leave(self) -> None:
        if self.pid is not None:
            cut_connections(self.pid)


class AskedProcess:
    """A process that the fork server was asked for. ``pid`` is None until the process exists."""

    def __init__(
        self,
        forks: ForkServer,
        give_order: Callable[[socket.socket], None],
        spawn: Callable[[], ProcessLike],
        give_up: Callable[[], None],
    ) -> None:
        """Asks the fork server. ``give_order(sock)`` sends a forked process its order, ``spawn()``
        starts one without the fork server; both may raise OSError. ``give_up()`` is called when
        neither will be called (again). Raises OSError.
        """
        self._forks = forks
        self._give_order = give_order
        self._spawn = spawn
        self._give_up = give_up
        self._process: ProcessLike | None = None
        self._is_over = False
        self._callback: Callable[[], None] = _nothing
        self._answers = forks.ask()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._answers, self._on_answer)
        self._timer = Expiry.after(loop, _PATIENCE, self._on_silence)

    # ------------------------------------------------------------------ what becomes of it

    def _on_answer(self) -> None:
        """Receive the pid, or the negative error number of fork(2). EOF: none was forked."""
        try:
            number = int(receive(self._answers)[0])
        except (OSError, NoOrder):
            number = 0
            self._forks.reap_later()
        asyncio.get_running_loop().remove_reader(self._answers)
        self._timer.cancel()
        try:
            if number > 0:
                self._on_forked(number)
            else:
                self._start_otherwise(os.strerror(-number) if number else "it has ended")
        finally:
            self._forks.answered(self._answers)

    def _on_forked(self, pid: int) -> None:
        try:
            process = ForkedProcess(pid)
        except OSError as error:
            self._start_otherwise(str(error))
            return
        if self._is_over:  # another process was started, or none is wanted any more
            process.kill()
            process.on_exit(_nothing)
            return
        try:
            self._give_order(self._answers)
        except OSError as error:
            log.error("a worker cannot be told what to do: %s", error.strerror)
            process.kill()
        self._become(process)

    def _on_silence(self) -> None:
        self._forks.end(f"did not answer for {_PATIENCE:g} s")
        self._start_otherwise("")

    def _start_otherwise(self, why: str) -> None:
        if self._is_over:
            return
        log.debug("a worker is spawned: the fork server has not forked it (%s)", why)
        try:
            process = self._spawn()
        except OSError as error:
            log.error("a worker cannot be started: %s", error.strerror)
            self._end()
        else:
            self._become(process)

    def _become(self, process: ProcessLike) -> None:
        self._is_over = True
        self._process = process
        self._give_up()
        process.on_exit(self._callback)

    def _end(self) -> None:
        """The process ends before it has begun."""
        self._is_over = True
        self._give_up()
        asyncio.get_running_loop().call_soon(self._callback)

    # ------------------------------------------------------------------ as a process

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def exitcode(self) -> int | None:
        return None if self._process is None else self._process.exitcode

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
        elif not self._is_over:
            self._end()

    def abort(self) -> None:
        if self._process is not None:
            self._process.abort()
        else:
            self.kill()

    def on_exit(self, callback: Callable[[], None]) -> None:
        self._callback = callback

    @property
    def is_stuck(self) -> bool:
        return self._process is not None and self._process.is_stuck

    def leave(self) -> None:
        if self._process is not None:
            self._process.leave()


def _signal(pidfd: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def _nothing() -> None:
    pass
