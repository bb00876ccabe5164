"""What came while a call kept the process is seen before a deadline is enforced."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trustme
import uvloop

from ftpcluster.compat.common import with_timeout
from ftpcluster.expiry import _LOOKS, LATE, Expiry, expire, time_limit, wait_for
from ftpcluster.net import lookups, proxy_header
from ftpcluster.net.lookups import NameService
from ftpcluster.net.poller import READ, Poller
from ftpcluster.net.proxy_header import Introduction, read_origin
from ftpcluster.net.tls import DATA_TICKETS, TLSStream
from ftpcluster.protocol.proxy import BadProxyHeader, Origin
from ftpcluster.session.accepting import shake_hands
from ftpcluster.session.owner_names import OwnerNames
from ftpcluster.session.services import Services
from ftpcluster.session.timer_wheel import RESOLUTION, TimerWheel
from ftpcluster.storage.slow_calls import Device, Lane, SlowCalls
from ftpcluster.storage.threads import Threads
from tests.support.stalls import stall

SOON = 0.05
"""Seconds until a deadline."""
LONG = SOON + LATE + 0.1
"""Seconds for which the process is kept."""
DEADLINE = 20.0
HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 21\r\n"

Case = Callable[[Poller], Awaitable[object]]


class Arrival:
    """Tells when something can be read."""

    def __init__(self, poller: Poller, sock: socket.socket, told: asyncio.Future[None]) -> None:
        self._poller, self._sock, self._told = poller, sock, told
        poller.add(sock.fileno(), READ, self)

    def on_ready(self, _: int) -> None:
        self._poller.remove(self._sock.fileno())
        if not self._told.done():
            self._told.set_result(None)


async def _awaits(poller: Poller, kind: str) -> object:
    loop = asyncio.get_running_loop()
    waiter, wheel = loop.create_future(), TimerWheel(loop)
    ours, its = socket.socketpair()
    with ours, its:
        Arrival(poller, ours, waiter)
        late = TimeoutError("too late")
        fail = functools.partial(_fail, waiter, late)
        if kind == "wheel":
            wheel.add(loop.time() - RESOLUTION, fail)
        elif kind == "expiry":
            Expiry.after(loop, SOON, fail)
        else:
            expire(loop, waiter, SOON, late)
        await stall(LONG, lambda: its.send(b"came"))
        await waiter
        wheel.close()
    return None


def _fail(waiter: asyncio.Future[None], error: Exception) -> None:
    if not waiter.done():
        waiter.set_exception(error)


async def _stalled(waiting: Awaitable[object], first: Callable[[], object]) -> object:
    """What ``waiting`` gives, after the process was kept."""
    task = asyncio.ensure_future(waiting)
    await asyncio.sleep(0)
    await stall(LONG, first)
    return await task


async def wait_on_the_wheel(poller: Poller) -> object:
    return await _awaits(poller, "wheel")


async def wait_for_an_expiry(poller: Poller) -> object:
    return await _awaits(poller, "expiry")


async def wait_for_a_waiter(poller: Poller) -> object:
    return await _awaits(poller, "expire")


async def wait_in_a_block(poller: Poller) -> object:
    ours, its = socket.socketpair()
    waiter = asyncio.get_running_loop().create_future()

    async def limited() -> None:
        async with time_limit(SOON):
            await waiter

    with ours, its:
        Arrival(poller, ours, waiter)
        return await _stalled(limited(), lambda: its.send(b"came"))


async def wait_for_a_future(poller: Poller) -> object:
    ours, its = socket.socketpair()
    future = asyncio.get_running_loop().create_future()
    with ours, its:
        Arrival(poller, ours, future)
        assert await _stalled(wait_for(future, SOON), lambda: its.send(b"came"))
    assert not await wait_for(asyncio.get_running_loop().create_future(), SOON)
    return None


async def a_proxys_header(poller: Poller) -> object:
    ours, its = socket.socketpair()
    with ours, its:
        reading = read_origin(asyncio.get_running_loop(), poller, ours.fileno())
        origin = await _stalled(reading, lambda: its.send(HEADER))
        assert isinstance(origin, Origin)
    return origin.address


async def a_proxys_header_of_many(poller: Poller) -> object:
    ours, its = socket.socketpair()
    loop = asyncio.get_running_loop()
    told: asyncio.Future[Origin | BadProxyHeader | None] = loop.create_future()
    with ours, its:
        Introduction(loop, poller, ours.fileno(), lambda _, origin: told.set_result(origin))
        origin = await _stalled(told, lambda: its.send(HEADER))
        assert isinstance(origin, Origin), origin
    return origin.address


class Shaking:
    """A client that shakes hands over a socket, step by step."""

    def __init__(self, sock: socket.socket, authority: trustme.CA) -> None:
        self._sock = sock
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        authority.configure_trust(context)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)

    def step(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        if sent := self._outgoing.read():
            self._sock.sendall(sent)

    def answer(self) -> None:
        self._incoming.write(self._sock.recv(1 << 16))
        self.step()


async def a_handshake(poller: Poller) -> object:
    loop = asyncio.get_running_loop()
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))
    its = socket.create_connection(listener.getsockname())
    ours, _ = listener.accept()
    client = Shaking(its, authority)
    settings = SimpleNamespace(require_session_reuse=False)
    services = cast(Services, SimpleNamespace(loop=loop, poller=poller, settings=settings))
    with listener, its:
        stream = TLSStream(loop, poller, ours.detach(), context, DATA_TICKETS)
        client.step()
        done = await _stalled(shake_hands(services, stream, SOON), client.answer)
        assert done is stream
        stream.close()
    return None


def _in_time() -> str:
    """A call in a thread: it ends while the loop is kept."""
    time.sleep(2 * SOON)
    return "done"


async def a_call_of_storage(_: Poller) -> object:
    loop = asyncio.get_running_loop()
    threads = Threads(loop)
    calls = SlowCalls("/d", loop, threads, Device(4), SOON)
    found = await _stalled(Lane(calls).run("stat", _in_time), lambda: None)
    threads.close()
    return found


async def a_call_of_a_path_layer(_: Poller) -> object:
    class Layer:
        timeout = SOON

        @with_timeout
        async def stat(self) -> str:
            return await asyncio.get_running_loop().run_in_executor(None, _in_time)

    return await _stalled(Layer().stat(), lambda: None)


async def a_host_name(_: Poller) -> object:
    return await _stalled(NameService().addresses_of("host.example"), lambda: None)


async def an_owners_name(_: Poller) -> object:
    loop = asyncio.get_running_loop()

    names = OwnerNames(loop, (lambda _: _in_time(), lambda _: _in_time()))
    names.owner(4711)
    await _stalled(names.ask(names.take_missing(), SOON), lambda: None)
    assert names._warned is None, "the name service took too long"
    names.close()
    return None


CASES = (
    wait_on_the_wheel, wait_for_an_expiry, wait_for_a_waiter, wait_in_a_block, wait_for_a_future,
    a_proxys_header, a_proxys_header_of_many, a_handshake, a_call_of_storage,
    a_call_of_a_path_layer, a_host_name, an_owners_name,
)  # fmt: skip


@pytest.mark.parametrize(
    ("case", "new_loop"),
    [
        *((case, uvloop.new_event_loop) for case in CASES),
        (wait_on_the_wheel, asyncio.new_event_loop),
        (a_handshake, asyncio.new_event_loop),
    ],
)
def test_what_came_meanwhile_is_in_time(
    case: Case,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxy_header, "_TIMEOUT", SOON)
    monkeypatch.setattr(lookups, "_PATIENCE", SOON)
    monkeypatch.setattr(lookups, "_look_up", lambda _: (_in_time(),))

    async def tried() -> object:
        poller = Poller(asyncio.get_running_loop())
        try:
            async with asyncio.timeout(DEADLINE):
                return await case(poller)
        finally:
            poller.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(tried())


class Held:
    """A loop whose timers are always late."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> SimpleNamespace:
        self.now = when + 2 * LATE
        self.timers.append(callback)
        return SimpleNamespace(cancel=lambda: None)


def test_a_deadline_comes_in_the_end_although_the_process_is_kept_again_and_again() -> None:
    loop, called = Held(), list[str]()
    Expiry(cast(Any, loop), 1.0, called.append, "called")
    turns = 0
    while loop.timers:
        loop.timers.pop()()
        turns += 1
    assert (called, turns) == (["called"], _LOOKS + 1)


async def test_what_is_cancelled_is_not_called_back() -> None:
    loop, called = asyncio.get_running_loop(), list[str]()
    expiry = Expiry.after(loop, 0.0, called.append, "called")
    expiry.cancel()
    expiry.cancel()
    with pytest.raises(TimeoutError):
        async with time_limit(SOON):
            await asyncio.sleep(DEADLINE)
    async with time_limit(None):
        await asyncio.sleep(0)
    assert not called
