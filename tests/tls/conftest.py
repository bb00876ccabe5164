"""Certificates, and servers with explicit TLS of each kind."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from ftpcluster import Server, User
from tests.conftest import InProcess
from tests.support.cluster import Cluster
from tests.tls.support import KINDS, Running, serving

AUTHORITY = trustme.CA()


@dataclass
class Files:
    """The authority's certificate, and the server's with its key in the same file."""

    authority: Path
    server: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("certificates")
    found = Files(directory / "authority.pem", directory / "server.pem")
    AUTHORITY.cert_pem.write_to_path(str(found.authority))
    issued = AUTHORITY.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(found.server))
    return found


@pytest.fixture
def trusting() -> ssl.SSLContext:
    """A client's context that trusts the authority."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


@pytest.fixture(params=["asyncio", "uvloop", "cluster"])
def explicit(request: pytest.FixtureRequest, root: Path, files: Files) -> Iterator[int]:
    """The port of a server that has AUTH TLS."""
    if request.param == "cluster":
        arguments = ("--workers", "2", "--root", str(root), "--user", "user:12345", "--writable")
        with Cluster(*arguments, "--tls-cert", str(files.server)) as cluster:
            yield cluster.port
        assert "Traceback" not in cluster.log, cluster.log
        return
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.server)
    server = InProcess(
        request.param, lambda: Server([User("user", "12345", base_path=root)], tls=context)
    )
    try:
        yield server.port
    finally:
        server.stop()


@dataclass
class Shared:
    """A server with explicit TLS for all tests of a module, with the SETTINGS that it names."""

    running: Running
    root: Path

    @property
    def port(self) -> int:
        return self.running.port


@pytest.fixture(scope="module", params=KINDS)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, files: Files
) -> Iterator[Shared]:
    directory = tmp_path_factory.mktemp("shared")
    root = directory / "root"
    root.mkdir()
    settings = getattr(request.module, "SETTINGS", {})
    with serving(request.param, root, files.server, directory, **settings) as running:
        yield Shared(running, root)


@pytest.fixture(params=KINDS)
def serve(
    request: pytest.FixtureRequest, root: Path, files: Files, tmp_path: Path
) -> Iterator[Callable[..., Running]]:
    """Start a server of each kind, with the settings that a test wants; see ``serving``."""
    with contextlib.ExitStack() as stack:

        def start(certificate: Path | None = files.server, **settings: object) -> Running:
            context = serving(request.param, root, certificate, tmp_path, **settings)
            return stack.enter_context(context)

        yield start
