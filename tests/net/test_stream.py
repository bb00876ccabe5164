"""Streams and the poller that watches them, on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from ftpcluster.expiry import expire
from ftpcluster.net.poller import READ, Poller
from ftpcluster.net.stream import Stream, pause
from tests.support.dialogue import reset

DEADLINE = 20.0

Run = Callable[[Callable[["Bench"], Coroutine[Any, Any, None]]], None]


class Bench:
    """A loop, its poller, and streams whose peers are plain sockets."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.poller = Poller(loop)
        self._open: list[Stream | socket.socket] = []

    def stream(self) -> tuple[Stream, socket.socket]:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        stream = Stream(self.loop, self.poller, ours.detach())
        self._open += [stream, theirs]
        return stream, theirs

    def connection(self) -> tuple[Stream, socket.socket]:
        """The same over TCP."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        theirs.setblocking(False)
        stream = Stream(self.loop, self.poller, ours.detach())
        self._open += [stream, theirs]
        return stream, theirs

    def close(self) -> None:
        for thing in self._open:
            thing.close()
        self.poller.close()


def fill(stream: Stream) -> int:
    """Send until the socket takes no more; the bytes that it took."""
    sent = 0
    while True:
        try:
            sent += stream.send(bytes(1 << 16))
        except BlockingIOError:
            return sent


async def send_all(stream: Stream, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[stream.send(rest) :]
        except BlockingIOError:
            await stream.writable()


async def turns(count: int = 5) -> None:
    """Let the loop look at its descriptors some times."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_what_is_sent_last_leaves_with_the_end_in_one_segment(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        segments = []
        for method in (Stream.send, Stream.send_last):
            stream, theirs = bench.connection()
            assert method(stream, b"221 Goodbye.\r\n") == 14
            stream.close()
            theirs.setblocking(True)
            assert theirs.recv(100) == b"221 Goodbye.\r\n"
            assert theirs.recv(100) == b""
            info = theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 144)
            segments.append(int.from_bytes(info[140:], sys.byteorder))  # tcpi_segs_in
        assert segments[1] == segments[0] - 1

    run(scenario)


def test_sending_the_last_to_a_full_socket_blocks(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, _ = bench.connection()
        fill(stream)
        with pytest.raises(BlockingIOError):
            stream.send_last(b"221 Goodbye.\r\n")

    run(scenario)


# ---------------------------------------------------------------------- waiting


def test_readable_waits_for_data(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        waiter = stream.readable()
        await turns()
        assert not waiter.done()
        with pytest.raises(BlockingIOError):
            stream.recv(10)
        peer.send(b"data")
        await waiter
        assert stream.recv(10) == b"data"

    run(scenario)


def test_readable_again_and_again(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        for number in range(20):
            waiter = stream.readable()
            peer.send(b"%d" % number)
            await waiter
            assert stream.recv(10) == b"%d" % number

    run(scenario)


def test_data_that_nobody_awaits_stays_for_whoever_does_later(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        peer.send(b"a")
        await stream.readable()
        await turns()  # ready and not read: the watch ends meanwhile
        await stream.readable()
        assert stream.recv(10) == b"a"

    run(scenario)


class _Counting(Stream):
    """Counts what the poller tells it."""

    calls = 0

    def on_ready(self, events: int) -> None:
        self.calls += 1
        super().on_ready(events)


def test_the_loop_does_not_spin_on_what_nobody_awaits(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        ours, theirs = socket.socketpair()
        stream = _Counting(bench.loop, bench.poller, ours.detach())
        theirs.send(b"not read")
        await stream.readable()
        await stream.writable()
        await turns(50)
        assert stream.calls <= 4
        theirs.close()
        stream.close()

    run(scenario)


def test_the_peers_end_is_readable(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        waiter = stream.readable()
        peer.close()
        await waiter
        assert stream.recv(10) == b""

    run(scenario)


def test_a_reset_wakes_reader_and_writer(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.connection()
        fill(stream)
        reading, writing = stream.readable(), stream.writable()
        reset(peer)
        await asyncio.gather(reading, writing)
        with pytest.raises(ConnectionError):
            stream.recv(10)

    run(scenario)


def test_writable_waits_until_the_peer_reads(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        rest = fill(stream)
        waiter = stream.writable()
        await turns()
        assert not waiter.done()
        while rest:
            rest -= len(peer.recv(1 << 16))
        await waiter
        assert stream.send(b"x") == 1

    run(scenario)


def test_reading_and_writing_are_awaited_each_for_itself(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        rest = fill(stream)
        reading, writing = stream.readable(), stream.writable()
        peer.send(b"x")
        await reading
        assert stream.recv(10) == b"x"
        assert not writing.done()
        reading = stream.readable()
        while rest:
            rest -= len(peer.recv(1 << 16))
        await writing
        assert not reading.done()
        peer.send(b"y")
        await reading

    run(scenario)


def test_a_waiter_that_was_cancelled_is_no_harm(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        stream.readable().cancel()
        peer.send(b"x")
        await turns()
        await stream.readable()
        assert stream.recv(10) == b"x"

    run(scenario)


def test_closing_cancels_whoever_waits(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, _ = bench.stream()
        fill(stream)
        waiters = [stream.readable(), stream.writable()]
        stream.close()
        assert all(waiter.cancelled() for waiter in waiters)
        assert stream.fd == -1
        stream.close()

    run(scenario)


def test_closing_closes_the_connection_and_no_other(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        fd = stream.fd
        stream.close()
        assert peer.recv(10) == b""
        other, other_peer = bench.stream()  # most likely under the number that became free
        waiter = other.readable()
        stream.close()
        other_peer.send(b"x")
        await waiter
        assert other.recv(10) == b"x"
        assert fd >= 0

    run(scenario)


# ---------------------------------------------------------------------- watching


def test_a_watch_calls_back_as_long_as_there_is_something_to_read(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        received: asyncio.Queue[bytes] = asyncio.Queue()
        stream.watch(lambda: received.put_nowait(stream.recv(1)))
        assert stream.is_watched
        peer.send(b"abc")
        assert [await received.get() for _ in range(3)] == [b"a", b"b", b"c"]
        peer.send(b"d")
        assert await received.get() == b"d"
        peer.close()
        assert await received.get() == b""
        stream.close()

    run(scenario)


def test_after_unwatch_nobody_is_called(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        calls: list[bytes] = []
        stream.watch(lambda: calls.append(stream.recv(1)))
        stream.unwatch()
        assert not stream.is_watched
        peer.send(b"ab")
        await turns()
        assert calls == []
        done = bench.loop.create_future()
        stream.watch(lambda: (calls.append(stream.recv(2)), stream.unwatch(), done.set_result(0)))
        await done
        assert calls == [b"ab"]

    run(scenario)


def test_whoever_is_called_back_may_close_the_stream(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        stream.writable()
        closed = bench.loop.create_future()
        stream.watch(lambda: (stream.close(), closed.set_result(None)))
        peer.close()  # readable, writable and at its end, all in one event
        await closed
        assert not stream.is_watched

    run(scenario)


def test_a_stream_may_be_closed_by_another_ones_callback(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        pairs = [bench.stream() for _ in range(2)]
        calls: list[int] = []
        done = bench.loop.create_future()

        def close_the_other(number: int) -> None:
            calls.append(number)
            pairs[1 - number][0].close()
            pairs[number][0].unwatch()
            done.set_result(None)

        for number, (stream, peer) in enumerate(pairs):
            stream.watch(lambda number=number: close_the_other(number))
            peer.send(b"x")  # both are ready before the poller looks
        await done
        await turns()
        assert len(calls) == 1

    run(scenario)


def test_a_spurious_event_wakes_nobody_for_ever(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        waiter = stream.readable()
        stream.on_ready(READ)  # in vain: there is nothing to read
        await waiter
        with pytest.raises(BlockingIOError):
            stream.recv(1)
        waiter = stream.readable()
        await turns()
        assert not waiter.done()
        peer.send(b"x")
        await waiter
        stream.on_ready(READ)  # nobody waits
        stream.on_ready(READ)  # nor is it watched any more
        assert stream.recv(1) == b"x"

    run(scenario)


class _Failing:
    """A watcher with a bug."""

    calls = 0

    def on_ready(self, _: int) -> None:
        self.calls += 1
        raise RuntimeError("a bug")


def test_a_watcher_that_fails_harms_no_other(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(bench: Bench) -> None:
        broken, broken_peer = bench.stream()
        watcher = _Failing()
        bench.poller.add(broken.fd, READ, watcher)
        broken_peer.send(b"x")
        streams = [bench.stream() for _ in range(3)]
        for _, peer in streams:
            peer.send(b"y")
        await asyncio.gather(*(stream.readable() for stream, _ in streams))
        await turns()
        assert watcher.calls == 1

    with caplog.at_level(logging.CRITICAL, "ftpcluster"):
        run(scenario)


def test_a_connection_that_cannot_be_made_a_stream_is_closed(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        fd = os.open("/", os.O_PATH)  # which takes no options
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            Stream(bench.loop, bench.poller, fd)
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.fstat(fd)

    run(scenario)


def test_a_close_that_fails_ends_the_stream_all_the_same(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        waiter = stream.readable()
        os.close(stream.fd)
        stream.close()
        assert waiter.cancelled()
        assert peer.recv(1) == b""
        assert not bench.poller._watchers

    run(scenario)


@contextlib.contextmanager
def refused(stream: Stream) -> Iterator[None]:
    """The kernel refuses to change how the stream is watched: its descriptor is another file's."""
    kept, other = os.dup(stream.fd), os.open(os.devnull, os.O_RDONLY)
    os.dup2(other, stream.fd)
    os.close(other)
    try:
        yield
    finally:
        os.dup2(kept, stream.fd)
        os.close(kept)


def test_where_the_kernel_watches_nothing_the_stream_can_be_awaited_later(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        with refused(stream), pytest.raises(PermissionError):
            stream.readable()
        peer.send(b"x")
        await stream.readable()
        assert stream.recv(1) == b"x"

    run(scenario)


@pytest.mark.parametrize("call", ["unregister", "modify"])
def test_what_cannot_be_unwatched_does_not_spin_and_can_be_watched_again(
    run: Run, call: str
) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        if call == "modify":
            stream.watch_for_break(lambda: None)
        waiter = stream.readable()
        with refused(stream):
            peer.send(b"x")
            await waiter
            await turns()  # nobody waits any more; the watch cannot end
        await turns()  # it ends at the next try
        assert not stream._events & READ
        assert stream.recv(1) == b"x"
        waiter = stream.readable()
        peer.send(b"y")
        await waiter
        assert stream.recv(1) == b"y"

    run(scenario)


def test_where_nobody_can_tell_there_is_input_and_nothing_on_its_way(run: Run) -> None:
    """AUTH ends a session whose client may have sent something behind it."""

    async def scenario(bench: Bench) -> None:
        stream = Stream(bench.loop, bench.poller, os.open(os.devnull, os.O_RDWR))
        assert stream.has_input()
        assert stream.unacknowledged() == 0
        stream.close()

    run(scenario)


def test_the_poller_can_be_closed_twice(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        bench.poller.close()
        bench.poller.close()

    run(scenario)


def test_more_streams_than_one_turn_serves_are_all_served(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        pairs = [bench.stream() for _ in range(200)]
        waiters = [stream.readable() for stream, _ in pairs]
        for _, peer in pairs:
            peer.send(b"x")
        await asyncio.gather(*waiters)

    run(scenario)


# ---------------------------------------------------------------------- sending


def test_5_mb_get_to_a_slow_reader(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.connection()
        content = os.urandom(5_000_000)

        async def read() -> bytes:
            received = bytearray()
            while len(received) < len(content):
                received += await bench.loop.sock_recv(peer, 30_000)
                await turns(1)
            return bytes(received)

        _, received = await asyncio.gather(send_all(stream, content), read())
        assert received == content

    run(scenario)


def test_sending_to_a_peer_that_is_gone_fails(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, peer = bench.stream()
        sending = asyncio.ensure_future(send_all(stream, bytes(5_000_000)))
        await turns()
        peer.close()
        with pytest.raises(ConnectionError):
            await sending

    run(scenario)


def test_sending_ends_when_the_stream_is_closed(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        stream, _ = bench.stream()
        sending = asyncio.ensure_future(send_all(stream, bytes(5_000_000)))
        await turns()
        stream.close()
        with pytest.raises(asyncio.CancelledError):
            await sending

    run(scenario)


# ---------------------------------------------------------------------- timers


def test_a_wait_ends_with_its_error_unless_it_was_done_before(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        late, early = bench.loop.create_future(), bench.loop.create_future()
        expire(bench.loop, late, 0.01, TimeoutError("too late"))
        expire(bench.loop, early, 0.01, TimeoutError("too late"))
        early.set_result(None)
        with pytest.raises(TimeoutError, match="too late"):
            await late
        await pause(bench.loop, 0.02)
        assert early.result() is None

    run(scenario)


def test_a_pause_that_was_cancelled_ends_in_silence(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        pause(bench.loop, 0.001).cancel()
        begin = bench.loop.time()
        await pause(bench.loop, 0.02)
        assert bench.loop.time() - begin >= 0.019

    run(scenario)
