"""Servers for dialogues: one of each kind for all tests, and others made to measure.

To start three servers for each of some hundred tests would take longer than the tests: those here
share them, and each test gets the served directory empty.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import shutil
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ftpcluster import Permission, Server, User
from tests.conftest import LOOPS, InProcess
from tests.session.hung_up import Hashes, Start, held_hashes, starting
from tests.session.proxied import AUTHORITY, CONTENT, KINDS, Front, make_front
from tests.support.cluster import Cluster, until
from tests.support.dialogue import Dialogue
from tests.support.many_entries import make_entries


@dataclass
class Serving:
    """A server that many tests use. ``rename_replaces``: what it does with RNTO onto a file."""

    kind: str
    port: int
    root: Path
    cluster: Cluster | None = None

    @property
    def rename_replaces(self) -> bool:
        return self.cluster is not None

    def process_of(self, client: Dialogue) -> int:
        """The process that serves a client."""
        return os.getpid() if self.cluster is None else self.cluster.worker_of(client.sock)

    def has_no_traceback(self) -> None:
        """Nothing that clients did made the server write one."""
        if self.cluster is not None:
            assert self.cluster.process.poll() is None, self.cluster.log
            assert "Traceback" not in self.cluster.log, self.cluster.log


@pytest.fixture(scope="session", params=["asyncio", "uvloop", "cluster"])
def serving(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    """A server of each kind: user/12345 may write, anonymous may read."""
    root = tmp_path_factory.mktemp("served")
    if request.param == "cluster":
        arguments = ("--workers", "2", "--root", str(root), "--anonymous", "--writable")
        with Cluster(*arguments, "--user", "user:12345") as cluster:
            yield Serving(request.param, cluster.port, root, cluster)
        assert "Traceback" not in cluster.log, cluster.log
        return
    readable = [Permission("/", writable=False)]
    users = [
        User("user", "12345", base_path=root),
        User("anonymous", base_path=root, permissions=readable),
    ]
    server = InProcess(request.param, lambda: Server(users, login_delay=0.05))
    try:
        yield Serving(request.param, server.port, root)
    finally:
        server.stop()


@pytest.fixture
def port(serving: Serving) -> Iterator[int]:
    """The port of a server of each kind."""
    yield serving.port
    serving.has_no_traceback()


@pytest.fixture
def root(serving: Serving) -> Path:
    """The directory that it serves, empty."""
    with os.scandir(serving.root) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
    return serving.root


@pytest.fixture
def client(port: int, root: Path) -> Iterator[Dialogue]:
    """Somebody who has logged in and may write, in TYPE I."""
    with Dialogue(port) as dialogue:
        dialogue.logs_in()
        yield dialogue


@pytest.fixture(scope="session")
def many_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose listings are larger than what kernel and client hold unread (4 MB)."""
    directory = tmp_path_factory.mktemp("many") / "directory"
    make_entries(directory, (f"{number:05d}{'x' * 245}" for number in range(14_000)))
    return directory


@pytest.fixture
def big_directory(root: Path, many_files: Path) -> Iterator[Path]:
    """That directory, in the one that is served: made once, since that takes seconds."""
    directory = many_files.rename(root / "directory")
    yield directory
    directory.rename(many_files)


@pytest.fixture(autouse=True)
def no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a client does, a server in this process has nothing to report as an error."""
    yield
    errors = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not errors, [record.getMessage() for record in errors]


@dataclass
class Maker:
    """Makes servers in this process, on one kind of loop, that serve ``directory``."""

    loop: str
    directory: Path
    made: list[InProcess] = field(default_factory=list)

    def __call__(
        self, *, users: Iterable[User] | None = None, host: str = "127.0.0.1", **options: Any
    ) -> int:
        """The port of a new server; other keywords are those of ``Server``."""
        accounts = [User("user", "12345", base_path=self.directory)] if users is None else users
        options = {"login_delay": 0.05, **options}
        server = InProcess(self.loop, lambda: Server(accounts, **options), host)
        self.made.append(server)
        return server.port

    def with_settings(self, users: Iterable[User] | None = None, **changes: Any) -> int:
        """The port of a server with other settings than ``Server`` has keywords for."""
        accounts = users or [User("user", "12345", base_path=self.directory)]

        def make() -> Server:
            server = Server(accounts)
            server.settings = dataclasses.replace(server.settings, **changes)
            return server

        server = InProcess(self.loop, make)
        self.made.append(server)
        return server.port


@contextlib.contextmanager
def making(loop: str, directory: Path) -> Iterator[Maker]:
    """A maker whose servers end with the block."""
    maker = Maker(loop, directory)
    try:
        yield maker
    finally:
        for server in maker.made:
            server.stop()


@pytest.fixture(params=["asyncio", "uvloop"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    """Makes servers with other options than ``port`` has: ``serve(idle_timeout=1)``."""
    directory = tmp_path / "directory"
    directory.mkdir()
    with making(request.param, directory) as maker:
        yield maker


@pytest.fixture(scope="module", params=KINDS)
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    directory = tmp_path_factory.mktemp("served")
    (directory / "file").write_bytes(CONTENT)
    yield from make_front(request.param, directory)


@pytest.fixture
def logs(front: Front, caplog: pytest.LogCaptureFixture) -> Callable[[str], None]:
    """Waits until the server has logged a line during this test."""
    cluster = front.cluster
    if cluster is None:
        return lambda pattern: until(lambda: re.search(pattern, caplog.text)) and None
    start = len(cluster.log)
    return lambda pattern: cluster.wait_for(re.compile(pattern), start) and None


@pytest.fixture(scope="session")
def server_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's certificate with its key."""
    path = tmp_path_factory.mktemp("certificates") / "server.pem"
    AUTHORITY.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def server_context(server_certificate: Path) -> ssl.SSLContext:
    """TLS with that certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server_certificate)
    return context


@pytest.fixture(scope="module", params=KINDS)
def proxied_tls_port(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    server_certificate: Path,
    server_context: ssl.SSLContext,
) -> Iterator[int]:
    """A port that begins with TLS, behind the header."""
    arguments = ("--tls-cert", str(server_certificate), "--implicit-tls-port", "0")
    directory = tmp_path_factory.mktemp("served")
    (directory / "file").write_bytes(CONTENT)
    for front in make_front(request.param, directory, *arguments, ssl=server_context):
        port = front.port
        if front.cluster is not None:
            match = re.search(r"127\.0\.0\.1:(\d+) implicit TLS", front.cluster.log)
            assert match is not None
            port = int(match[1])
        yield port


# ---------------------------------------------------------------------- hashes that are held


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hashes]:
    """Hashes of passwords are ready when the test says so."""
    with held_hashes(monkeypatch) as hashes:
        yield hashes


@pytest.fixture(params=list(LOOPS))
def start(request: pytest.FixtureRequest, hashes: Hashes) -> Iterator[Start]:
    """Starts servers with such hashes, on each loop."""
    with starting(request.param, hashes) as start:
        yield start
