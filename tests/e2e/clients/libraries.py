"""Clients that are libraries of Python."""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import socket
import ssl
from collections.abc import Iterator

from tests.e2e.clients import PASSWORD, USER, Client

DEADLINE = 20.0


class ProtectedFTP(ftplib.FTP_TLS):
    """``FTP_TLS``, also with implicit TLS, which it does not know."""

    def __init__(self, context: ssl.SSLContext, *, implicit: bool = False) -> None:
        super().__init__(context=context, encoding="utf-8")
        self.implicit = implicit

    def connect(self, host: str = "", port: int = 0, *_: object, **__: object) -> str:
        if not self.implicit:
            return super().connect(host, port, DEADLINE)
        self.host, self.port, self.timeout = host, port, DEADLINE
        plain = socket.create_connection((host, port), DEADLINE)
        self.af = plain.family
        self.sock = self.context.wrap_socket(plain, server_hostname=host)
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()
        return self.welcome


class ResumingFTP(ProtectedFTP):
    """Data connections resume the control connection's session: the usual recipe for that."""

    def __init__(self, context: ssl.SSLContext, *, implicit: bool = False) -> None:
        super().__init__(context, implicit=implicit)
        self.reused: list[bool | None] = []  # of every data connection

    def ntransfercmd(
        self, cmd: str, rest: int | str | None = None
    ) -> tuple[socket.socket, int | None]:
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        assert isinstance(self.sock, ssl.SSLSocket)
        protected = self.context.wrap_socket(
            conn, server_hostname=self.host, session=self.sock.session
        )
        self.reused.append(protected.session_reused)
        return protected, size


class Ftplib(Client):
    name = "ftplib"

    @contextlib.contextmanager
    def session(self) -> Iterator[ftplib.FTP]:
        client = ftplib.FTP(encoding="utf-8")
        if self.way.tls:
            context = ssl.create_default_context(cafile=str(self.site.authority))
            client = ProtectedFTP(context, implicit=self.way.tls == "implicit")
        output = io.StringIO()
        with contextlib.redirect_stdout(output), client:
            client.set_debuglevel(1)
            client.connect(self.way.host, self.port, timeout=DEADLINE)
            client.login(USER, PASSWORD)
            if isinstance(client, ftplib.FTP_TLS):
                client.prot_p()
            client.set_pasv(not self.way.active)
            client.cwd(self.directory)
            yield client
        self.trace += output.getvalue()

    def names(self, directory: str) -> list[str]:
        with self.session() as client:
            return [name for name, _ in client.mlsd(directory)]

    def upload(self, local: str, remote: str) -> None:
        with self.session() as client, (self.home / local).open("rb") as file:
            client.storbinary(f"STOR {remote}", file)

    def download(self, remote: str, local: str) -> None:
        with self.session() as client, (self.home / local).open("wb") as file:
            client.retrbinary(f"RETR {remote}", file.write)

    def resume_upload(self, local: str, remote: str) -> None:
        with self.session() as client, (self.home / local).open("rb") as file:
            client.voidcmd("TYPE I")
            size = client.size(remote)
            assert size is not None
            file.seek(size)
            client.storbinary(f"STOR {remote}", file, rest=size)

    def resume_download(self, remote: str, local: str) -> None:
        with self.session() as client, (self.home / local).open("ab") as file:
            client.retrbinary(f"RETR {remote}", file.write, rest=file.tell())

    def mirror_up(self, local: str, remote: str) -> None:
        with self.session() as client:
            for directory, _, files in os.walk(self.home / local):
                there = os.path.relpath(directory, self.home / local)
                client.mkd(os.path.normpath(f"{remote}/{there}"))
                for name in files:
                    with open(os.path.join(directory, name), "rb") as file:
                        client.storbinary(f"STOR {remote}/{there}/{name}", file)

    def mirror_down(self, remote: str, local: str) -> None:
        with self.session() as client:
            self._fetch(client, remote, local)

    def _fetch(self, client: ftplib.FTP, remote: str, local: str) -> None:
        (self.home / local).mkdir()
        for name, facts in list(client.mlsd(remote, ["type"])):
            if facts["type"] == "dir":
                self._fetch(client, f"{remote}/{name}", f"{local}/{name}")
            elif facts["type"] == "file":
                with (self.home / local / name).open("wb") as file:
                    client.retrbinary(f"RETR {remote}/{name}", file.write)

    def rename(self, old: str, new: str) -> None:
        with self.session() as client:
            client.rename(old, new)

    def delete(self, name: str) -> None:
        with self.session() as client:
            client.delete(name)
