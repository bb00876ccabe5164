"""One server of each kind, with the same settings: in this process on both loops, and a cluster.

All serve ``directory/root`` to the user "user", password 12345, who may write.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftpcluster import Server, User
from tests.conftest import InProcess
from tests.support.cluster import Cluster
from tests.support.configured import configured

KINDS = ("asyncio", "uvloop", "cluster")
IN_PROCESS = KINDS[:2]


@dataclass
class Running:
    """A server that runs."""

    port: int
    root: Path
    server: InProcess | None = None
    cluster: Cluster | None = None

    def emptied(self) -> Path:
        """Empty the directory that is served. (It stays: a confined worker could open no other.)"""
        for path in self.root.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        return self.root

    def left(self) -> list[str]:
        """The relative paths of all files and directories that are left."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))


@contextlib.contextmanager
def running(
    kind: str,
    directory: Path,
    *,
    connections: int = 1000,
    server: str = "",
    text: str = "",
    loop: str = "uvloop",
    **options: Any,
) -> Iterator[Running]:
    """``options`` are keywords of ``Server``, or keys of ``[storage]``.

    ``connections`` are those of the user. Of a cluster: ``server`` is the class that its workers
    run, of a module in ``directory`` or of the tests, ``text`` more of its file.
    """
    root = directory / "root"
    root.mkdir(exist_ok=True)
    if kind == "cluster":
        keys = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
        top = [f"loop = {json.dumps(loop)}"]
        top += [f"server = {json.dumps(server)}"] if server else []
        user = "[[user]]\nlogin = 'user'\npassword = 'plain:12345'\nroot = 'root'\n"
        user += f"connections = {connections}\n"
        lines = [*top, text, "[storage]", *keys, user]
        env = {"PYTHONPATH": str(directory)}
        with configured(directory, "\n".join(lines), env=env) as cluster:
            yield Running(cluster.port, root, cluster=cluster)
        return
    users = [User("user", "12345", base_path=root, maximum_connections=connections)]
    made = InProcess(kind, lambda: Server(users, login_delay=0.05, **options))
    try:
        yield Running(made.port, root, server=made)
    finally:
        made.stop()
