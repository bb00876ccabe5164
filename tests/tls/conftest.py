"""Certificates, and servers with explicit TLS of each kind."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from ftpcluster import Server, User
from tests.conftest import InProcess
from tests.support.cluster import Cluster

AUTHORITY = trustme.CA()


@dataclass
class Files:
    """The authority's certificate, and the server's with its key in the same file."""

    authority: Path
    server: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("certificates")
    found = Files(folder / "authority.pem", folder / "server.pem")
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
