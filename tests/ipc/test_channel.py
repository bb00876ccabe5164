"""The channel between supervisor and worker: all that is said arrives, and lies end it."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import os
import resource
import socket
import time
import typing
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftpcluster.ipc.channel import (
    MAX_MESSAGE,
    BadMessage,
    Channel,
    pair,
    supervisor_end,
    worker_end,
)
from ftpcluster.ipc.messages import (
    Adopt,
    Drain,
    EndSession,
    GiveSlot,
    Message,
    Ready,
    Released,
    SlotAnswer,
    ToSupervisor,
    ToWorker,
)
from tests.conftest import LOOPS
from tests.support.cluster import until
from tests.support.lingering import CLOSER, LINGER, lingering_connection

DEADLINE = 20.0
SO_PASSRIGHTS = 83
UNHURRIED = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

Scenario = Callable[["Bench"], Coroutine[Any, Any, None]]
Run = Callable[[Scenario], None]


class End:
    """One end of a channel, and what it was told."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, side: str) -> None:
        self.received: list[tuple[Message, int | None]] = []
        self.closed: list[Exception | None] = []
        self.turns = 0
        self.changed = asyncio.Event()
        self.channel: Channel[Any]
        if side == "worker":
            self.channel = worker_end(loop, sock, self._hear, self._end, self._turn)
        else:
            self.channel = supervisor_end(loop, sock, self._hear, self._end, CLOSER.close)

    def _hear(self, message: Message, fd: int | None = None) -> None:
        self.received.append((message, fd))
        self.changed.set()

    def _end(self, error: Exception | None) -> None:
        self.closed.append(error)
        self.changed.set()

    def _turn(self) -> None:
        self.turns += 1

    @property
    def messages(self) -> list[Message]:
        return [message for message, _ in self.received]

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def hears(self, count: int) -> None:
        await self.until(lambda: len(self.received) >= count)

    async def ends(self) -> Exception | None:
        await self.until(lambda: bool(self.closed))
        await asyncio.sleep(0)
        assert len(self.closed) == 1
        return self.closed[0]


class Bench:
    """Channels on a loop, closed in the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._open: list[Channel[Any] | socket.socket] = []

    def both(self) -> tuple[End, End]:
        """A supervisor's and a worker's end."""
        ours, theirs = pair()
        supervisor = End(self.loop, ours, "supervisor")
        worker = End(self.loop, theirs, "worker")
        self._open += [supervisor.channel, worker.channel]
        return supervisor, worker

    def end(self, side: str) -> tuple[End, socket.socket]:
        """One end, and the bare socket of a peer that may say anything."""
        ours, theirs = pair()
        theirs.settimeout(DEADLINE)
        end = End(self.loop, ours, side)
        self._open += [end.channel, theirs]
        return end, theirs

    def close(self) -> None:
        for thing in self._open:
            thing.close()


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a scenario on a loop of each kind; no descriptor may be left open after it."""
    with asyncio.Runner(loop_factory=LOOPS[request.param], debug=False) as runner:

        async def bounded(scenario: Scenario) -> None:
            bench = Bench(asyncio.get_running_loop())
            failures: list[dict[str, Any]] = []
            bench.loop.set_exception_handler(lambda _, context: failures.append(context))
            try:
                async with asyncio.timeout(DEADLINE):
                    await scenario(bench)
                    assert failures == []
            finally:
                bench.close()

        runner.get_loop()
        before = open_descriptors()
        yield lambda scenario: runner.run(bounded(scenario))
        # what the supervisor's end has closed a thread closes
        until(lambda: open_descriptors() <= before)


def before_linux_6_16(end: End) -> None:
    """The kernel lets descriptors through, as older ones do."""
    if hasattr(end.channel, "_sock"):
        with contextlib.suppress(OSError):
            end.channel._sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 1)


def send_raw(sock: socket.socket, data: bytes, descriptors: list[int]) -> None:
    rights = array.array("i", descriptors)
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


# ---------------------------------------------------------------------- catching up


def test_what_has_come_can_be_read_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ftpcluster.ipc.channel._LONGEST_CATCHING_UP", DEADLINE
    )  # on a busy machine, too

    async def scenario(bench: Bench) -> None:
        supervisor, worker = bench.both()
        for number in range(100):
            worker.channel.send(Released((number,)))
        assert supervisor.received == []
        supervisor.channel.catch_up()
        assert [message for message, _ in supervisor.received] == [
            Released((number,)) for number in range(100)
        ]
        worker.channel.close()
        supervisor.channel.catch_up()
        assert supervisor.closed == [None]
        supervisor.channel.catch_up()

    run(scenario)


def test_the_message_that_is_obeyed_just_now_comes_before_the_next_one(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        ours, theirs = pair()
        order: list[object] = []

        def obey(message: Message) -> None:
            order.append(("begins", message))
            channel.catch_up()
            order.append(("ends", message))

        channel = supervisor_end(bench.loop, ours, obey, lambda _: None, CLOSER.close)
        worker = worker_end(bench.loop, theirs, lambda *_: None, lambda _: None, lambda: None)
        first, second = Released((1,)), Released((2,))
        worker.send(first)
        worker.send(second)
        channel.catch_up()
        channel.close()
        worker.close()
        expected = [("begins", first), ("ends", first), ("begins", second), ("ends", second)]
        assert order == expected

    run(scenario)


def test_whoever_always_has_more_to_say_is_not_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftpcluster.ipc.channel._LONGEST_CATCHING_UP", 0.0)

    async def scenario(bench: Bench) -> None:
        supervisor, worker = bench.both()
        for number in range(3):
            worker.channel.send(Released((number,)))
        for _ in range(5):
            supervisor.channel.catch_up()
        assert len(supervisor.received) == 1
        while len(supervisor.received) < 3:
            await supervisor.changed.wait()
            await asyncio.sleep(0)
        worker.channel.send(Released((3,)))
        while len(supervisor.received) < 4:
            supervisor.channel.catch_up()
            await asyncio.sleep(0)

    run(scenario)


# ---------------------------------------------------------------------- what is said arrives

UNIONS = {"worker": ToWorker, "supervisor": ToSupervisor}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field; integers as msgspec encodes them."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Annotated:
        (kind, bounds) = arguments
        if kind is int:
            return st.integers(bounds.ge, min(bounds.le, 2**63 - 1))
        if kind is float:
            return st.floats(bounds.ge, bounds.le)
        if kind is str:
            return st.text(max_size=bounds.max_length)
        many = min(bounds.max_length, 20 if typing.get_args(kind)[0] is not int else 1000)
        return st.lists(values(typing.get_args(kind)[0]), max_size=many).map(tuple)
    if kind is int:
        return st.integers(0, 2**63 - 1)
    if typing.get_origin(kind) is tuple and arguments[-1] is ...:
        many = 1000 if arguments[0] is int else 20
        return st.lists(values(arguments[0]), max_size=many).map(tuple)
    if typing.get_origin(kind) is tuple:
        return st.tuples(*map(values, arguments))
    if typing.get_origin(kind) is typing.Literal:
        return st.sampled_from(arguments)
    if typing.get_origin(kind) is dict:
        return st.dictionaries(*map(values, arguments), max_size=20)
    if arguments:
        return st.one_of(*map(values, arguments))
    if isinstance(kind, type) and issubclass(kind, tuple | msgspec.Struct):
        fields = typing.get_type_hints(kind, include_extras=True)
        names = kind.__struct_fields__ if issubclass(kind, msgspec.Struct) else kind._fields
        return st.builds(kind, **{name: values(fields[name]) for name in names})
    if kind is float:
        return st.floats(allow_nan=False)
    return st.from_type(kind)


def messages_to(side: str) -> st.SearchStrategy[Message]:
    """Every kind of message that this side may hear."""
    kinds = []
    for kind in typing.get_args(UNIONS[side]):
        fields = typing.get_type_hints(kind, include_extras=True)
        kinds.append(st.builds(kind, *(values(fields[name]) for name in kind.__struct_fields__)))
    return st.one_of(*kinds)


@pytest.mark.parametrize("side", UNIONS)
@settings(UNHURRIED, max_examples=50)
@given(data=st.data())
def test_messages_arrive_as_they_were_sent_and_in_order(
    run: Run, side: str, data: st.DataObject
) -> None:
    messages = data.draw(st.lists(messages_to(side), max_size=50))

    async def scenario(bench: Bench) -> None:
        supervisor, worker = bench.both()
        sender, receiver = (supervisor, worker) if side == "worker" else (worker, supervisor)
        for message in messages:
            sender.channel.send(message)
        await receiver.hears(len(messages))
        assert receiver.received == [(message, None) for message in messages]

    run(scenario)


def test_a_descriptor_arrives_with_its_message_and_stays_the_senders(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        supervisor, worker = bench.both()
        client, accepted = socket.socketpair()
        with client, accepted:
            supervisor.channel.send(Drain(1.0))
            supervisor.channel.send(Adopt(7, "::1", 50000), accepted.fileno())
            supervisor.channel.send(Drain(2.0))
            await worker.hears(3)
            assert [fd is not None for _, fd in worker.received] == [False, True, False]
            fd = worker.received[1][1]
            assert fd is not None
            assert not os.get_inheritable(fd)
            with socket.socket(fileno=fd) as received:
                client.send(b"hello")
                assert received.recv(10) == b"hello"
            accepted.send(b"still open")
            assert client.recv(20) == b"still open"

    run(scenario)


def test_a_batch_of_messages_ends_with_one_turn(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        supervisor, worker = bench.both()
        for number in range(10):
            supervisor.channel.send(SlotAnswer(number, None))
        await worker.hears(10)
        await asyncio.sleep(0)
        assert 1 <= worker.turns <= 2

    run(scenario)


def test_a_peer_that_does_not_read_gets_all_later_and_in_order(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        end, peer = bench.end("supervisor")
        sent = [SlotAnswer(number, "x" * 1000) for number in range(2000)]
        client, accepted = socket.socketpair()
        with client, accepted:
            for number, message in enumerate(sent):
                end.channel.send(message, accepted.fileno() if number == 1999 else None)
            waiting = len(end.channel._waiting)
            assert 0 < waiting < 2000, "the socket takes some, and the rest waits"
            worker = End(bench.loop, peer.dup(), "worker")
            await worker.hears(2000)
            worker.channel.close()
            assert worker.messages == sent
            assert [fd is None for _, fd in worker.received].index(False) == 1999
            assert end.channel.backlog == 0
            os.close(typing.cast(int, worker.received[-1][1]))

    run(scenario)


def test_what_is_sent_while_others_wait_does_not_overtake_them(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        end, peer = bench.end("supervisor")
        number = 0
        while not end.channel.backlog:
            end.channel.send(SlotAnswer(number, "x" * 1000))
            number += 1
        peer.recv(MAX_MESSAGE)  # there is room again, which the loop has not seen yet
        end.channel.send(SlotAnswer(number, None))
        worker = End(bench.loop, peer.dup(), "worker")
        await worker.hears(number)
        worker.channel.close()
        assert [typing.cast(SlotAnswer, m).session for m in worker.messages] == [
            *range(1, number + 1)
        ]

    run(scenario)


def test_a_worker_that_does_not_read_is_given_up_before_it_fills_the_supervisors_memory(
    run: Run,
) -> None:
    async def scenario(bench: Bench) -> None:
        end, peer = bench.end("supervisor")
        for number in range(100_000):  # as many as a ban may end at once
            end.channel.send(EndSession(number, "Banned; try again later."))
        await asyncio.sleep(0)
        assert not end.channel.closed
        while not end.channel.closed:
            end.channel.send(SlotAnswer(1, "x" * 10_000))
            assert end.channel.backlog < 20 << 20
            await asyncio.sleep(0)
        assert isinstance(await end.ends(), BadMessage)
        with pytest.raises(BrokenPipeError):
            peer.send(ENCODED([5, 1]))

    run(scenario)


def test_a_supervisor_that_stands_still_is_not_given_up(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        end, _ = bench.end("worker")
        for _ in range(1000):
            end.channel.send(SlotAnswer(1, "x" * 30_000))
        await asyncio.sleep(0)
        assert not end.channel.closed

    run(scenario)


# ---------------------------------------------------------------------- the end


@pytest.mark.parametrize("side", UNIONS)
def test_the_peers_end_is_told_once_and_without_an_error(run: Run, side: str) -> None:
    async def scenario(bench: Bench) -> None:
        end, peer = bench.end(side)
        peer.close()
        assert await end.ends() is None
        assert end.channel.closed

    run(scenario)


def test_what_was_said_before_the_end_is_heard(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        supervisor, worker = bench.both()
        said = [GiveSlot(number) for number in range(100)]
        for message in said:
            worker.channel.send(message)
        worker.channel.close()
        assert await supervisor.ends() is None
        assert supervisor.messages == said

    run(scenario)


def test_what_was_said_before_the_end_is_heard_also_of_a_peer_that_has_not_listened(
    run: Run,
) -> None:
    """Else a connection that a worker has confirmed, and greeted, would be given to another one."""

    async def scenario(bench: Bench) -> None:
        supervisor, worker = bench.both()
        said = [GiveSlot(number) for number in range(100)]
        for message in said:
            worker.channel.send(message)
        supervisor.channel.send(Drain(1.0))  # nobody reads it
        worker.channel.close()
        assert await supervisor.ends() is None
        assert supervisor.messages == said

    run(scenario)


def test_a_peer_that_ends_with_messages_unread_is_gone_all_the_same(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        end, peer = bench.end("supervisor")
        while not end.channel.backlog:
            end.channel.send(Drain(1.0))
        peer.close()
        assert await end.ends() is None
        assert end.channel.backlog == 0

    run(scenario)


def test_on_a_closed_channel_sending_does_nothing_and_nobody_is_told(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        supervisor, worker = bench.both()
        supervisor.channel.close()
        supervisor.channel.close()
        supervisor.channel.send(Drain(1.0))
        assert await worker.ends() is None
        assert worker.messages == []
        assert supervisor.closed == []

    run(scenario)


def test_whoever_hears_a_message_may_close_the_channel(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        ours, peer = pair()
        heard: list[Message] = []
        done = bench.loop.create_future()

        def hear(message: Message) -> None:
            heard.append(message)
            channel.close()
            done.set_result(None)

        channel = supervisor_end(
            bench.loop, ours, hear, lambda _: heard.append(Ready()), CLOSER.close
        )
        for number in range(3):
            peer.send(msgspec.msgpack.encode(GiveSlot(number)))
        await done
        await asyncio.sleep(0)
        peer.close()
        assert heard == [GiveSlot(0)]

    run(scenario)


# ---------------------------------------------------------------------- lies

ENCODED = msgspec.msgpack.encode
LIES = {
    "an unknown tag": ENCODED([99, 1]),
    "no tag": ENCODED([]),
    "no array": ENCODED({"type": 1}),
    "a message of the other direction": ENCODED([2, 1, None]),
    "too few fields": ENCODED([4, 1]),
    "too many fields": ENCODED([5, 1, 2]),
    "a field of another type": ENCODED([5, "one"]),
    "a float for a number": ENCODED([5, 1.5]),
    "a number out of range": b"\x92\x05\xcf" + b"\xff" * 7,
    "a truncated message": ENCODED([4, 1, "alice", 3])[:-1],
    "something behind the message": ENCODED([5, 1]) + b"\x00",
    "a demand beyond all bounds": ENCODED([9, [["bob", 1, [1, 1 << 49, 0, 0], 0]]]),
    "less than nothing that comes back": ENCODED([9, [["bob", 1, [1, 1, 0, 0], -1]]]),
    "text that is none": b"\x94\x04\x01\xa2\xff\xfe\x01",
    "a promise of 4 billion items": b"\xdd\xff\xff\xff\xff\x05",
    "deep nesting": b"\x92\x02" + b"\x91" * 60_000,
    "one byte": b"\xc1",
    "a datagram that is too large": ENCODED([2, [1] * MAX_MESSAGE]),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lie_ends_the_channel(run: Run, lie: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        end, peer = bench.end("supervisor")
        peer.send(lie)
        peer.settimeout(0)
        with contextlib.suppress(BlockingIOError):  # a large lie may have filled the socket
            peer.send(ENCODED([5, 1]))
        assert isinstance(await end.ends(), Exception)
        assert end.messages == [], "nothing that follows is believed"
        with pytest.raises(ConnectionError):
            peer.send(ENCODED([5, 1]))

    run(scenario)


@pytest.mark.parametrize("lie", [*LIES.values(), b""], ids=[*LIES, "nothing"])
def test_a_descriptor_that_comes_with_a_lie_is_closed(run: Run, lie: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        end, peer = bench.end("supervisor")
        before_linux_6_16(end)
        client, sent = socket.socketpair()
        with client:
            with sent:
                send_raw(peer, lie, [sent.fileno()])
            await end.ends()
            client.settimeout(DEADLINE)
            assert client.recv(1) == b"", "nobody holds the other end any more"

    run(scenario)


@pytest.mark.parametrize("count", [2, 3, 100])
def test_more_than_one_descriptor_is_a_lie_and_all_are_closed(run: Run, count: int) -> None:
    async def scenario(bench: Bench) -> None:
        end, peer = bench.end("worker")
        client, sent = socket.socketpair()
        with client:
            with sent:
                send_raw(peer, ENCODED([1, 7, "::1", 50000]), [sent.fileno()] * count)
            assert isinstance(await end.ends(), BadMessage)
            client.settimeout(DEADLINE)
            assert client.recv(1) == b""
        assert end.messages == []

    run(scenario)


@settings(UNHURRIED, max_examples=100)
@given(data=st.binary(min_size=1, max_size=200), side=st.sampled_from(sorted(UNIONS)))
def test_random_bytes_are_a_message_or_end_the_channel(run: Run, data: bytes, side: str) -> None:
    async def scenario(bench: Bench) -> None:
        end, peer = bench.end(side)
        client, sent = socket.socketpair()
        with client, sent:
            send_raw(peer, data, [sent.fileno()] if side == "worker" else [])
            await end.until(lambda: bool(end.received or end.closed))
            assert bool(end.received) is not bool(end.closed)
            assert None not in end.closed
            for _, fd in end.received:
                if fd is not None:
                    os.close(fd)

    run(scenario)


def test_a_worker_cannot_send_descriptors_where_the_kernel_refuses_that(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        end, peer = bench.end("supervisor")
        try:
            end.channel._sock.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS)
        except OSError:
            pytest.skip("before Linux 6.16")
        with pytest.raises(PermissionError):
            send_raw(peer, ENCODED([5, 1]), [peer.fileno()])
        send_raw(peer, ENCODED([5, 1]), [])
        await end.hears(1)

    run(scenario)


@pytest.mark.parametrize("count", [1, 2, 253])
def test_descriptors_end_a_worker_also_with_a_message_that_is_none(run: Run, count: int) -> None:
    async def scenario(bench: Bench) -> None:
        end, peer = bench.end("supervisor")
        before_linux_6_16(end)
        client, sent = socket.socketpair()
        with client:
            with sent:
                send_raw(peer, ENCODED([5, 1]), [sent.fileno()] * count)
            assert isinstance(await end.ends(), BadMessage)
            client.settimeout(DEADLINE)
            assert client.recv(1) == b""
        assert end.messages == []

    run(scenario)


@pytest.mark.parametrize("is_read", [True, False])
def test_nobody_waits_for_a_lingering_socket_that_a_worker_sends(run: Run, is_read: bool) -> None:
    """Neither where it is received, nor where it lies in the channel when that is closed."""

    async def scenario(bench: Bench) -> None:
        end, peer = bench.end("supervisor")
        before_linux_6_16(end)
        client, accepted = lingering_connection()
        with client:
            with accepted:
                # nested, too: what lies in a socket is closed with it
                inner, outer = socket.socketpair(socket.AF_UNIX)
                with inner, outer:
                    send_raw(inner, b"x", [accepted.fileno()])
                    send_raw(peer, ENCODED([5, 1]), [accepted.fileno(), outer.fileno()])
            began = time.monotonic()
            if is_read:
                await end.ends()
            else:
                end.channel.close()
            await asyncio.sleep(0)
            # less than LINGER, whatever else this machine does meanwhile
            assert time.monotonic() - began < LINGER / 2

    run(scenario)


def test_a_descriptor_that_found_no_room_is_missing_and_the_message_is_not(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        supervisor, worker = bench.both()
        client, accepted = socket.socketpair()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with client, accepted:
            lowest_free = os.dup(accepted.fileno())
            os.close(lowest_free)
            supervisor.channel.send(Adopt(7, "::1", 50000), accepted.fileno())
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
            try:
                await worker.hears(1)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert worker.received == [(Adopt(7, "::1", 50000), None)]
        assert worker.closed == []

    run(scenario)


def test_a_message_that_cannot_be_sent_is_not_passed_over(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        supervisor, worker = bench.both()
        worker.channel.send(Released(tuple(range(10**9, 10**9 + 100_000))))
        assert isinstance(await worker.ends(), OSError)
        assert await supervisor.ends() is None

    run(scenario)


class Short:
    """A socket that has no memory the first time."""

    def __init__(self, sock: socket.socket, call: str, code: int) -> None:
        self._sock = sock
        self._call: str | None = call
        self._code = code

    def __getattr__(self, name: str) -> Any:
        if name == self._call:
            self._call = None
            raise OSError(self._code, os.strerror(self._code))
        return getattr(self._sock, name)


@pytest.mark.parametrize(
    ("side", "call", "code"),
    [
        ("worker", "send", errno.ENOBUFS),
        ("supervisor", "sendmsg", errno.ETOOMANYREFS),
        ("supervisor", "sendmsg", errno.ENOMEM),
        ("worker", "recvmsg", errno.ENOMEM),
        ("supervisor", "recvmsg", errno.ENOMEM),
    ],
)
def test_without_memory_for_a_moment_all_arrives_in_order(
    run: Run, side: str, call: str, code: int
) -> None:
    async def scenario(bench: Bench) -> None:
        supervisor, worker = bench.both()
        channel: Any = (supervisor if side == "supervisor" else worker).channel
        channel._sock = Short(channel._sock, call, code)
        with socket.socket() as accepted:
            supervisor.channel.send(Adopt(7, "::1", 50000), accepted.fileno())
            supervisor.channel.send(Drain(1.0))
            worker.channel.send(Ready())
            worker.channel.send(Released((7,)))
            await worker.hears(2)
            await supervisor.hears(2)
        assert worker.messages == [Adopt(7, "::1", 50000), Drain(1.0)]
        assert supervisor.messages == [Ready(), Released((7,))]
        assert channel._sock._call is None, "it never failed"
        assert worker.closed == supervisor.closed == []
        fd = worker.received[0][1]
        assert fd is not None
        os.close(fd)

    run(scenario)


def test_a_channel_that_waits_for_memory_can_be_closed(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        _, worker = bench.both()
        channel: Any = worker.channel
        channel._sock = Short(channel._sock, "send", errno.ENOBUFS)
        worker.channel.send(Ready())
        worker.channel.close()
        await asyncio.sleep(0.1)  # longer than until it would be tried again

    run(scenario)
