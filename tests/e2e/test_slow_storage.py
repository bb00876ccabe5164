"""Storage of one user that is slow, or hangs for ever: the others of that process go on."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, open_files, until
from tests.support.dialogue import DEADLINE, Dialogue, reset
from tests.support.slow_files import HANGS, hung, on_slow_files, turn

PATIENCE = 2
"""Seconds in which a call of the storage has to end, where a test waits for it."""
SLOW = 0.8
"""Seconds that requests take that are slow."""
BOUND = 15.0
"""Seconds within which a server ends that is told to."""
CONTENT = os.urandom(300_000)
SILENT = "451 The storage does not answer."


@dataclass
class Place:
    """A server; ``alice`` has files on slow storage, ``bob`` on this machine's disk."""

    cluster: Cluster
    storage: Path
    is_library: bool

    @property
    def files(self) -> Path:
        """What the storage has its files from."""
        return Path(f"{self.storage}.files")

    def pid(self, client: Dialogue) -> int:
        return self.cluster.pid if self.is_library else self.cluster.worker_of(client.sock)

    def logs_in(self, login: str) -> Dialogue:
        client = Dialogue(self.cluster.port)
        client.logs_in(login, "x")
        return client

    def neighbour(self, client: Dialogue) -> Dialogue:
        """A session of bob in the same process."""
        others = [self.logs_in("bob")]
        while self.pid(others[-1]) != self.pid(client):
            others.append(self.logs_in("bob"))
        *rest, found = others
        for each in rest:
            each.sock.close()
        return found


def serving(directory: Path, kind: str, patience: int, more: str = "") -> Iterator[Place]:
    storage, local = directory / "storage", directory / "local"
    local.mkdir()
    (local / "file").write_bytes(CONTENT)
    if kind == "library":
        options = json.dumps({"storage_timeout": patience})
        users = (f"alice={storage}", f"bob={local}")
        program = on_slow_files(storage, "tests.support.library_server", options, *users)
        cluster = Cluster(program=program, hosts=None)
    else:
        program = on_slow_files(storage)
        file = directory / "ftpcluster.toml"
        file.touch(mode=0o600)
        file.write_text(
            f"workers = 2\n{more}\n[timeouts]\nstorage = {patience}\nshutdown = 1\nworker = 4\n"
            + "".join(
                f'[[user]]\nlogin = "{login}"\npassword = "plain:x"\nroot = "{root}"\n'
                for login, root in (("alice", storage), ("bob", local))
            )
        )
        cluster = Cluster("-c", str(file), program=program)
    with cluster:
        try:
            yield Place(cluster, storage, is_library=kind == "library")
        finally:
            turn(storage)
    assert "Traceback" not in cluster.log, cluster.log


@pytest.fixture(scope="module", params=["cluster", "library"])
def patient(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A server that waits for longer than any test."""
    yield from serving(tmp_path_factory.mktemp("patient"), request.param, 100)


@pytest.fixture(scope="module", params=["cluster", "library"])
def impatient(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    yield from serving(tmp_path_factory.mktemp("impatient"), request.param, PATIENCE)


@dataclass
class Case:
    """A command, the request to the storage that hangs meanwhile, and how it ends otherwise.

    ``data``: None where no data connection is needed, nothing for a download, what is uploaded.
    """

    requests: tuple[str, ...]
    command: str
    code: int
    data: bytes | None = None
    first: str = ""


CASES = {
    "stat": Case(("getattr", "lookup"), "SIZE file", 213),
    "open": Case(("open",), "RETR file", 226, b""),
    "read": Case(("read",), "RETR file", 226, b""),
    "close of a download": Case(("flush",), "RETR file", 226, b""),
    "create": Case(("create",), "STOR new", 226, CONTENT),
    "truncate": Case(("setattr",), "STOR file", 226, CONTENT),
    "write": Case(("write",), "STOR new", 226, CONTENT),
    "close of an upload": Case(("flush",), "STOR new", 226, CONTENT),
    "rename": Case(("rename", "rename2"), "RNTO new", 250, first="RNFR file"),
    "scan": Case(("readdir",), "LIST", 226, b""),
    "unlink": Case(("unlink",), "DELE file", 250),
    "mkdir": Case(("mkdir",), "MKD directory", 257),
    "rmdir": Case(("rmdir",), "RMD empty", 250),
    "statfs": Case(("statfs",), "AVBL", 213),
    "chmod": Case(("setattr",), "SITE CHMOD 600 file", 200),
    "utime": Case(("setattr",), "MFMT 20200101000000 file", 213),
    "digest": Case(("read",), "XMD5 file", 250),
}


class Mover(threading.Thread):
    """Moves what goes over a data connection, until that ends."""

    def __init__(self, data: socket.socket, content: bytes) -> None:
        super().__init__()
        self.data = data
        self._content = content
        self.start()

    def run(self) -> None:
        with self.data:
            try:
                if self._content:
                    self.data.sendall(self._content)
                else:
                    while self.data.recv(1 << 16):
                        pass
            except OSError:
                pass  # it was cut


def begin(place: Place, alice: Dialogue, case: Case, how: float | str = HANGS) -> Mover | None:
    """Send the command of a case whose requests hang, or so; what moves its data meanwhile."""
    (place.files / "file").write_bytes(CONTENT)
    (place.files / "new").unlink(missing_ok=True)
    (place.files / "empty").mkdir(exist_ok=True)
    if (place.files / "directory").exists():
        (place.files / "directory").rmdir()
    if case.first:
        alice.says(case.first, 350)
    data = None if case.data is None else alice.passive()
    turn(place.storage, **dict.fromkeys(case.requests, how))
    alice.send(case.command)
    return None if data is None else Mover(data, case.data or b"")


def is_silent(client: Dialogue) -> bool:
    """Whether no reply has come but 150."""
    client.sock.setblocking(False)
    try:
        lines = client.sock.recv(4096, socket.MSG_PEEK).splitlines()
    except BlockingIOError:
        return True
    finally:
        client.sock.settimeout(DEADLINE)
    return len(lines) == 1 and lines[0].startswith(b"150")


def end(alice: Dialogue, mover: Mover | None) -> str:
    """The last reply to a command."""
    _, text = alice.reply()
    if text.startswith("150"):
        _, text = alice.reply()
    if mover is not None:
        if not text.startswith("226"):  # as clients do
            with contextlib.suppress(OSError):
                mover.data.shutdown(socket.SHUT_RDWR)
        mover.join(DEADLINE)
        assert not mover.is_alive()
    return text


@pytest.mark.parametrize("name", CASES)
def test_others_are_served_while_it_hangs_and_then_it_is_done(patient: Place, name: str) -> None:
    case, place = CASES[name], patient
    turn(place.storage)
    with place.logs_in("alice") as alice, place.neighbour(alice) as bob:
        mover = begin(place, alice, case)
        until(lambda: hung(place.storage))
        bob.says("NOOP", 200)
        assert b" file\r\n" in bob.downloads("LIST")
        assert bob.downloads("RETR file") == CONTENT
        bob.uploads("STOR new", CONTENT)
        with place.logs_in("bob") as another:
            another.says("PWD", 257)
        assert hung(place.storage)
        assert is_silent(alice)
        turn(place.storage)
        assert end(alice, mover).startswith(str(case.code))
        if case.data:
            assert (place.files / case.command.split()[1]).read_bytes() == case.data
        alice.says("NOOP", 200)


@pytest.mark.soak  # it goes by the clock: on a busy machine others need longer than the slow call
@pytest.mark.parametrize("name", CASES)
def test_others_are_served_while_each_call_is_slow_and_then_it_is_done(
    patient: Place, name: str
) -> None:
    """What is on its way when all is sent at once is looked at before the next call ends."""
    case, place = CASES[name], patient
    turn(place.storage)
    with place.logs_in("alice") as alice, place.neighbour(alice) as bob:
        mover = begin(place, alice, case, SLOW)
        for _ in range(3):
            bob.says("NOOP", 200)
        assert bob.downloads("RETR file") == CONTENT
        is_before = is_silent(alice)
        assert end(alice, mover).startswith(str(case.code))
        assert is_before or name == "close of a download"
        if case.data:
            assert (place.files / case.command.split()[1]).read_bytes() == case.data
        turn(place.storage)
        alice.says("NOOP", 200)


@pytest.mark.parametrize("name", CASES)
def test_a_session_is_told_that_its_storage_hangs_and_lives(impatient: Place, name: str) -> None:
    case, place = CASES[name], impatient
    turn(place.storage)
    with place.logs_in("alice") as alice:
        until(lambda: not hung(place.storage))
        mover = begin(place, alice, case)
        if name == "close of a download":  # all was sent: what comes of its close is nobody's loss
            assert end(alice, mover).startswith("226")
        elif name == "close of an upload":  # which may take ten times as long
            time.sleep(2 * PATIENCE)
            assert is_silent(alice)
            turn(place.storage)
            assert end(alice, mover).startswith("226")
        else:
            assert end(alice, mover) == SILENT
        turn(place.storage)
        alice.says("NOOP", 200)
        until(lambda: not hung(place.storage))
        alice.says("SIZE file", 213, 550)


@pytest.mark.parametrize("kind", ["cluster", "library"])
def test_no_more_threads_hang_than_a_directory_may_have(tmp_path: Path, kind: str) -> None:
    for place in serving(tmp_path, kind, PATIENCE):
        with place.logs_in("alice") as alice, place.neighbour(alice) as bob:
            check_bounds(place, alice, bob)


def check_bounds(place: Place, alice: Dialogue, bob: Dialogue) -> None:
    pid = place.pid(alice)
    threads, files = len(os.listdir(f"/proc/{pid}/task")), len(open_files(pid))
    turn(place.storage, getattr=HANGS, lookup=HANGS)
    lost = [Dialogue(place.cluster.port) for _ in range(16)]
    for client in lost:
        client.says("USER alice", 331)
        client.send("PASS x")
    for client in lost:
        assert client.expects(451) == SILENT
        client.says("NOOP", 200)
    assert len(os.listdir(f"/proc/{pid}/task")) <= threads + 4
    assert hung(place.storage) <= 4 * (1 if place.is_library else 2)
    told = rf"the storage at {place.storage} does not answer: open has taken \d s"
    place.cluster.wait_for(re.compile(told))
    bob.says("STAT file", 213)  # without a data port, which stays
    # now that all its threads hang nobody waits for one
    alice.send("SIZE file")
    alice.send("SIZE file")
    bob.says("NOOP", 200)
    assert [alice.reply()[1], alice.reply()[1]] == [SILENT, SILENT]
    for client in lost:
        client.sock.close()
    turn(place.storage)
    place.cluster.wait_for(re.compile("answers again: open has taken"))
    # that is the first call: as long as the others hold all threads, SIZE is 451 at once
    until(lambda: not hung(place.storage) and len(open_files(pid)) <= files)
    alice.says("SIZE file", 550)
    until(lambda: len(open_files(pid)) <= files)
    place.logs_in("alice").sock.close()


def test_an_aborted_transfer_ends_at_once_and_its_file_is_closed_later(patient: Place) -> None:
    place = patient
    turn(place.storage)
    with place.logs_in("alice") as alice:
        pid = place.pid(alice)
        mover = begin(place, alice, CASES["read"])
        until(lambda: hung(place.storage))
        alice.expects(150)
        alice.send("ABOR")
        alice.expects(426)
        alice.expects(226)
        assert mover is not None
        mover.join(DEADLINE)
        alice.says("NOOP", 200)
        assert hung(place.storage)
        assert str(place.storage / "file") in open_files(pid)
        turn(place.storage)
        until(lambda: str(place.storage / "file") not in open_files(pid))
        alice.says("SIZE file", 213)


@pytest.mark.parametrize(("patience", "is_reset"), [(100, True), (PATIENCE, False)])
def test_a_client_that_leaves_gives_its_place_back(
    tmp_path: Path, patience: int, is_reset: bool
) -> None:
    """At once where it is gone. Who only sends no more may still read the reply, when it comes."""
    limit = "[limits]\nconnections_per_address = 1\n"
    for place in serving(tmp_path, "cluster", patience, limit):
        with hang_one(place) as alice:
            if is_reset:
                reset(alice.sock)
        until(functools.partial(is_let_in, place))
        assert hung(place.storage)


def is_let_in(place: Place) -> bool:
    with Dialogue(place.cluster.port, greeting=None) as other:
        return other.reply()[0] == 220


def test_a_cluster_reloads_and_ends_though_a_thread_hangs(tmp_path: Path) -> None:
    for place in serving(tmp_path, "cluster", 100):
        with hang_one(place):
            assert " reloaded: " in place.cluster.hang_up()
            with place.logs_in("bob") as bob:
                bob.downloads("NLST")
            place.cluster.process.send_signal(signal.SIGTERM)
            assert place.cluster.process.wait(BOUND) == 0


def test_a_library_s_server_closes_though_a_thread_hangs(tmp_path: Path) -> None:
    for place in serving(tmp_path, "library", 100):
        with hang_one(place) as alice:
            place.cluster.process.send_signal(signal.SIGTERM)
            assert alice.is_closed()
        place.cluster.wait_for(re.compile("closed"))
        turn(place.storage)  # before that the kernel does not let the process end
        assert place.cluster.process.wait(BOUND) == 0


def hang_one(place: Place) -> Dialogue:
    """A session whose storage hangs."""
    alice = place.logs_in("alice")
    begin(place, alice, CASES["stat"])
    until(lambda: hung(place.storage))
    return alice
