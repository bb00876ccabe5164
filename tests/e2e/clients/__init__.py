"""FTP clients as tests drive them: one class each, all with the same methods."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.support.programs import drive

USER, PASSWORD = "user", "12345"

PASSIVE = re.compile(r"Entering (Extended )?Passive Mode")
AUTH = re.compile(r"""(> ?|'|Tx: ")AUTH (TLS|SSL)""")
ACTIVE = re.compile(r"\b(PORT \d|EPRT \|)")


@dataclass(frozen=True)
class Site:
    """A running server, and what a client has to know of it."""

    port: int
    implicit_port: int
    authority: Path  # the certificate of who has signed the server's
    served: Path


@dataclass(frozen=True)
class Way:
    """How a client is to connect."""

    name: str
    tls: str = ""
    active: bool = False
    host: str = "127.0.0.1"


class Client:
    """A client in one directory of the server, and in one of its own, to which all names relate.

    A method that a subclass does not have is something that the client cannot do.
    """

    name: ClassVar[str]
    mirrors_directories: ClassVar[bool] = True  # or a directory with nothing but files in it

    def __init__(self, site: Site, way: Way, home: Path, directory: str) -> None:
        self.site = site
        self.way = way
        self.home = home
        self.directory = directory
        self.port = site.implicit_port if way.tls == "implicit" else site.port
        self.trace = ""  # the dialogues, as the client tells them

    def names(self, directory: str) -> list[str]:
        """What a listing of ``directory`` shows."""
        raise NotImplementedError

    def upload(self, local: str, remote: str) -> None:
        raise NotImplementedError

    def download(self, remote: str, local: str) -> None:
        raise NotImplementedError

    def resume_upload(self, local: str, remote: str) -> None:
        """Send what ``remote`` does not have yet."""
        raise NotImplementedError

    def resume_download(self, remote: str, local: str) -> None:
        """Fetch what ``local`` does not have yet."""
        raise NotImplementedError

    def mirror_up(self, local: str, remote: str) -> None:
        """Upload a directory with all that is in it."""
        raise NotImplementedError

    def mirror_down(self, remote: str, local: str) -> None:
        """Download a directory with all that is in it."""
        raise NotImplementedError

    def rename(self, old: str, new: str) -> None:
        raise NotImplementedError

    def delete(self, name: str) -> None:
        raise NotImplementedError

    @property
    def where(self) -> str:
        """The host as a URL has it."""
        return f"[{self.way.host}]" if ":" in self.way.host else self.way.host

    def run(self, program: str, *arguments: str | os.PathLike[str], stdin: str = "") -> str:
        """Run a program to its end; its output."""
        done = drive(program, *arguments, home=self.home, stdin=stdin)
        self.trace += done.stderr + done.stdout
        return done.stdout

    def went_its_way(self) -> None:
        """Check that the client has transferred something, and no other way than it should."""
        assert bool(ACTIVE.search(self.trace)) is self.way.active, self.trace
        assert bool(PASSIVE.search(self.trace)) is not self.way.active, self.trace
        if self.way.tls:
            # once it was accepted, the server takes nothing but protected data
            assert "PROT P" in self.trace, self.trace
            assert "PROT C" not in self.trace, self.trace
        assert bool(AUTH.search(self.trace)) is (self.way.tls == "explicit"), self.trace
