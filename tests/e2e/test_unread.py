"""Clients that never read (faults.md, “Data”, row 6): “500 readers that never read; 200 that send
10⁵ NOOP and never read: ≤ 512 KiB a session; others' NOOP p99 < 50 ms”.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cluster import open_files, processor_time, until
from tests.support.dialogue import Dialogue
from tests.support.kinds import Running, running
from tests.support.memory import resident

pytestmark = [pytest.mark.slow, pytest.mark.alone]
LINES = (b"NOOP\r\n" * 1000, b"FEAT\r\n" * 1000)
"""What is said: all replies to the one fit into the kernel, those to the other do not."""
LINE = 6
NOOPS = 100_000
MEMORY = 512 << 10
"""Bytes that a session may cost its worker."""
PATIENCE = 0.05
"""Seconds: the 99th percentile of others' NOOP."""


@dataclass
class Crowd:
    """How many there are of each."""

    readers: int
    talkers: int
    others: int = 4
    rounds: int = 100
    patience: float = 60.0  # seconds until all that was said has been obeyed, as far as may be


@pytest.fixture(params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    with running("cluster", tmp_path, loop=request.param) as server:
        yield server


def memory(server: Running) -> int:
    """Bytes that all workers have."""
    assert server.cluster is not None
    return sum(map(resident, server.cluster.workers()))


def is_quiet(server: Running) -> bool:
    """Whether the workers have nothing to do, for a while."""
    assert server.cluster is not None
    before = [processor_time(pid) for pid in server.cluster.workers()]
    time.sleep(0.3)
    after = [processor_time(pid) for pid in server.cluster.workers()]
    return sum(after) - sum(before) < 0.03


def logged_in(port: int, stack: contextlib.ExitStack) -> Dialogue:
    client = stack.enter_context(Dialogue(port))
    client.logs_in()
    return client


def talk(clients: list[Dialogue], count: int) -> list[int]:
    """Each says the same ``count`` times and reads nothing; how often each could.

    They end where nothing more is taken: a server that reads on and on would take all.
    """
    poll = select.poll()
    socks, lines, said = {}, {}, {}
    for number, client in enumerate(clients):
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sock.setblocking(False)
        fd = client.sock.fileno()
        poll.register(fd, select.POLLOUT)
        socks[fd], lines[fd], said[fd] = client.sock, LINES[number % len(LINES)], 0
    while ready := poll.poll(1000):  # a second in which nobody can say more
        for fd, _ in ready:
            cut = said[fd] % len(lines[fd])
            said[fd] += socks[fd].send(lines[fd][cut:][: count * LINE - said[fd]])
            if said[fd] == count * LINE:
                poll.unregister(fd)
    return [each // LINE for each in said.values()]


def round_trips(server: Running, clients: list[Dialogue], rounds: int) -> list[float]:
    """How long a worker runs from each NOOP to its answer, in seconds, in order.

    That is how long it ran for others. By the wall's clock it would also be how long the machine
    had something else to do.
    """
    assert server.cluster is not None
    workers = [server.cluster.worker_of(client.sock) for client in clients]
    taken = []
    for _ in range(rounds):
        for client, worker in zip(clients, workers, strict=True):
            begin = processor_time(worker)
            client.says("NOOP", 200)
            taken.append(processor_time(worker) - begin)
    return sorted(taken)


def endure(server: Running, crowd: Crowd) -> list[float]:
    """The crowd comes and reads nothing; how long the others' NOOP take meanwhile."""
    with (server.root / "big").open("wb") as file:
        file.truncate(64 << 20)
    sessions = crowd.readers + crowd.talkers
    with contextlib.ExitStack() as stack:
        others = [logged_in(server.port, stack) for _ in range(crowd.others)]
        for other in others:  # what is made once, is made
            other.downloads("RETR big")
        before = memory(server)
        readers = [logged_in(server.port, stack) for _ in range(crowd.readers)]
        for reader in readers:
            stack.enter_context(reader.begins("RETR big", window=4096))
        talkers = [logged_in(server.port, stack) for _ in range(crowd.talkers)]
        said = talk(talkers, NOOPS)
        taken = round_trips(server, others, crowd.rounds)
        until(lambda: is_quiet(server), crowd.patience)
        grown = memory(server) - before
        print(f"{grown / sessions / 1024:.0f} KiB a session; said {min(said)} to {max(said)}")
        assert grown <= sessions * MEMORY
        assert min(said) > 100
        for other in others:
            assert len(other.downloads("RETR big")) == 64 << 20
    until(lambda: not held(server))
    return taken


def held(server: Running) -> list[str]:
    """The served files that workers have open."""
    assert server.cluster is not None
    names = [name for pid in server.cluster.workers() for name in open_files(pid)]
    return [name for name in names if name.startswith(f"{server.root}/")]


def test_who_never_reads_costs_little_and_harms_nobody(server: Running) -> None:
    """As many as fit in here; nobody waits for ever, and no more memory is used than may be."""
    endure(server, Crowd(readers=40, talkers=8))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_500_who_never_read_and_200_who_only_talk(server: Running) -> None:
    taken = endure(server, Crowd(readers=500, talkers=200, rounds=500, patience=500))
    p99 = taken[len(taken) * 99 // 100]
    print(f"p50 {taken[len(taken) // 2] * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms")
    assert p99 < PATIENCE
