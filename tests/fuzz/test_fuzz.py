"""Sequences of all verbs with arguments of all kinds (faults.md “Abuse”: “every verb with random
arguments before and after login: … one final reply each, no traceback”)."""

from __future__ import annotations

import random
import select

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.caller import Caller
from tests.fuzz.conftest import Target
from tests.fuzz.grammar import lines
from tests.support.cluster import until
from tests.support.dialogue import DEADLINE, Dialogue

PLAIN, PROTECTED = pytest.param(False, id="plain"), pytest.param(True, id="tls")
UNAUTHENTICATED, USER = pytest.param(False, id="before login"), pytest.param(True, id="after login")
KEPT = 40
"""Listeners and pipes that a process keeps for the next transfers, at the most."""


def configured(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


def talk(target: Target, said: list[bytes], *, tls: bool, login: bool) -> None:
    """One session; nothing that is said harms it, or the server."""
    target.plant()
    with Caller(target.port, target.trusting, tls=tls, login=login) as caller:
        for line in said:
            caller.says(line)
            if caller.ended:
                return
        assert caller.is_in_step()


def fuzz(target: Target, examples: int, *, tls: bool, login: bool) -> None:
    """The same sessions in every run, so that what was found once is found again."""
    number = examples * 4 + 2 * tls + login
    run = seed(number)(configured(examples)(given(said=lines)(talk)))
    run(target, tls=tls, login=login)


@pytest.mark.parametrize("login", [UNAUTHENTICATED, USER])
@pytest.mark.parametrize("tls", [PLAIN, PROTECTED])
@pytest.mark.parametrize("examples", [60, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.timeout(3600)
def test_every_line_gets_one_final_reply(
    target: Target, examples: int, tls: bool, login: bool
) -> None:
    fuzz(target, examples, tls=tls, login=login)


@pytest.mark.parametrize("examples", [30, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.timeout(3600)
def test_descriptors_and_memory_come_back(target: Target, examples: int) -> None:
    for tls in (False, True):
        fuzz(target, 20, tls=tls, login=True)  # what is loaded, and kept, from the first use on
    until(lambda: not connections(target))
    descriptors, memory = target.descriptors(), target.memory()
    for tls in (False, True):
        fuzz(target, examples, tls=tls, login=True)
    until(lambda: not connections(target))
    allowed = descriptors + KEPT * len(target.processes())
    until(lambda: target.descriptors() <= allowed)
    if target.running.cluster is not None:  # else it is the test's own that is measured
        assert target.memory() - memory < 16 << 20


def connections(target: Target) -> int:
    """Sessions that the server knows of, but in a cluster, which has no way to tell."""
    server = target.running.server
    return 0 if server is None else int(server.call(lambda: server.server.ledger.connections))


@pytest.mark.soak
@pytest.mark.parametrize("tls", [PLAIN, PROTECTED])
@pytest.mark.timeout(900)
def test_random_bytes_harm_nobody(target: Target, tls: bool) -> None:
    """Not even lines: whatever comes, the server answers others, and in the end hangs up on this
    one or answers it, too."""
    target.plant()
    chance = random.Random("bytes")
    with Dialogue(target.port) as other:
        for number in range(3000):
            with Dialogue(target.port) as client:
                if tls:
                    client.says("AUTH TLS", 234)
                spray(client, chance)
            if number % 100 == 0:
                other.says("NOOP", 200)
    with Caller(target.port, target.trusting, tls=True, login=True) as caller:
        assert caller.is_in_step()


def spray(client: Dialogue, chance: random.Random) -> None:
    """Some pieces of rubbish, as long as the server listens."""
    client.sock.setblocking(False)
    try:
        for _ in range(chance.randrange(1, 20)):
            client.sock.send(chance.randbytes(chance.randrange(1, 3000)))
            if select.select([client.sock], [], [], 0)[0] and not client.sock.recv(1 << 16):
                return
    except (BlockingIOError, ConnectionError):
        return  # it has hung up, or listens no more for now
    client.sock.settimeout(DEADLINE)
