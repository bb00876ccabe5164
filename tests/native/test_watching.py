"""The poller and streams, compiled and in Python, do the same in whatever order things happen.

What they have to do is held by tests/net, which run on the twin that was chosen.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftpcluster.net import watching
from ftpcluster.net.watching import READ
from tests.support.leaks import assert_leaves_nothing, open_descriptors

compiled = pytest.importorskip("ftpcluster._native.watching", reason="was not built")
BOTH = pytest.mark.parametrize("twin", [watching, compiled], ids=["Python", "compiled"])


class Loop:
    """Calls back when it is told to."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []

    def add_reader(self, _: int, look: Callable[[], None]) -> None:
        self.look = look

    def remove_reader(self, _: int) -> None:
        del self.look

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> None:
        self.soon.append(lambda: context.run(callback, *args) if context else callback(*args))

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for each in soon:
            each()
        self.look()


class Bench:
    """A stream of one twin, its peer, and what happens to it."""

    def __init__(self, twin: ModuleType) -> None:
        self.loop = Loop()
        self.poller = twin.Watching(self.loop)
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.stream = twin.Watched(self.loop, self.poller, ours.detach())
        self.told: list[object] = []
        self.waits: list[Any] = []
        self.in_callback = ""

    def called(self, what: str) -> None:
        self.told.append(what)
        if self.in_callback:
            action, self.in_callback = self.in_callback, ""
            self.do(action)

    def do(self, action: str) -> None:
        try:
            self.told.append(getattr(self, action)())
        except (OSError, ValueError, ZeroDivisionError) as error:
            self.told.append((type(error), getattr(error, "errno", None)))

    def watch(self) -> None:
        self.stream.watch(lambda: self.called("readable"))

    def watch_for_break(self) -> None:
        self.stream.watch_for_break(lambda: self.called("broken"))

    def unwatch(self) -> None:
        self.stream.unwatch()

    def unwatch_for_break(self) -> None:
        self.stream.unwatch_for_break()

    def stop_watching(self) -> None:
        self.stream.stop_watching()

    def _await(self, waiter: Any) -> None:
        number = len(self.waits)
        self.waits.append(waiter)
        waiter.add_done_callback(lambda of: self.called(f"wait {number} {of.cancelled()}"))

    def readable(self) -> None:
        self._await(self.stream.readable())

    def writable(self) -> None:
        self._await(self.stream.writable())

    def cancel(self) -> object:
        return self.waits[-1].cancel() if self.waits else None

    def recv(self) -> object:
        return self.stream.recv(3)

    def recv_into(self) -> object:
        buffer = bytearray(3)
        return self.stream.recv_into(memoryview(buffer)), bytes(buffer)

    def send(self) -> object:
        return self.stream.send(b"abc")

    def fill(self) -> object:
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += self.stream.send(bytes(1 << 16))
        return sent

    def turn(self) -> None:
        self.loop.turn()

    def spurious(self) -> None:
        self.stream.on_ready(READ)

    def peer_sends(self) -> object:
        return self.peer.send(b"hello")

    def peer_reads(self) -> object:
        return len(self.peer.recv(1 << 20))

    def peer_ends(self) -> None:
        self.peer.shutdown(socket.SHUT_WR)

    def peer_closes(self) -> None:
        self.peer.close()

    def fails(self) -> None:
        if self.stream.is_watched:
            self.stream.watch(lambda: 1 // 0)

    def close(self) -> None:
        self.stream.close()

    def close_poller(self) -> None:
        self.poller.close()
        self.loop.look = lambda: None

    def state(self) -> object:
        stream = self.stream
        done = [(wait.done(), wait.cancelled()) for wait in self.waits]
        watched = len(self.poller._watchers)
        return stream.closed, stream.is_watched, stream._events, watched, done

    def end(self) -> None:
        self.stream.close()
        self.peer.close()
        self.poller.close()


ACTIONS = sorted(
    {name for name in vars(Bench) if not name.startswith("_")} - {"called", "do", "state", "end"}
)
STEPS = st.lists(
    st.one_of(
        st.sampled_from(ACTIONS),
        st.sampled_from(["turn", "readable", "peer_sends", "watch", "recv"]),
        st.sampled_from(ACTIONS).map("in callback ".__add__),
    ),
    max_size=25,
)


def test_both_do_the_same_in_whatever_order_things_happen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = open_descriptors()
    for twin in (watching, compiled):  # on a slow machine a turn would end sooner, now and then
        monkeypatch.setattr(twin, "monotonic", lambda: 0.0)

    @settings(max_examples=400, deadline=None)
    @given(STEPS)
    def check(steps: list[str]) -> None:
        benches = [Bench(watching), Bench(compiled)]
        try:
            for step in steps:
                for bench in benches:
                    if step.startswith("in callback "):
                        bench.in_callback = step.removeprefix("in callback ")
                    else:
                        bench.do(step)
                python, c = benches
                assert c.told == python.told
                assert c.state() == python.state()
        finally:
            for bench in benches:
                bench.end()

    check()
    assert open_descriptors() == before


@BOTH
def test_a_wait_is_awaited_like_a_future(twin: ModuleType) -> None:
    async def wait(waiter: Any) -> str:
        await waiter
        return "went on"

    def step(coroutine: Any, call: Callable[[], object]) -> object:
        try:
            return call()
        except StopIteration as done:
            return done.value
        except (asyncio.CancelledError, asyncio.InvalidStateError, ZeroDivisionError) as error:
            return type(error)
        finally:
            coroutine.close()

    loop: Any = Loop()
    for done in (True, False):
        waiter = twin.Readiness(loop)
        coroutine = wait(waiter)
        assert coroutine.send(None) is waiter
        assert waiter._asyncio_future_blocking is True
        waiter._asyncio_future_blocking = False
        if done:
            waiter.set_result(None)
        expected = "went on" if done else asyncio.InvalidStateError
        assert step(coroutine, lambda coroutine=coroutine: coroutine.send(None)) == expected
    waiter = twin.Readiness(loop)
    coroutine = wait(waiter)
    coroutine.send(None)
    assert step(coroutine, lambda: coroutine.throw(ZeroDivisionError())) is ZeroDivisionError
    assert waiter.cancel() is True
    assert waiter.cancel("again") is False
    coroutine = wait(waiter)
    assert step(coroutine, lambda: coroutine.send(None)) is asyncio.CancelledError
    for call in (waiter.result, waiter.exception):
        with pytest.raises(asyncio.CancelledError):
            call()
    with pytest.raises(asyncio.InvalidStateError):
        twin.Readiness(loop).result()
    assert waiter.get_loop() is loop
    assert asyncio.isfuture(waiter)


@BOTH
def test_callbacks_of_a_wait_are_removed(twin: ModuleType) -> None:
    loop: Any = Loop()
    waiter, calls = twin.Readiness(loop), list[str]()

    def first(_: object) -> None:
        calls.append("first")

    assert waiter.remove_done_callback(first) == 0
    waiter.add_done_callback(first)
    waiter.add_done_callback(lambda _: calls.append("second"))
    waiter.add_done_callback(first)
    assert waiter.remove_done_callback(first) == 2
    waiter.set_result(None)
    assert calls == ["second"]
    waiter.add_done_callback(first)
    loop.soon.pop()()
    assert calls == ["second", "first"]


@BOTH
@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 100_000])
def test_bytes_of_any_count_come_and_go(twin: ModuleType, size: int) -> None:
    bench = Bench(twin)
    try:
        content = os.urandom(size)
        assert bench.stream.send(content) == size
        bench.peer.setblocking(True)
        assert not size or bench.peer.recv(size, socket.MSG_WAITALL) == content
        bench.peer.sendall(memoryview(content))
        received = b""
        while len(received) < size:
            received += bench.stream.recv(size)
        assert received == content
        assert bench.stream.recv(0) == b""
        for function, argument in (
            (bench.stream.recv, -1),
            (bench.stream.recv, None),
            (bench.stream.recv_into, memoryview(b"read-only")),
            (bench.stream.recv_into, None),
            (bench.stream.send, "text"),
            (bench.stream.send, None),
            (bench.stream.send, memoryview(b"abcdef")[::2]),
        ):
            with pytest.raises((OSError, TypeError, ValueError, BufferError)):
                function(argument)
    finally:
        bench.end()


@BOTH
def test_errors_are_those_of_the_kernel(twin: ModuleType) -> None:
    bench = Bench(twin)
    try:
        with pytest.raises(BlockingIOError) as raised:
            bench.stream.recv(10)
        assert raised.value.errno == errno.EAGAIN
        bench.peer.close()
        with pytest.raises(BrokenPipeError):
            bench.stream.send(b"x")
        bench.stream.close()
        for call in (lambda: bench.stream.recv(1), lambda: bench.stream.send(b"x")):
            with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                call()
        with pytest.raises(ValueError, match="negative"):
            bench.stream.readable()
    finally:
        bench.end()


def test_what_was_made_wrongly_is_no_crash() -> None:
    loop: Any = Loop()
    poller = compiled.Watching(loop)
    with pytest.raises(RuntimeError):
        poller.__init__(loop)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for arguments in ((loop, None, ours.fileno()), (loop, loop, 5), (loop, poller, "5"), ()):
            with pytest.raises(TypeError):
                compiled.Watched(*arguments)
    unmade = compiled.Watched.__new__(compiled.Watched)
    for call in (unmade.readable, unmade.unwatch, unmade.close, unmade.release):
        with contextlib.suppress(AttributeError, OSError):
            call()
    with pytest.raises((AttributeError, OSError, ValueError)):
        unmade.watch(print)
    fresh = compiled.Watching.__new__(compiled.Watching)
    with pytest.raises(ValueError, match="closed"):
        fresh.add(0, READ, print)
    fresh._on_ready()
    fresh.close()
    fresh.remove(0)
    wait = type(compiled.Readiness(loop).__await__())()
    with pytest.raises(AttributeError):
        next(wait)
    poller.close()


def test_cycles_are_found_by_the_collector() -> None:
    assert_leaves_nothing(leave_and_close, 200)


def leave_and_close() -> None:
    """Cycles of a stream, its poller, its waits and its callbacks."""
    bench = Bench(compiled)
    bench.watch()
    bench.readable()
    bench.told += [bench, bench.stream, bench.waits]
    bench.peer.close()
    os.close(bench.stream.fd)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(compiled)
    yield bench
    bench.end()


def test_calls_leave_nothing_behind(bench: Bench) -> None:
    data, buffer = b"x" * 300, memoryview(bytearray(600))

    async def wait() -> None:
        await bench.stream.readable()

    def echo() -> None:
        coroutine = wait()
        bench.stream.send(data)
        bench.peer.send(bench.peer.recv(1000))
        waiter = coroutine.send(None)
        waiter.add_done_callback(lambda _: coroutine.close())
        bench.turn()
        bench.stream.recv(150)
        bench.stream.recv_into(buffer)
        bench.watch()
        bench.peer.send(b"x")
        bench.turn()
        bench.stream.recv(10)
        bench.watch_for_break()
        bench.unwatch_for_break()
        bench.told.clear()

    def fail() -> None:
        for call in (
            lambda: bench.stream.recv(10),
            lambda: bench.stream.recv_into(buffer),
            lambda: bench.stream.recv_into(None),
            lambda: bench.stream.send(None),
            lambda: compiled.Watched(None, None, 5),
            lambda: compiled.Watched(None, bench.poller, 99999),
            lambda: bench.poller.add(99999, READ, None),
        ):
            with contextlib.suppress(OSError, TypeError):
                call()

    def begin_and_end() -> None:
        ours, theirs = socket.socketpair()
        stream = compiled.Watched(bench.loop, bench.poller, ours.detach())
        stream.watch(lambda: stream)
        stream.writable()
        stream.close()
        theirs.close()

    assert_leaves_nothing(echo, 2000, data, buffer, None)
    assert_leaves_nothing(fail, 1000, data, buffer, None)
    assert_leaves_nothing(begin_and_end, 1000, bench.loop, bench.poller)


def test_a_stream_is_reset_while_much_is_sent_in_another_thread() -> None:
    """What copies much releases the interpreter's lock: the stream may be closed meanwhile."""
    for _ in range(20):
        bench = Bench(compiled)
        bench.peer.setblocking(True)

        def send(bench: Bench = bench) -> None:
            with contextlib.suppress(OSError):
                while True:
                    with contextlib.suppress(BlockingIOError):
                        bench.stream.send(bytes(1 << 20))

        thread = threading.Thread(target=send)
        thread.start()
        bench.peer.recv(1 << 20)
        bench.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        bench.peer.close()
        thread.join(20)
        bench.end()
