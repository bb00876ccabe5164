"""The server that clients are driven against."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import trustme

from tests.e2e.clients import PASSWORD, USER, Site
from tests.support.cluster import Cluster


@contextlib.contextmanager
def running_site(directory: Path, env: dict[str, str] | None = None) -> Iterator[Site]:
    """``run --workers 2`` with explicit and implicit TLS; ``directory`` takes all that it needs."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "authority.pem"))
    issued = authority.issue_cert("127.0.0.1", "::1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
    (directory / "served").mkdir()
    arguments = ["--root", str(directory / "served"), "--user", f"{USER}:{PASSWORD}", "--writable"]
    arguments += ["--tls-cert", str(directory / "server.pem"), "--implicit-tls-port", "0"]
    with Cluster("--workers", "2", *arguments, env=env) as cluster:
        implicit = cluster.log.split(" implicit TLS")[0].rpartition(":")[2]
        yield Site(cluster.port, int(implicit), directory / "authority.pem", directory / "served")
    assert "Traceback" not in cluster.log, cluster.log
