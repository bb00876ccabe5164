"""``ftpcluster run --workers 2 -c FILE`` with the configuration of a test."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.cluster import READY, Cluster


@contextlib.contextmanager
def configured(
    directory: Path,
    text: str,
    *flags: str,
    workers: Sequence[str] = ("--workers", "2"),
    **options: Any,
) -> Iterator[Cluster]:
    """A cluster whose configuration file, in ``directory``, contains ``text``.

    Flags replace port and addresses of the first listener: a free port on loopback.
    """
    file = directory / "ftpcluster.toml"
    file.touch(mode=0o600)
    file.write_text(text)
    with Cluster("-c", str(file), *workers, *flags, **options) as cluster:
        yield cluster
    assert "Traceback" not in cluster.log, cluster.log


def ports(cluster: Cluster) -> list[int]:
    """The ports of all listeners, in the order in which they are named."""
    where = cluster.wait_for(READY)[1]
    return [int(port) for port in re.findall(r":(\d+)(?= implicit TLS|,|$)", where)]
