"""Protected transfers under limits that change while the client reads nothing.

OpenSSL wants what it could not send offered again, and not a byte less of it: a limit that falls
meanwhile must not shorten that.
"""

from __future__ import annotations

import contextlib
import os
import select
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftpcluster.admin.client import AdminConnection
from ftpcluster.admin.requests import Limit, Overview, WhoRequest
from tests.support.cluster import Cluster, until
from tests.tls.conftest import Files
from tests.tls.support import V12, V13, Client, reads

CONTENT = os.urandom(40_000_000)


@pytest.fixture
def cluster(root: Path, files: Files) -> Iterator[Cluster]:
    (root / "file").write_bytes(CONTENT)
    flags = ["--workers", "2", "--root", str(root), "--user", "user:12345"]
    with Cluster(*flags, "--tls-cert", str(files.server), "--download-limit", "1GB") as cluster:
        yield cluster
    assert "Traceback" not in cluster.log, cluster.log


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
@pytest.mark.parametrize("login", [None, "user"], ids=["server", "user"])
def test_a_download_goes_on_when_its_limit_has_fallen_meanwhile(
    cluster: Cluster, trusting: ssl.SSLContext, version: ssl.TLSVersion, login: str | None
) -> None:
    trusting.minimum_version = trusting.maximum_version = version
    with contextlib.closing(AdminConnection(cluster.admin)) as admin:

        def is_held_by_the_client() -> bool:
            overview = admin.ask(WhoRequest())
            assert isinstance(overview, Overview)
            return [each.held_by for each in overview.sessions] == ["client"]

        with Client(cluster.port, trusting) as client:
            client.secures(protected=True)
            with client.protected("RETR file") as data:
                received = bytearray()
                for _ in range(2):
                    until(is_held_by_the_client)
                    admin.ask(Limit(login, download=1, upload=None))
                    while data.pending() or select.select([data], [], [], 0.3)[0]:
                        block = data.recv(1 << 16)
                        assert block
                        time.sleep(0.002)  # the limit may take a moment to reach the worker
                        received += block
                        if len(block) < 100:
                            break
                    admin.ask(Limit(login, download=None, upload=None))
                received += reads(data)
            client.expects(226)
    assert received == CONTENT


def test_a_client_slower_than_the_limit_gets_all(
    cluster: Cluster, trusting: ssl.SSLContext
) -> None:
    """What it is granted falls, since it does not take it, and rises again, all the time."""
    with Client(cluster.port, trusting) as client:
        client.secures(protected=True)
        with client.protected("RETR file") as data:
            received = bytearray()
            while block := data.recv(32 * 1024):
                received += block
                if len(received) < 6_000_000:
                    time.sleep(0.01)  # 3 MB/s
        client.expects(226)
    assert received == CONTENT
