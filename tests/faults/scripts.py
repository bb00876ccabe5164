"""Scripted sessions, one of each kind. They compare replies with the files that are there."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import ssl
from collections.abc import Callable
from pathlib import Path

from ftpcluster.session.sending_threads import LARGE as FOR_A_THREAD
from tests.faults.client import Client, Wrong

SMALL, LARGE = os.urandom(1000), os.urandom(3_000_000)
OLD, NEW = os.urandom(2000), os.urandom(400_000)
HUGE = os.urandom(FOR_A_THREAD + 1_500_000)


@dataclasses.dataclass(frozen=True)
class Place:
    """What a script works with: the server, and its files."""

    port: int
    root: Path
    context: ssl.SSLContext
    is_atomic: bool
    reload: Callable[[], str]

    def furnish(self) -> None:
        """Make the files with which each script begins, and remove all others."""
        for path in sorted(self.root.rglob("*"), reverse=True):
            name = path.relative_to(self.root).as_posix()
            if name not in _FURNITURE:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, content in _FURNITURE.items():
            path = self.root / name
            if content is None:
                path.mkdir(exist_ok=True)
            elif not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)


_FURNITURE: dict[str, bytes | None] = {
    "small": SMALL,
    "large": LARGE,
    "old": OLD,
    "directory": None,
    "directory/one": b"1",
    "directory/two": b"22",
    "empty": None,
}

Script = Callable[[Place], None]


def _stored(place: Place, client: Client, command: str, name: str, whole: bytes, sent: bytes,
            before: bytes | None = None) -> None:  # fmt: skip
    """Upload. Raises Wrong if 226 comes for a file that is not whole, or if the old file of an
    atomic upload is lost."""
    code = client.uploads(command, sent)
    file = place.root / name
    found = file.read_bytes() if file.exists() else None
    if code == 226 and found != whole:
        raise Wrong(f"226 for {command}, with {len(found or b'')} of {len(whole)} bytes there")
    is_atomic = place.is_atomic and len(sent) == len(whole)  # what is resumed is not
    if is_atomic and code != 226 and found not in (whole, before):
        raise Wrong(f"{code} for {command}, and the old file is gone")


def login(place: Place) -> None:
    with Client(place.port) as client:
        client.says("FEAT")
        client.logs_in()
        client.says("PWD")


def wrong_login(place: Place) -> None:
    with Client(place.port) as client:
        client.says("USER user")
        if client.says("PASS wrong") == 230:
            raise Wrong("a wrong password let somebody in")
        client.logs_in()


def _listed(code: int, data: bytes, *names: bytes) -> None:
    if code == 226 and not all(name in data for name in names):
        raise Wrong(f"226 for a listing of {data!r}")


def listings(place: Place) -> None:
    with Client(place.port) as client:
        if client.logs_in():
            _listed(*client.downloads("LIST directory"), b"one", b"two")
            _listed(*client.downloads("MLSD directory"), b"one", b"two")
            _listed(*client.downloads("NLST d*"), b"directory")
            client.says("MLST small")
            client.says("STAT directory")
            client.says("SIZE small")
            client.says("MDTM small")


def _retrieved(code: int, data: bytes, content: bytes) -> None:
    if code == 226 and data != content:
        raise Wrong(f"226 for RETR, of which {len(data)} of {len(content)} bytes came")


def retr(place: Place) -> None:
    with Client(place.port) as client:
        if client.logs_in():
            _retrieved(*client.downloads("RETR large"), LARGE)
            _retrieved(*client.downloads("RETR small"), SMALL)
            if client.says("REST 500") == 350:
                _retrieved(*client.downloads("RETR small"), SMALL[500:])
            if client.says("TYPE A") == 200:
                client.downloads("RETR small")


def retr_huge(place: Place) -> None:
    """A thread sends the file, with calls that block."""
    (place.root / "huge").write_bytes(HUGE)
    with Client(place.port) as client:
        if client.logs_in():
            _retrieved(*client.downloads("RETR huge"), HUGE)
            _retrieved(*client.downloads("RETR small"), SMALL)


def retr_passive(place: Place) -> None:
    with Client(place.port) as client:
        if client.logs_in():
            _retrieved(*client.downloads("RETR large", "PASV"), LARGE)


def retr_late(place: Place) -> None:
    """The data connection comes after the command."""
    with Client(place.port) as client:
        if client.logs_in():
            client.says("EPSV")
            client.says("PASV")
            _, data = client.begins("NLST")
            if data is not None:
                data.close()
                client._next("NLST")


def active(place: Place) -> None:
    with Client(place.port) as client:
        if client.logs_in():
            _retrieved(*client.downloads("RETR small", "PORT"), SMALL)
            _retrieved(*client.downloads("RETR large", "EPRT"), LARGE)


def stor(place: Place) -> None:
    with Client(place.port) as client:
        if client.logs_in():
            _stored(place, client, "STOR new", "new", NEW, NEW)
            _stored(place, client, "STOR old", "old", SMALL, SMALL, OLD)


def stor_rest(place: Place) -> None:
    with Client(place.port) as client:
        if client.logs_in() and client.says("REST 1000") == 350:
            _stored(place, client, "STOR old", "old", OLD[:1000] + NEW, NEW, OLD)


def appe(place: Place) -> None:
    with Client(place.port) as client:
        if client.logs_in():
            file = place.root / "old"
            code = client.uploads("APPE old", NEW)
            if code == 226 and file.read_bytes() != OLD + NEW:
                raise Wrong("226 for APPE, and not all of it is there")
            if not file.read_bytes().startswith(OLD):
                raise Wrong(f"{code} for APPE, and the old file is gone")
            client.uploads("STOU", SMALL)


_CHANGES = (
    ("MKD made", "made", True),
    ("MKD directory/made", "directory/made", True),
    ("RMD empty", "empty", False),
    ("DELE old", "old", False),
    ("DELE directory/one", "directory/one", False),
)


def files(place: Place) -> None:
    """Renames, directories, and so on. A change was made if, and only if, its reply says so."""
    with Client(place.port) as client:
        if not client.logs_in():
            return
        root = place.root
        if client.says("RNFR small") == 350:
            code = client.says("RNTO directory/moved")
            if (code == 250) != (root / "directory/moved").exists():
                raise Wrong(f"{code} for RNTO")
        for command, name, is_there in _CHANGES:
            code = client.says(command)
            if (code in (250, 257)) != ((root / name).exists() is is_there):
                raise Wrong(f"{code} for {command}")
        client.says("MFMT 20200101000000 large")
        client.says("SITE CHMOD 600 large")
        client.says("CWD directory")
        client.says("CDUP")


def digest(place: Place) -> None:
    with Client(place.port) as client:
        if client.logs_in():
            code, text = client.asks("HASH large")
            if code == 213 and hashlib.sha256(LARGE).hexdigest() not in text:
                raise Wrong(f"a wrong digest: {text}")
            client.says("XCRC small")


def protected(place: Place) -> None:
    with Client(place.port, place.context) as client:
        if client.protects() and client.logs_in():
            client.asks_protection()
            _retrieved(*client.downloads("RETR small"), SMALL)
            _retrieved(*client.downloads("RETR large"), LARGE)
            _stored(place, client, "STOR new", "new", NEW, NEW)
            _listed(*client.downloads("MLSD directory"), b"one", b"two")


def accepted(place: Place) -> None:
    """Connections come, and are handed over."""
    with Client(place.port) as client:
        client.says("NOOP")
        with Client(place.port) as other:
            other.says("NOOP")


def reload(place: Place) -> None:
    """A session goes on while the configuration is read again, with another worker."""
    with Client(place.port) as client:
        client.says("NOOP")
        place.reload()
        with Client(place.port) as other:
            other.logs_in()


SCRIPTS: dict[str, Script] = {
    script.__name__: script
    for script in (
        *(login, wrong_login, listings, retr, retr_huge, retr_passive, retr_late, active, stor),
        *(stor_rest, appe, files, digest, protected, accepted, reload),
    )
}
