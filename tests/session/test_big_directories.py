"""Directories of 100,000 entries (issue 4, 6: “streamed in batches, no stall over 50 ms, bounded
memory”)."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.session.conftest import Serving
from tests.support.cluster import open_files, processor_time, until
from tests.support.dialogue import Dialogue
from tests.support.many_entries import make_entries
from tests.support.memory import resident

ENTRIES = 100_000
COMMANDS = (
    "MLSD directory",
    "LIST directory",
    "NLST directory",
    "NLST directory/*7",
    "LIST directory/*[05]?",
)
STALL = 0.05
"""Seconds."""
MEMORY = 16 << 20
"""Bytes that a server may grow by; as objects of Python, all entries would take 60 MB."""


@pytest.fixture(scope="session")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with 100,000 empty files; made once, since that takes seconds, and not kept."""
    directory = tmp_path_factory.mktemp("entries") / "directory"
    make_entries(directory, (f"{number:06d}" for number in range(ENTRIES)))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def directory(root: Path, entries: Path) -> Iterator[Path]:
    """That directory, in the one that is served."""
    served = entries.rename(root / "directory")
    yield served
    served.rename(entries)


def expected(command: str) -> int:
    """How many lines there have to be."""
    if command.endswith("*7"):
        return ENTRIES // 10
    return ENTRIES // 5 if command.endswith("*[05]?") else ENTRIES


def receive(client: Dialogue, command: str) -> int:
    """How many lines a listing has, read as fast as it comes and kept nowhere."""
    buffer = bytearray(1 << 20)
    lines = 0
    with client.begins(command) as data:
        while count := data.recv_into(buffer):
            lines += buffer.count(b"\n", 0, count)
    client.expects(226)
    return lines


class RoundTrips:
    """Other clients of the same process say NOOP for as long as the block lasts.

    ``seconds`` is how long the server has run from each to its answer: how long it ran for somebody
    else. By the wall's clock it would also be how long the machine had something else to do.
    """

    def __init__(self, serving: Serving, client: Dialogue) -> None:
        self.seconds: list[float] = []
        self._server = serving.process_of(client)
        self._stack = contextlib.ExitStack()
        self._others = []
        for _ in range(4):  # connections go to the worker that has the fewest
            other = self._stack.enter_context(Dialogue(serving.port))
            if serving.process_of(other) == self._server:
                self._others.append(other)
        assert self._others
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._talk)

    def _talk(self) -> None:
        while not self._stop.is_set():
            for other in self._others:
                self.say_noop(other)

    def say_noop(self, other: Dialogue) -> None:
        begin = processor_time(self._server)
        other.says("NOOP", 200)
        self.seconds.append(processor_time(self._server) - begin)

    def __enter__(self) -> RoundTrips:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        self._stack.close()
        assert not self._thread.is_alive()

    @property
    def stalled(self) -> float:
        """The part of the time in which somebody waited for an answer longer than may be.

        A server that lists without a pause, or in large batches, makes others wait nearly all the
        time; single long waits are those of clients that were not given a processor.
        """
        return sum(each for each in self.seconds if each > STALL) / sum(self.seconds)


def assert_lets_others_go_on(serving: Serving, client: Dialogue, lists: Callable[[], None]) -> None:
    """In one of a few tries: on a busy machine others are not given a processor now and then, but a
    server that does not let them go on does so every time."""
    found = []
    for _ in range(4):
        with RoundTrips(serving, client) as trips:
            lists()
        found.append(trips.stalled)
        if found[-1] < 0.5:
            return
    raise AssertionError(found)


def receive_status(client: Dialogue) -> int:
    """How many lines are sent with 213, kept nowhere, to its last."""
    received, lines = b"", 0
    while b"\r\n213 " not in received[-200:]:
        data = client.sock.recv(1 << 20)
        assert data
        lines += data.count(b"\n")
        received = received[-200:] + data
    return lines


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("command", COMMANDS)
def test_others_are_served_while_a_large_directory_is_listed(
    serving: Serving, client: Dialogue, directory: Path, command: str
) -> None:
    """“streamed in batches, no stall over 50 ms”: to a client that reads as fast as it can."""

    def lists() -> None:
        assert receive(client, command) == expected(command)

    assert_lets_others_go_on(serving, client, lists)


@pytest.mark.alone
def test_others_are_served_while_a_large_directory_is_sent_as_status(
    serving: Serving, client: Dialogue, directory: Path
) -> None:
    """“streamed in batches, no stall over 50 ms”: STAT over the control connection, too."""

    def lists() -> None:
        client.send("STAT directory")
        assert receive_status(client) == ENTRIES + 2

    assert_lets_others_go_on(serving, client, lists)
    client.says("NOOP", 200)


def test_a_large_directory_is_read_as_fast_as_the_client_reads_its_status(
    serving: Serving, client: Dialogue, directory: Path
) -> None:
    """“streamed in batches, … bounded memory”: also over the control connection.

    A server that gathered the listing would be done with the directory soon. This one has it open
    for as long as the client does not read, and then sends the rest.
    """
    server = serving.process_of(client)
    client.send("STAT directory")
    until(lambda: str(directory) in open_files(server))
    with contextlib.ExitStack() as stack:
        # one at least is in the same process; each round trip is a turn of its loop and more
        others = [stack.enter_context(Dialogue(serving.port)) for _ in range(3)]
        for _ in range(300):
            for other in others:
                other.says("NOOP", 200)
    assert str(directory) in open_files(server)
    assert receive_status(client) == ENTRIES + 2
    assert str(directory) not in open_files(server)
    client.says("NOOP", 200)


@pytest.mark.parametrize("command", ["MLSD directory", "LIST directory", "STAT directory"])
def test_a_large_listing_takes_little_memory(
    serving: Serving, client: Dialogue, directory: Path, command: str
) -> None:
    """“bounded memory”: whether the client reads fast or slowly."""
    server = serving.process_of(client)
    receive(client, "LIST directory/9999*")  # what is made once, is made
    before = most = resident(server)
    lines = 0
    with contextlib.ExitStack() as stack:
        if command.startswith("STAT"):
            client.send(command)
            data = client.sock
        else:
            data = stack.enter_context(client.begins(command, window=65536))
        while lines < ENTRIES:
            received = data.recv(65536)
            assert received
            lines += received.count(b"\n")
            most = max(most, resident(server))
    assert most - before < MEMORY, f"{(most - before) >> 20} MiB"
