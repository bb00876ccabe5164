"""Passive data ports: a pool of listeners, and one accept from the right peer."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from ftpcluster.net import passive
from ftpcluster.net.data_connection import await_data_connection
from ftpcluster.net.passive import PassiveListener, PassivePorts
from ftpcluster.net.poller import Poller
from ftpcluster.protocol.errors import NoDataConnection, SessionEnded
from tests.support.dialogue import reset

DEADLINE = 20.0
HOST = "127.0.0.1"
INTRUDER = "127.0.0.2"

Run = Callable[[Callable[["Bench"], Coroutine[Any, Any, None]]], None]


class Bench:
    """A loop and pools of ports on it, closed in the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.poller = Poller(loop)
        self._pools: list[PassivePorts] = []
        self._open: list[socket.socket] = []

    def ports(self, ports: list[int] | None = None) -> PassivePorts:
        pool = PassivePorts(self.loop, ports)
        self._pools.append(pool)
        return pool

    def client(self, listener: PassiveListener, source: str = HOST) -> socket.socket:
        """A connection to the listener from the address ``source``."""
        client = socket.create_connection((listener.host, listener.port), DEADLINE, (source, 0))
        self._open.append(client)
        return client

    async def arrival(
        self, listener: PassiveListener, peer: str = HOST, timeout: float = DEADLINE
    ) -> socket.socket:
        """The server's end of the data connection."""
        fd = await await_data_connection(self.loop, self.poller, listener, peer, timeout)
        sock = socket.socket(fileno=fd)
        sock.settimeout(DEADLINE)
        self._open.append(sock)
        return sock

    def close(self) -> None:
        for sock in self._open:
            sock.close()
        for pool in self._pools:
            for listener in tuple(pool._assigned):
                listener.abandon()
            pool.close()
        self.poller.close()


@pytest.fixture
def reserved() -> Iterator[Callable[[int], list[int]]]:
    """Ports that nobody else gets while the test runs: bound, but not listened on.

    SO_REUSEADDR lets the pool bind them beside us, and keeps the kernel from handing them out. That
    goes by address, so they are bound on both that the tests use.
    """
    with contextlib.ExitStack() as held:

        def bind(host: str, port: int) -> int:
            sock = held.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            bound: int = sock.getsockname()[1]
            return bound

        def reserve_one() -> int:
            while True:
                port = bind(HOST, 0)
                with contextlib.suppress(OSError):  # somebody has it on the other address
                    return bind(INTRUDER, port)

        yield lambda count: [reserve_one() for _ in range(count)]


def is_closed(client: socket.socket) -> bool:
    """Whether the other end hangs up, with nothing said."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def accepts(host: str, port: int) -> bool:
    """Whether anybody listens there."""
    try:
        socket.create_connection((host, port), DEADLINE).close()
    except ConnectionRefusedError:
        return False
    return True


# ---------------------------------------------------------------------- who connects


def test_the_peer_gets_the_data_connection(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        listener = await bench.ports().acquire(HOST)
        client = bench.client(listener)
        server = await bench.arrival(listener)
        client.send(b"x")
        assert server.recv(10) == b"x"

    run(scenario)


def test_the_peer_may_come_later(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        listener = await bench.ports().acquire(HOST)
        waiting = asyncio.ensure_future(bench.arrival(listener))
        await asyncio.sleep(0)
        client = bench.client(listener)
        server = await waiting
        assert server.getpeername() == client.getsockname()

    run(scenario)


def test_an_intruder_is_dropped_and_the_right_peer_gets_the_connection(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        listener = await bench.ports().acquire(HOST)
        intruder = bench.client(listener, INTRUDER)
        waiting = asyncio.ensure_future(bench.arrival(listener))
        assert await bench.loop.run_in_executor(None, is_closed, intruder)
        assert not waiting.done()
        bench.client(listener, INTRUDER)  # and once more, just in front
        client = bench.client(listener)
        server = await waiting
        assert server.getpeername() == client.getsockname()

    run(scenario)


def test_on_a_dual_stack_listener_an_ipv4_peer_is_known_again(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        listener = await bench.ports().acquire("::ffff:127.0.0.1")
        client = socket.create_connection((HOST, listener.port), DEADLINE)
        with client:
            server = await bench.arrival(listener, HOST)
            assert server.getpeername()[0] == "::ffff:127.0.0.1"

    run(scenario)


def test_nobody_comes_in_time(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        listener = await bench.ports().acquire(HOST)
        bench.client(listener, INTRUDER)
        with pytest.raises(NoDataConnection):
            await bench.arrival(listener, timeout=0.05)

    run(scenario)


def test_a_connection_that_was_reset_in_the_queue_is_no_harm(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        listener = await bench.ports().acquire(HOST)
        gone = bench.client(listener, INTRUDER)
        reset(gone)
        client = bench.client(listener)
        server = await bench.arrival(listener)
        assert server.getpeername() == client.getsockname()

    run(scenario)


def test_a_wait_that_is_cancelled_closes_what_arrived_meanwhile(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        listener = await bench.ports().acquire(HOST)
        wait = await_data_connection(bench.loop, bench.poller, listener, HOST, DEADLINE)
        waiting = asyncio.ensure_future(wait)
        await asyncio.sleep(0)
        client = bench.client(listener)
        bench.poller._watchers[listener.sock.fileno()].on_ready(0)  # accepted, not yet resumed
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert is_closed(client)

    run(scenario)


def test_where_no_descriptor_is_left_the_wait_ends(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(_: socket.socket) -> tuple[int, str, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def scenario(bench: Bench) -> None:
        failures: list[object] = []
        bench.loop.set_exception_handler(lambda _, context: failures.append(context))
        listener = await bench.ports().acquire(HOST)
        bench.client(listener)
        monkeypatch.setattr(passive, "accept_at_once", exhausted)
        with pytest.raises((OSError, NoDataConnection)):
            await bench.arrival(listener)
        assert failures == []

    run(scenario)


# ---------------------------------------------------------------------- the pool


def test_a_listener_that_was_given_back_is_handed_out_again(run: Run, reserved: Any) -> None:
    async def scenario(bench: Bench) -> None:
        ports = bench.ports(reserved(1))
        first = await ports.acquire(HOST)
        bench.client(first)
        await bench.arrival(first)
        first.give_back()
        assert await ports.acquire(HOST) is first

    run(scenario)


def test_whoever_connected_in_advance_is_thrown_out_at_assignment(run: Run, reserved: Any) -> None:
    async def scenario(bench: Bench) -> None:
        ports = bench.ports(reserved(1))
        listener = await ports.acquire(HOST)
        listener.give_back()
        early = [bench.client(listener) for _ in range(3)]
        assert await ports.acquire(HOST) is listener
        assert all(is_closed(client) for client in early)
        late = bench.client(listener)
        server = await bench.arrival(listener)
        assert server.getpeername() == late.getsockname()

    run(scenario)


def test_an_abandoned_listener_is_closed_and_its_port_comes_back(run: Run, reserved: Any) -> None:
    async def scenario(bench: Bench) -> None:
        ports = bench.ports(reserved(1))
        listener = await ports.acquire(HOST)
        waiting_client = bench.client(listener)
        assert ports.qsize() == 0
        listener.abandon()
        assert is_closed(waiting_client)
        assert not accepts(HOST, listener.port)
        assert ports.qsize() == 1
        again = await ports.acquire(HOST)
        assert again is not listener
        assert again.port == listener.port

    run(scenario)


def test_giving_back_or_abandoning_twice_is_harmless(run: Run, reserved: Any) -> None:
    async def scenario(bench: Bench) -> None:
        ports = bench.ports(reserved(2))
        kept, lost = await ports.acquire(HOST), await ports.acquire(HOST)
        for _ in range(2):
            kept.give_back()
            kept.abandon()
            lost.abandon()
            lost.give_back()
        assert ports.qsize() == 2
        assert len({(await ports.acquire(HOST)).port for _ in range(2)}) == 2

    run(scenario)


def test_ports_of_the_range_are_taken_and_each_only_once(run: Run, reserved: Any) -> None:
    async def scenario(bench: Bench) -> None:
        wanted = reserved(5)
        ports = bench.ports(wanted)
        assert ports.qsize() == 5
        taken = [(await ports.acquire(HOST)).port for _ in range(5)]
        assert sorted(taken) == sorted(wanted)
        assert ports.qsize() == 0

    run(scenario)


def test_ports_are_picked_at_random(run: Run, reserved: Any) -> None:
    async def scenario(bench: Bench) -> None:
        wanted = reserved(8)
        orders = set()
        for _ in range(4):
            ports = bench.ports(wanted)
            listeners = [await ports.acquire(HOST) for _ in range(8)]
            orders.add(tuple(listener.port for listener in listeners))
            for listener in listeners:
                listener.abandon()
        assert len(orders) > 1, "one chance in 10^13 to be wrong"

    run(scenario)


def test_the_number_of_pooled_listeners_is_bounded(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        ports = bench.ports()
        listeners = [await ports.acquire(HOST) for _ in range(100)]
        for listener in listeners:
            listener.give_back()
        assert 0 < ports.qsize() <= 40
        ports.close()
        assert ports.qsize() == 0

    run(scenario)


# ---------------------------------------------------------------------- no port is left


def test_a_port_that_somebody_else_holds_is_passed_over(run: Run, reserved: Any) -> None:
    async def scenario(bench: Bench) -> None:
        free, busy = reserved(2)
        with socket.create_server((HOST, busy)):
            for _ in range(6):
                ports = bench.ports([free, busy])
                listener = await ports.acquire(HOST)
                assert listener.port == free
                listener.abandon()

    run(scenario)


def test_where_others_hold_every_port_the_session_ends(run: Run, reserved: Any) -> None:
    async def scenario(bench: Bench) -> None:
        (busy,) = reserved(1)
        with socket.create_server((HOST, busy)), pytest.raises(SessionEnded):
            await bench.ports([busy]).acquire(HOST)
        assert (await bench.ports([busy]).acquire(HOST)).port == busy

    run(scenario)


def test_in_an_empty_range_the_session_ends(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(SessionEnded):
            await bench.ports([]).acquire(HOST)

    run(scenario)


@pytest.mark.parametrize("how", ["give_back", "abandon"])
def test_whoever_waits_for_a_port_gets_the_next_one(run: Run, reserved: Any, how: str) -> None:
    async def scenario(bench: Bench) -> None:
        ports = bench.ports(reserved(2))
        held = [await ports.acquire(HOST) for _ in range(2)]
        waiting = [asyncio.ensure_future(ports.acquire(HOST)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(waiter.done() for waiter in waiting)
        for listener in held:
            getattr(listener, how)()
        got = await asyncio.gather(*waiting)
        assert {listener.port for listener in got} == {listener.port for listener in held}

    run(scenario)


def test_where_no_port_comes_back_in_time_the_session_lives(
    run: Run, reserved: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passive, "_WAIT_FOR_PORT", 0.05)

    async def scenario(bench: Bench) -> None:
        ports = bench.ports(reserved(1))
        held = await ports.acquire(HOST)
        with pytest.raises(NoDataConnection):
            await ports.acquire(HOST)
        held.give_back()
        assert await ports.acquire(HOST) is held

    run(scenario)


def test_a_port_is_not_lost_on_a_session_that_ends_while_it_gets_it(
    run: Run, reserved: Any
) -> None:
    async def scenario(bench: Bench) -> None:
        ports = bench.ports(reserved(1))
        held = await ports.acquire(HOST)
        first, second = (asyncio.ensure_future(ports.acquire(HOST)) for _ in range(2))
        await asyncio.sleep(0)
        held.give_back()  # wakes the first, who is cancelled before it runs
        first.cancel()
        assert await second is held
        with pytest.raises(asyncio.CancelledError):
            await first

    run(scenario)


def test_a_port_that_lies_idle_on_one_address_serves_another_one(run: Run, reserved: Any) -> None:
    async def scenario(bench: Bench) -> None:
        ports = bench.ports(reserved(1))
        first = await ports.acquire(HOST)
        first.give_back()
        second = await ports.acquire(INTRUDER)
        assert (second.host, second.port) == (INTRUDER, first.port)
        assert ports.qsize() == 0

    run(scenario)


def test_idle_listeners_end_with_their_pool(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        ports = bench.ports()
        listener = await ports.acquire(HOST)
        listener.give_back()
        assert accepts(HOST, listener.port)
        ports.close()
        assert not accepts(HOST, listener.port)

    run(scenario)
