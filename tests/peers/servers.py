"""The servers: ours in one process and with workers, and two others, each in its own process.

Each make runs in two ways: as it comes, but that failed logins are answered at once, and strict,
with short deadlines, few data ports, delayed failures and bans, as far as it has them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import argon2
import trustme

from ftpcluster import Permission, Server, User
from tests.conftest import InProcess
from tests.peers.target import (
    BOB,
    DELAY,
    FAILURES,
    IDLE,
    LIMITED,
    LOGIN,
    PLAIN,
    PORTS,
    USER,
    Target,
)
from tests.support.configured import configured
from tests.support.outside import SECRET
from tests.support.ports import bind_range

SPARED = "127.0.0.1/32"
"""Whose guesses do not lead to a ban."""

_MODULE = """
import ftpcluster

class Mine(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users, login_delay={delay})
"""


@dataclass
class Place:
    """A directory to serve, one beside it that is not, and what servers are told."""

    directory: Path
    strict: bool
    stack: ExitStack
    ports: range = field(init=False)

    def __post_init__(self) -> None:
        first = bind_range(self.stack, PORTS)
        self.ports = range(first, first + PORTS)
        self.root.mkdir()
        self.outside.mkdir()
        self.prepare()
        issued = trustme.CA().issue_cert("localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.certificate))

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def outside(self) -> Path:
        return self.directory / "outside"

    @property
    def certificate(self) -> Path:
        return self.directory / "server.pem"

    @property
    def delay(self) -> float:
        return DELAY if self.strict else 0

    def prepare(self) -> None:
        """The directories as an attempt finds them."""
        for directory in (self.root, self.outside):
            for entry in os.scandir(directory):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
        for name in (
            "foo",
            "foobar",
            "drop",
        ):  # pyftpdlib wants to see them when it is told of them
            (self.root / name).mkdir()
        (self.outside / "directory").mkdir()
        for name in ("file", "victim", "outsider"):
            (self.outside / name).write_bytes(SECRET)


def library(place: Place) -> int:
    """``Server`` in a thread of this process."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(place.certificate)
    options: dict[str, Any] = {"login_delay": place.delay, "tls": context}
    if place.strict:
        options |= {"login_timeout": LOGIN, "idle_timeout": IDLE, "data_ports": place.ports}
        options |= {"ban_failures": FAILURES, "ban_allow": [SPARED]}
    limited = [
        Permission("/", writable=False),
        Permission("/foo", readable=False, writable=False),
        Permission("/foobar"),
        Permission("/drop", readable=False),
    ]
    users = [
        User(USER[0], hashed(USER[1]), base_path=place.root),
        User(*PLAIN, base_path=place.root),
        User(BOB[0], hashed(BOB[1]), base_path=place.root, maximum_connections=2),
        User(LIMITED[0], hashed(LIMITED[1]), base_path=place.root, permissions=limited),
    ]
    server = InProcess("uvloop", lambda: Server(users, **options))
    place.stack.callback(server.stop)
    return server.port


def cluster(place: Place) -> int:
    """``ftpcluster run --workers 2``."""
    (place.directory / "mine.py").write_text(_MODULE.format(delay=place.delay))
    certificate = str(place.certificate)
    text = f"server = 'mine:Mine'\n[tls]\ncertificate = '{certificate}'\nkey = '{certificate}'\n"
    if place.strict:
        text += f"[timeouts]\nlogin = {LOGIN:.0f}\nidle = {IDLE:.0f}\n"
        text += f"[ban]\nfailures = {FAILURES}\nallow = ['{SPARED}']\n"
        text += f"[data]\nports = '{place.ports[0]}-{place.ports[-1]}'\n"
    rules = (
        "{ path = '/', read = true, write = false }, "
        "{ path = '/foo', read = false, write = false }, "
        "{ path = '/foobar', read = true, write = true }, "
        "{ path = '/drop', read = false, write = true }"
    )
    more = {BOB: "connections = 2", LIMITED: f"permissions = [{rules}]"}
    for account in (USER, PLAIN, BOB, LIMITED):
        login, password = account
        stored = f"plain:{password}" if account is PLAIN else hashed(password)
        text += f"[[user]]\nlogin = '{login}'\npassword = '{stored}'\nroot = 'root'\n"
        text += more.get(account, "") + "\n"
    running = configured(place.directory, text, env={"PYTHONPATH": str(place.directory)})
    return place.stack.enter_context(running).port


def hashed(password: str) -> str:
    """A hash of some milliseconds: a server that computed none for unknown names would show it."""
    return argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(password)


def peer(script: str, *weak: str) -> Callable[[Place], int]:
    """Starts a server of another make. ``weak``: what it must do without, see its script."""

    def start(place: Place) -> int:
        told = {
            "root": str(place.root),
            "user": USER,
            "plain": PLAIN,
            "bob": BOB,
            "limited": LIMITED,
            "certificate": str(place.certificate),
            "strict": place.strict,
            "idle": IDLE,
            "delay": DELAY,
            "ports": list(place.ports),
            "weak": weak,
        }
        program = str(Path(__file__).with_name(script))
        log = place.stack.enter_context((place.directory / "log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", program, json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        place.stack.callback(_end, process)
        assert process.stdout is not None
        port = process.stdout.readline()
        assert port, (place.directory / "log").read_text()
        return int(port)

    return start


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


@dataclass(frozen=True)
class Make:
    """A make of server: what the page calls it, how it starts, the package that it comes in."""

    title: str
    start: Callable[[Place], int]
    distribution: str | None = None

    @property
    def version(self) -> str | None:
        return self.distribution and importlib.metadata.version(self.distribution)


MAKES = {
    "library": Make("ftpcluster, library", library),
    "cluster": Make("ftpcluster, 2 workers", cluster),
    "aioftp": Make("aioftp", peer("aioftp_server.py"), "aioftp"),
    "pyftpdlib": Make("pyftpdlib", peer("pyftpdlib_server.py"), "pyftpdlib"),
}
OURS = ("library", "cluster")


class Running:
    """A server of one make and kind, and the place that it serves, as long as the block lasts."""

    def __init__(self, make: Make, directory: Path, *, strict: bool) -> None:
        self._stack = ExitStack()
        try:
            self.place = Place(directory, strict, self._stack)
            self._port = make.start(self.place)
        except BaseException:
            self._stack.close()
            raise

    def target(self, patience: float, race: float) -> Target:
        """What the next attempt is tried on."""
        self.place.prepare()
        place = self.place
        return Target(self._port, place.root, place.outside, patience, race)

    def close(self) -> None:
        self._stack.close()
