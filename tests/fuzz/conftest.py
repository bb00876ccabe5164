"""Servers to be talked nonsense to: of each kind, with TLS, and no delay after failed logins."""

from __future__ import annotations

import logging
import os
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cluster import open_files
from tests.support.memory import resident
from tests.tls.conftest import AUTHORITY
from tests.tls.support import KINDS, Running, serving


@dataclass
class Target:
    """A server, the directory that it serves, and a context that trusts it."""

    running: Running
    root: Path
    trusting: ssl.SSLContext

    @property
    def port(self) -> int:
        return self.running.port

    def plant(self) -> None:
        """The files that the grammar speaks of, whatever has become of them."""
        os.chmod(self.root, 0o755)
        for entry in os.scandir(self.root):
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o755)
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        (self.root / "directory").mkdir()
        (self.root / "directory/file").write_bytes(b"content")
        (self.root / "file").write_bytes(b"line\r\n" * 10)
        (self.root / "link").symlink_to("file")
        (self.root / "way out").symlink_to("/")
        os.mkfifo(self.root / "fifo")

    def processes(self) -> list[int]:
        """Those that run sessions."""
        cluster = self.running.cluster
        return [os.getpid()] if cluster is None else sorted(cluster.workers())

    def descriptors(self) -> int:
        """All that the processes of the server have open."""
        cluster = self.running.cluster
        pids = self.processes() if cluster is None else [cluster.pid, *self.processes()]
        return sum(len(open_files(pid)) for pid in pids)

    def memory(self) -> int:
        """Resident bytes of those that run sessions."""
        return sum(map(resident, self.processes()))


@pytest.fixture(scope="module", params=KINDS)
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    directory = tmp_path_factory.mktemp("fuzzed")
    certificate, root = directory / "server.pem", directory / "root"
    issued = AUTHORITY.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    root.mkdir()
    trusting = ssl.create_default_context()
    AUTHORITY.configure_trust(trusting)
    with serving(
        request.param, root, certificate, directory, login_delay=0, data_timeout=2
    ) as running:
        yield Target(running, root, trusting)


@pytest.fixture(autouse=True)
def no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a client says, a server in this process has nothing to report as an error."""
    yield
    errors = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not errors, [record.getMessage() for record in errors]
