"""Attempts of crowds: guesses, names, sessions that do nothing, data ports that nobody uses."""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from contextlib import ExitStack

from tests.peers.target import (
    BOB,
    CROWDED,
    DELAY,
    FAILURES,
    GUESSER,
    HALF_CLOSER,
    IDLE,
    LOGIN,
    PLAIN,
    PORTS,
    Broken,
    Client,
    Lacking,
    Target,
)
from tests.support.cluster import until
from tests.support.dialogue import DEADLINE

TRIES = 10
CROWD = 10


def guesses(target: Target) -> None:
    """“≤ 3 tries a connection, delay, then the address is banned”"""
    begin = time.monotonic()
    tries = tries_of_one_connection(target)
    wrong = []
    if tries > 3:
        wrong.append(f"{tries} tries on one connection")
    if time.monotonic() - begin < DELAY * 0.9:
        wrong.append("failures are answered at once")
    while tries < FAILURES + TRIES:
        with Client(target.port, source=GUESSER, greeting=None) as client:
            if client.reply()[0] != 220:
                break
            client.asks("USER user")
            client.asks("PASS wrong")
            tries += 1
    else:
        wrong.append(f"after {tries} failures the address is still let in")
    with target.session() as honest:
        honest.says("SYST", 215)
    if wrong:
        raise Broken("; ".join(wrong))


def tries_of_one_connection(target: Target) -> int:
    """How many wrong passwords are answered."""
    with Client(target.port, source=GUESSER) as client:
        for tried in range(TRIES):
            if client.asks("USER user")[0] == 0:
                return tried
            if client.asks("PASS wrong")[0] == 0:
                return tried
    return TRIES


def guesses_and_no_more(target: Target) -> None:
    """“sends USER and PASS and shuts down his sending side”: answered, counted and banned"""
    answered = True
    for _ in range(FAILURES + TRIES):
        with Client(target.port, source=HALF_CLOSER, greeting=None) as client:
            if client.reply()[0] != 220:
                break
            # in one segment: whoever reads the lines has the end as well
            client.sock.send(b"USER user\r\nPASS wrong\r\n", socket.MSG_MORE)
            client.sock.shutdown(socket.SHUT_WR)
            answered &= client.final() == 331 and client.final() in (421, 530)
    else:
        raise Broken(f"after {FAILURES + TRIES} failures the address is still let in")
    if not answered:
        raise Broken("a wrong password is not answered")


AT_ONCE = 200
RIGHT = 190
"""Which of them has the right password."""


def guesses_at_once(target: Target) -> None:
    """“200 connections that send PASS together with a plain password”: no more are judged than
    may be wrong"""
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(target.port, source=CROWDED)) for _ in range(AT_ONCE)]
        for client in clients:
            client.send(f"USER {PLAIN[0]}")
        for client in clients:
            client.final()
        for number, client in enumerate(clients):
            with contextlib.suppress(ConnectionError):  # it may have been banned meanwhile
                client.send(f"PASS {PLAIN[1] if number == RIGHT else 'wrong'}")
        codes = [client.final() for client in clients]
    wrong = []
    if codes.count(230) + codes.count(530) > FAILURES:
        wrong.append(f"more than {FAILURES} passwords are judged")
    if codes[RIGHT] == 230:
        wrong.append("the right one gets in")
    if wrong:
        raise Broken("; ".join(wrong))


def names_without_passwords(target: Target) -> None:
    """“sockets idle after `USER bob` where bob may have 2: bob logs in; the idle ones are gone at
    the login deadline”"""
    with ExitStack() as stack:

        def connect() -> Client:
            return stack.enter_context(Client(target.port))

        idle = [connect() for _ in range(CROWD)]
        for client in idle:
            client.asks(f"USER {BOB[0]}")
        for client in (connect(), connect()):
            for command in (f"USER {BOB[0]}", f"PASS {BOB[1]}"):
                code, text = client.asks(command)
                if not 200 <= code < 400:
                    raise Broken(f"bob cannot log in: {text!r}")
        third = connect()
        third.asks(f"USER {BOB[0]}")
        if third.asks(f"PASS {BOB[1]}")[0] == 230:
            raise Lacking("has no limit per user")
        if outlasting(idle, b"", LOGIN + DEADLINE):
            raise Broken("idle sessions last")


def lorises(target: Target) -> None:
    """“slow-loris: deadlines hold”: a byte now and then is no command."""
    with ExitStack() as stack:
        slow = [stack.enter_context(Client(target.port)) for _ in range(CROWD)]
        honest = stack.enter_context(target.session())
        if outlasting(slow, b"N", max(LOGIN, IDLE) + target.patience, honest):
            raise Broken("a byte now and then keeps a session open")


def chatterers(target: Target) -> None:
    """“slow-loris: deadlines hold”: a command now and then is no login."""
    with ExitStack() as stack:
        slow = [stack.enter_context(Client(target.port)) for _ in range(CROWD)]
        honest = stack.enter_context(target.session())
        if outlasting(slow, b"SYST\r\n", LOGIN + target.patience, honest):
            raise Broken("a command now and then keeps a session without login open")


def outlasting(
    clients: list[Client], what: bytes, seconds: float, honest: Client | None = None
) -> list[Client]:
    """Those that are still connected after so long, each having said ``what`` again and again.

    ``honest`` is answered all the while.
    """
    left = list(clients)
    end = time.monotonic() + seconds
    for client in left:
        client.sock.settimeout(0)
    while left and time.monotonic() < end:
        left = [client for client in left if is_open(client, what)]
        if honest is not None:
            honest.says("SYST", 215)
        time.sleep(0.1)  # the pace of who is slow
    return left


def is_open(client: Client, what: bytes) -> bool:
    try:
        client.sock.send(what)
        with contextlib.suppress(BlockingIOError):
            while client.sock.recv(4096):
                pass
            return False
    except ConnectionError:
        return False
    return True


def ports_that_nobody_uses(target: Target) -> None:
    """“PASV never used, 10 data ports and 50 PASV: ports come back, 425 rather than a hang”"""
    with ExitStack() as stack:
        clients = [stack.enter_context(target.session()) for _ in range(2 * PORTS)]
        for client in clients:  # all at once: a server may wait for a port that comes back
            client.send("EPSV")
        answers = [client.reply() for client in clients]
        given = [text for code, text in answers if code == 229]
        if len(given) > PORTS:
            raise Broken(f"{PORTS} data ports are configured, and more are opened")
        if len(given) < PORTS or not all(400 <= c < 500 for c, _ in answers if c != 229):
            raise Broken(f"EPSV is answered with {[code for code, _ in answers]}")
    with ExitStack() as stack:
        idle = [takes_a_port(target, stack) for _ in range(PORTS)]
        if outlasting(idle, b"", IDLE + DEADLINE):
            raise Broken("sessions with a data port that they do not use last")
        for _ in range(PORTS):
            takes_a_port(target, stack)


def takes_a_port(target: Target, stack: ExitStack) -> Client:
    """A session with a data port of its own: as soon as one has come back."""

    def attempt() -> Client | None:
        with ExitStack() as trying:
            client = trying.enter_context(target.session())
            if client.asks("EPSV")[0] != 229:
                return None
            stack.push(trying.pop_all())
            return client

    return until(attempt)


def names_that_are_tried(target: Target) -> None:
    """“logins, known and unknown names mixed: same replies; median times differ < 1 ms”

    A real difference shows in every round, that of a busy machine does not.
    """
    for _ in range(12):
        if difference(target, 40) < 0.001:
            return
    raise Broken("failed logins of known and unknown names take different times")


def difference(target: Target, count: int) -> float:
    """Seconds between the medians of failed logins of a known name and of an unknown one."""
    took: dict[str, list[float]] = {"user": [], "nope": []}
    told: dict[str, str] = {}
    for number in range(2 * count):
        name = "nope" if number % 2 else "user"
        with Client(target.port) as client:
            begin = time.perf_counter()
            replies = [client.asks(f"USER {name}")[1], client.asks("PASS wrong")[1]]
            took[name].append(time.perf_counter() - begin)
        told[name] = " / ".join(replies)
    if told["user"] != told["nope"]:
        raise Broken(f"a known name is told “{told['user']}”, an unknown one “{told['nope']}”")
    known, unknown = (statistics.median(times) for times in took.values())
    return abs(known - unknown)
