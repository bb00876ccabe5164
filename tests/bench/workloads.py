"""What clients do: the workloads, in one table, and the files that they need."""

from __future__ import annotations

import mmap
import os
import shutil
import socket
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.bench.ftp import Client, Refused

BIG = 100 << 20
SMALL = 4096
FEW, MANY = 100, 10_000


@dataclass(frozen=True)
class Site:
    """The directory that is served. ``scale``: what part of their size large things have."""

    root: Path
    scale: float = 1.0

    @property
    def uploads(self) -> Path:
        return self.root / "up"

    @property
    def big(self) -> int:
        return max(1, round(BIG * self.scale))

    @property
    def many(self) -> int:
        return max(1, round(MANY * self.scale))

    def make(self) -> None:
        """Only uploads have everybody's directory: vsftpd serves no root that its user owns."""
        self.uploads.mkdir(parents=True)
        self.uploads.chmod(0o777)
        for name, size in (("big100M", self.big), ("small4k", SMALL)):
            with (self.root / name).open("wb") as file:
                for begin in range(0, size, 1 << 20):
                    file.write(os.urandom(min(1 << 20, size - begin)))
        for name, count in (("d100", FEW), ("d10k", self.many)):
            (self.root / name).mkdir()
            for number in range(count):
                (self.root / name / f"file{number}.txt").touch()

    def clear(self) -> list[int]:
        """Take the uploads away; their sizes."""
        sizes = []
        for entry in os.scandir(self.uploads):
            sizes.append(entry.stat().st_size)
            os.unlink(entry.path)
        return sizes

    def lacks_room(self) -> str | None:
        """Where 8 clients could not upload a large file each, beside the one that is there."""
        needed = 10 * self.big
        if shutil.disk_usage(self.root.parent).free >= needed:
            return None
        return f"{self.root.parent} has no room for {needed / 1e6:,.0f} MB"


class Operation:
    """What a client repeats, in a session that it has begun before."""

    def prepare(self, client: Client) -> None:
        """What is not measured. Raises FAILURES, as ``perform`` does."""
        client.logs_in()
        client.says("TYPE I")

    def perform(self, client: Client) -> int:
        """Do it once; the bytes that went over data connections."""
        raise NotImplementedError

    def finish(self, client: Client) -> None:
        client.quits()


class Login(Operation):
    """A whole session that does nothing else."""

    def prepare(self, client: Client) -> None:
        pass

    def perform(self, client: Client) -> int:
        client.logs_in()
        client.quits()
        return 0

    def finish(self, client: Client) -> None:
        pass


class Noop(Operation):
    def perform(self, client: Client) -> int:
        client.says("NOOP")
        return 0


@dataclass(frozen=True)
class Retrieve(Operation):
    name: str
    size: int

    def perform(self, client: Client) -> int:
        count = client.fetches(f"RETR {self.name}")
        if count != self.size:
            raise Refused(f"{count} bytes came of {self.size}")
        return count


@dataclass(frozen=True)
class Store(Operation):
    file: Path
    size: int

    def perform(self, client: Client) -> int:
        data = client.begins(f"STOR up/{client.number}")
        fd = os.open(self.file, os.O_RDONLY)
        try:
            self._send(data, fd)
        finally:
            os.close(fd)
        client.ends(data)
        return self.size

    def _send(self, data: socket.socket, fd: int) -> None:
        if isinstance(data, ssl.SSLSocket):
            with mmap.mmap(fd, self.size, prot=mmap.PROT_READ) as content:
                data.sendall(content)
            return
        sent = 0
        while sent < self.size:
            sent += os.sendfile(data.fileno(), fd, sent, self.size - sent)


@dataclass
class Listing(Operation):
    command: str
    entries: int
    _size: int = field(default=0, init=False)

    def prepare(self, client: Client) -> None:
        """See that all is listed; from then on its length tells."""
        super().prepare(client)
        data = client.begins(self.command)
        listing = b"".join(iter(lambda: data.recv(1 << 16), b""))
        client.ends(data)
        count = listing.count(b".txt\r\n")
        if count != self.entries:
            raise Refused(f"{count} entries came of {self.entries}")
        self._size = len(listing)

    def perform(self, client: Client) -> int:
        count = client.fetches(self.command)
        if count != self._size:
            raise Refused(f"{count} bytes came, and {self._size} before")
        return count


OPERATIONS = ("operations_per_second", "cpu_us_per_operation", "p99_ms")
BYTES = ("megabytes_per_second", "cpu_ms_per_gb", "p99_ms")
HELD = ("pss_mb", "pss_kb_per_session", "p99_ms")
STARTED = ("start_s", "cpu_ms", "pss_mb")


@dataclass(frozen=True)
class Workload:
    """``shows``: the figures that stand in the table; ``held``: idle sessions beside the clients.

    Without an ``operation`` it is the start that is measured.
    """

    about: str
    shows: tuple[str, ...]
    clients: int = 0
    operation: Operation | None = None
    held: int = 0
    tls: bool = False


def workloads(site: Site, held: int) -> dict[str, Workload]:
    """All, by their names; with so many sessions to hold."""
    down = Retrieve("big100M", site.big)
    up = Store(site.root / "big100M", site.big)
    small_down = Retrieve("small4k", SMALL)
    small_up = Store(site.root / "small4k", SMALL)

    def listing(command: str, clients: int, entries: int) -> Workload:
        return Workload(
            f"{command.split()[0]} of {entries} files",
            OPERATIONS,
            clients,
            Listing(command, entries),
        )

    table = {
        "start": Workload("from the start to the first 220", STARTED),
        "retr100M_x1": Workload("RETR of 100 MiB", BYTES, 1, down),
        "retr100M_x8": Workload("RETR of 100 MiB", BYTES, 8, down),
        "stor100M_x1": Workload("STOR of 100 MiB", BYTES, 1, up),
        "stor100M_x8": Workload("STOR of 100 MiB", BYTES, 8, up),
        "retr4k_x16": Workload("RETR of 4 KiB", OPERATIONS, 16, small_down),
        "stor4k_x16": Workload("STOR of 4 KiB", OPERATIONS, 16, small_up),
        "login_x16": Workload("connect, USER, PASS, QUIT", OPERATIONS, 16, Login()),
        "noop_x16": Workload("NOOP", OPERATIONS, 16, Noop()),
        "list100_x8": listing("LIST d100", 8, FEW),
        "mlsd10k_x2": listing("MLSD d10k", 2, site.many),
        "list10k_x2": listing("LIST d10k", 2, site.many),
        "hold": Workload(f"{held} idle sessions, NOOP beside them", HELD, 1, Noop(), held),
    }
    for name in (
        *("retr100M_x1", "retr100M_x8", "stor100M_x1", "stor100M_x8", "retr4k_x16", "login_x16"),
    ):
        plain = table[name]
        table[f"tls_{name}"] = replace(plain, about=f"{plain.about}, TLS", tls=True)
    return table
