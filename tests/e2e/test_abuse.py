"""Crowds that do no good, in the library and in ``run --workers 2`` (faults.md “Abuse”)."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ftpcluster import Server, User
from tests.conftest import InProcess
from tests.support.cluster import Cluster, open_files, until
from tests.support.configured import configured
from tests.support.dialogue import Dialogue, rest_of
from tests.support.memory import resident
from tests.support.outside import SECRET, Swapping, picture
from tests.support.ports import bind_range

_LISTEN = "0A"
KINDS = ("library", "cluster")
MODULE = """
import ftpcluster

class Mine(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users, login_delay=0)
"""


@dataclass
class Running:
    port: int
    cluster: Cluster | None = None

    def processes(self) -> list[int]:
        """Those that run sessions."""
        return [os.getpid()] if self.cluster is None else self.cluster.workers()

    def memory(self) -> int:
        """Their resident bytes."""
        return sum(map(resident, self.processes()))

    def listening(self, ports: set[int]) -> set[int]:
        """Those of the ports on which the server listens."""
        sockets = {link for pid in self.processes() for link in open_files(pid)}
        found = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                port = int(fields[1].rpartition(":")[2], 16)
                if fields[3] == _LISTEN and f"socket:[{fields[9]}]" in sockets:
                    found.add(port)
        return found & ports


@dataclass
class Maker:
    """Starts servers of one kind; bob may have two sessions."""

    kind: str
    directory: Path
    stack: ExitStack

    def __call__(
        self,
        *,
        login: int = 30,
        idle: int = 300,
        ports: tuple[int, int] | None = None,
        password: str = "12345",
    ) -> Running:
        """``login`` and ``idle`` are timeouts in seconds. Failed logins are answered at once."""
        if self.kind == "cluster":
            return self._cluster(login, idle, ports, password)
        options: dict[str, Any] = {"login_timeout": login, "idle_timeout": idle, "login_delay": 0}
        if ports is not None:
            options["data_ports"] = range(ports[0], ports[1] + 1)
        root = self.directory / "root"
        users = [
            User("user", password, base_path=root),
            User("bob", "bobs", base_path=root, maximum_connections=2),
        ]
        server = InProcess("uvloop", lambda: Server(users, **options))
        self.stack.callback(server.stop)
        return Running(server.port)

    def _cluster(
        self, login: int, idle: int, ports: tuple[int, int] | None, password: str
    ) -> Running:
        (self.directory / "mine.py").write_text(MODULE)
        stored = password if password.startswith("$") else f"plain:{password}"
        text = f"server = 'mine:Mine'\n[timeouts]\nlogin = {login}\nidle = {idle}\n"
        if ports is not None:
            text += f"[data]\nports = '{ports[0]}-{ports[1]}'\n"
        for name, secret, limit in (("user", stored, ""), ("bob", "plain:bobs", "connections = 2")):
            text += f"[[user]]\nlogin = '{name}'\npassword = '{secret}'\nroot = 'root'\n{limit}\n"
        environment = {"PYTHONPATH": str(self.directory)}
        cluster = self.stack.enter_context(configured(self.directory, text, env=environment))
        return Running(cluster.port, cluster)


@pytest.fixture(params=KINDS)
def serve(request: pytest.FixtureRequest, root: Path) -> Iterator[Maker]:
    with ExitStack() as stack:
        yield Maker(request.param, root.parent, stack)


@pytest.fixture
def crowd() -> Iterator[Callable[[int, int], list[Dialogue]]]:
    """Makes so many connections to a port, which are closed in the end."""
    with ExitStack() as stack:

        def make(port: int, count: int) -> list[Dialogue]:
            return [stack.enter_context(Dialogue(port)) for _ in range(count)]

        yield make


Crowd = Callable[[int, int], list[Dialogue]]


def test_fifty_who_only_say_a_name_do_not_keep_its_owner_out(serve: Maker, crowd: Crowd) -> None:
    """“bob logs in; the idle ones are gone at the login deadline”"""
    server = serve(login=3)
    idle = []
    for _ in range(50):
        idle += crowd(server.port, 1)
        idle[-1].says("USER bob", 331)
    with Dialogue(server.port) as one, Dialogue(server.port) as two:
        one.logs_in("bob", "bobs")
        two.logs_in("bob", "bobs")
        for client in idle:
            client.expects(421)
            assert client.is_closed()
        one.says("NOOP", 200)


@pytest.mark.slow
@pytest.mark.alone
def test_five_hundred_slow_lorises_are_gone_at_the_deadline_and_hinder_nobody(
    serve: Maker, crowd: Crowd
) -> None:
    """“500 slow-loris …: deadlines hold”: a byte now and then is no login."""
    server = serve(login=4)
    slow = crowd(server.port, 500)
    begin = time.monotonic()
    with Dialogue(server.port) as honest:
        honest.logs_in()
        took = []
        while slow and time.monotonic() < begin + 40:
            for client in tuple(slow):
                try:
                    client.sock.send(b"N")
                except ConnectionError:
                    slow.remove(client)
            asked = time.monotonic()
            honest.says("NOOP", 200)
            took.append(time.monotonic() - asked)
        assert not slow
        assert statistics.median(took) < 0.1


def test_two_hundred_data_ports_that_nobody_uses_come_back(serve: Maker, crowd: Crowd) -> None:
    """“200 PASV never used …: deadlines hold, ports come back”"""
    server = serve(login=60, idle=4)
    ports = []
    idle = crowd(server.port, 200)
    for client in idle:
        client.logs_in()
        ports.append(client.epsv())
    assert len(set(ports)) == 200
    for client in idle:
        client.expects(421)
        assert client.is_closed()
    until(lambda: not server.listening(set(ports)))


def test_fifty_who_want_one_of_ten_ports_are_all_answered(serve: Maker, crowd: Crowd) -> None:
    """“10 data ports and 50 PASV: … 425 rather than a hang”"""
    first = bind_range(serve.stack, 10)
    server = serve(ports=(first, first + 9))
    clients = crowd(server.port, 50)
    for client in clients:
        client.logs_in()
    for client in clients:
        client.send("EPSV")
    answers = Counter(client.reply()[0] for client in clients)
    assert answers[229] == 10
    assert answers[425] == 40
    for client in clients:
        client.says("NOOP", 200)
        client.says("QUIT", 221)
    used = set()
    for client in crowd(server.port, 10):
        client.logs_in()
        used.add(client.epsv())
    assert used == set(range(first, first + 10))


@pytest.mark.parametrize("length", [512, 4096, 60_000])
def test_a_session_takes_little_memory_whatever_line_it_has_begun(
    serve: Maker, crowd: Crowd, length: int
) -> None:
    """“lines of 512 B to 10 MB …: session lives under 64 KiB”"""
    server = serve()
    for client in crowd(server.port, 20):  # what is needed from the first use on
        client.sock.sendall(b"x" * length)
    before = server.memory()
    clients = crowd(server.port, 400)
    for client in clients:
        client.sock.sendall(b"NOOP\r\n" + b"x" * length)
    for client in clients:
        client.expects(200)
    held = (server.memory() - before) / len(clients)
    assert held < 64 * 1024


def test_a_line_of_ten_megabytes_ends_its_session_and_costs_nothing(serve: Maker) -> None:
    """“lines … to 10 MB”"""
    server = serve()
    # made before memory is measured: the library's server shares the client's process
    lines = [begin + b"x" * 10_000_000 for begin in (b"", b"USER ", b"\xff\xff")]
    before = server.memory()
    for line in lines:
        with Dialogue(server.port) as client:
            with contextlib.suppress(ConnectionError):
                client.sock.sendall(line)
            assert rest_of(client.sock).count(b"\r\n") <= 1
    assert server.memory() - before < 4 << 20
    with Dialogue(server.port) as client:
        client.logs_in()


@pytest.mark.alone
@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("hashed", [False, True], ids=["plain", "hash"])
def test_failed_logins_of_known_and_unknown_names_cannot_be_told_apart(
    serve: Maker, count: int, hashed: bool
) -> None:
    """“2,000 logins, known and unknown names mixed: same replies; median times differ < 1 ms”"""
    server = serve(password=SLOW if hashed else "12345")
    differences: list[float] = []
    # a busy machine adds some ms to either; what the server adds is there every time
    while not differences or (differences[-1] >= 0.001 and len(differences) < 5):
        took: dict[str, list[float]] = {"user": [], "nope": []}
        replies = set()
        for number in range(count):
            # by twos, since connections go to two workers in turn
            name = "user" if number % 4 < 2 else "nope"
            with Dialogue(server.port) as client:
                asked = client.says(f"USER {name}", 331)
                begin = time.perf_counter()
                answer = client.says("PASS wrong", 530)
                took[name].append(time.perf_counter() - begin)
                replies.add((asked, answer))
        assert len(replies) == 1
        known, unknown = (statistics.median(times) for times in took.values())
        differences.append(abs(known - unknown))
    assert min(differences) < 0.001, differences


SLOW = "$argon2id$v=19$m=4096,t=1,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43
"""A hash that takes some milliseconds, in which a name without one could be told."""


# ---------------------------------------------------------------------- out of the root


READ = ("RETR x/file", "LIST x", "NLST x", "MLSD x", "LIST x/file")
ASKED = (
    "SIZE x/file", "MDTM x/file", "MLST x/file", "STAT x", "CWD x", "CWD /", "HASH x/file",
    "XMD5 x/file", "AVBL x", "DELE x/victim", "MKD x/new", "RMD x/new", "RMD x/directory",
    "RNFR x/victim", "RNTO taken", "RNFR taken", "RNTO x/given", "DELE x/given",
    "SITE CHMOD 777 x/file", "SITE UTIME 20200101000000 x/file", "MFMT 20200101000000 x/file",
)  # fmt: skip
WRITTEN = ("STOR x/file", "APPE x/victim", "STOU x/s")


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.soak)])
def test_links_that_are_swapped_under_every_verb_let_nothing_out(
    serve: Maker, root: Path, seconds: float
) -> None:
    """“links swapped at 10⁴ a second under every verb: nothing outside the root is ever read,
    listed, written, removed”"""
    outside = root.with_name("outside")
    (outside / "directory").mkdir(parents=True)
    for name in ("file", "victim", "outsider"):
        (outside / name).write_bytes(SECRET)
    (root / "x").mkdir()
    (root / "link").symlink_to("../outside")
    before = picture(outside)
    server = serve()
    end = time.monotonic() + seconds
    seen: Counter[tuple[str, int]] = Counter()
    with Dialogue(server.port) as client, Swapping(root / "x", root / "link"):
        client.logs_in()
        while time.monotonic() < end:
            for command in (*READ, *ASKED, *WRITTEN):
                code, told = speak(client, command)
                seen[command, code] += 1
                assert SECRET.decode() not in told
                assert "outsider" not in told
    assert picture(outside) == before
    both = {command for command, code in seen if code in (226, 213, 250, 200, 257)}
    assert {"RETR x/file", "SIZE x/file", "STOR x/file", "LIST x", "MKD x/new"} <= both
    assert {code for _, code in seen} > {226, 550}


def speak(client: Dialogue, command: str) -> tuple[int, str]:
    """Say it, with a data connection where it needs one; all that came back."""
    if command not in READ + WRITTEN:
        client.send(command)
        return client.reply()
    with client.passive() as data:
        client.send(command)
        code, text = client.reply()
        if code == 150:
            if command in WRITTEN:
                data.sendall(b"inside")
                data.shutdown(socket.SHUT_WR)
            else:
                text += rest_of(data).decode()
            code, _ = client.reply()
        return code, text
