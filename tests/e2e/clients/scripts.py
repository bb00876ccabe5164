"""Clients that are libraries of Perl and Node, and the scripts beside this file."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.clients import PASSWORD, USER, Client
from tests.support.modules import need_node_module, need_perl_module

HERE = Path(__file__).parent


class Script(Client):
    """A script that takes a task and its arguments; a listing has a name on each line."""

    def task(self, *arguments: str) -> str:
        way = (self.way.host, str(self.port), self.way.tls or "none", str(self.site.authority))
        return self.script(*way, USER, PASSWORD, self.directory, *arguments)

    def script(self, *arguments: str) -> str:
        raise NotImplementedError

    def names(self, directory: str) -> list[str]:
        return self.task("names", directory).splitlines()

    def upload(self, local: str, remote: str) -> None:
        self.task("upload", local, remote)

    def download(self, remote: str, local: str) -> None:
        self.task("download", remote, local)

    def resume_upload(self, local: str, remote: str) -> None:
        self.task("resume_upload", local, remote)

    def resume_download(self, remote: str, local: str) -> None:
        self.task("resume_download", remote, local)

    def mirror_up(self, local: str, remote: str) -> None:
        self.task("mirror_up", local, remote)

    def mirror_down(self, remote: str, local: str) -> None:
        self.task("mirror_down", remote, local)

    def rename(self, old: str, new: str) -> None:
        self.task("rename", old, new)

    def delete(self, name: str) -> None:
        self.task("delete", name)


class NetFTP(Script):
    name = "Net::FTP"

    def script(self, *arguments: str) -> str:
        need_perl_module("Net::FTP")
        if self.way.tls:
            need_perl_module("IO::Socket::SSL")
        mode = "active" if self.way.active else "passive"
        return self.run("perl", HERE / "net_ftp.pl", mode, *arguments)


class BasicFtp(Script):
    name = "basic-ftp"

    def script(self, *arguments: str) -> str:
        module = need_node_module("basic-ftp")
        return self.run("node", HERE / "basic_ftp.js", module, *arguments)
