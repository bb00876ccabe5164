"""Clients that are programs: lftp, curl, ncftp, tnftp, wget, rclone."""

from __future__ import annotations

import re
from typing import ClassVar
from urllib.parse import quote

from tests.e2e.clients import PASSWORD, USER, Client
from tests.support.programs import need


def quoted(text: str) -> str:
    """As lftp takes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def escaped(text: str) -> str:
    """As ncftp and tnftp take it, which know no escapes within quotes."""
    return re.sub(r"([^\w./-])", r"\\\1", text)


class Lftp(Client):
    name = "lftp"

    def commands(self, *commands: str) -> str:
        settings = [
            "debug 9",
            "set cmd:fail-exit yes",
            "set net:max-retries 2",
            "set mirror:parallel-transfer-count 4",
            f"set ftp:passive-mode {'no' if self.way.active else 'yes'}",
            f"set ssl:ca-file {quoted(str(self.site.authority))}",
            f"set ftp:ssl-allow {'yes' if self.way.tls else 'no'}",
            f"set ftp:ssl-force {'yes' if self.way.tls else 'no'}",
            "set ftp:ssl-protect-data yes",
        ]
        scheme = "ftps" if self.way.tls == "implicit" else "ftp"
        opening = f"open -u {USER},{PASSWORD} {scheme}://{self.where}:{self.port}"
        script = "\n".join((*settings, opening, f"cd {self.directory}", *commands))
        return self.run("lftp", "--norc", stdin=script + "\n")

    def names(self, directory: str) -> list[str]:
        lines = self.commands(f"cd {quoted(directory)}", "cls -a -1").splitlines()
        return [line.removeprefix("./") for line in lines]  # "./~tilde"

    def upload(self, local: str, remote: str) -> None:
        self.commands(f"put {quoted('./' + local)} -o {quoted('./' + remote)}")

    def download(self, remote: str, local: str) -> None:
        self.commands(f"get {quoted('./' + remote)} -o {quoted('./' + local)}")

    def resume_upload(self, local: str, remote: str) -> None:
        self.commands(f"put -c {quoted(local)} -o {quoted(remote)}")

    def resume_download(self, remote: str, local: str) -> None:
        self.commands(f"get -c {quoted(remote)} -o {quoted(local)}")

    def mirror_up(self, local: str, remote: str) -> None:
        self.commands(f"mirror -R {quoted(local)} {quoted(remote)}")

    def mirror_down(self, remote: str, local: str) -> None:
        self.commands(f"mirror {quoted(remote)} {quoted(local)}")

    def rename(self, old: str, new: str) -> None:
        self.commands(f"mv {quoted('./' + old)} {quoted('./' + new)}")

    def delete(self, name: str) -> None:
        self.commands(f"rm {quoted('./' + name)}")


class Curl(Client):
    name = "curl"

    def curl(self, *arguments: str) -> str:
        common = ["--silent", "--show-error", "--verbose", "--globoff"]
        common += ["--user", f"{USER}:{PASSWORD}", "--cacert", str(self.site.authority)]
        if self.way.tls == "explicit":
            common.append("--ssl-reqd")
        if self.way.active:
            common += ["--ftp-port", "-"]
        return self.run("curl", *common, *arguments)

    def url(self, name: str = "") -> str:
        scheme = "ftps" if self.way.tls == "implicit" else "ftp"
        return f"{scheme}://{self.where}:{self.port}/{self.directory}/{quote(name)}"

    def names(self, directory: str) -> list[str]:
        lines = self.curl("--request", "MLSD", self.url(directory) + "/").splitlines()
        return [line.partition(" ")[2] for line in lines]

    def upload(self, local: str, remote: str) -> None:
        self.curl("--upload-file", f"./{local}", self.url(remote))

    def download(self, remote: str, local: str) -> None:
        self.curl("--output", f"./{local}", self.url(remote))

    def resume_upload(self, local: str, remote: str) -> None:
        self.curl("--continue-at", "-", "--upload-file", local, self.url(remote))

    def resume_download(self, remote: str, local: str) -> None:
        self.curl("--continue-at", "-", "--output", local, self.url(remote))

    def rename(self, old: str, new: str) -> None:
        """Quoted commands come before the directory is changed to."""
        commands = (f"RNFR {self.directory}/{old}", f"RNTO {self.directory}/{new}")
        self.curl("--head", "-Q", commands[0], "-Q", commands[1], self.url())

    def delete(self, name: str) -> None:
        self.curl("--head", "-Q", f"DELE {self.directory}/{name}", self.url())


class Ncftp(Client):
    name = "ncftp"

    def ncftp(self, program: str, *arguments: str) -> str:
        log = self.home.parent / "ncftp.log"
        log.unlink(missing_ok=True)
        common = ["-u", USER, "-p", PASSWORD, "-P", str(self.port), "-d", str(log)]
        common.append("-E" if self.way.active else "-F")
        output = self.run(program, *common, *arguments)
        self.trace += log.read_text(errors="replace")
        return output

    def names(self, directory: str) -> list[str]:
        url = f"ftp://{self.way.host}/{self.directory}/{quote(directory)}/"
        return self.ncftp("ncftpls", "-1", "-a", url).splitlines()

    def upload(self, local: str, remote: str) -> None:
        self.ncftp(
            "ncftpput", "-V", "-C", self.way.host, f"./{local}", f"/{self.directory}/{remote}"
        )

    def download(self, remote: str, local: str) -> None:
        self.ncftp(
            "ncftpget", "-V", "-C", self.way.host, f"/{self.directory}/{remote}", f"./{local}"
        )

    def resume_upload(self, local: str, remote: str) -> None:
        """-s: with sendfile it sends the whole file again, behind what is there."""
        assert local == remote
        self.ncftp("ncftpput", "-V", "-s", "-z", self.way.host, f"/{self.directory}", local)

    def resume_download(self, remote: str, local: str) -> None:
        assert local == remote
        self.ncftp("ncftpget", "-V", "-z", self.way.host, ".", f"/{self.directory}/{remote}")

    def mirror_up(self, local: str, remote: str) -> None:
        (self.home / local).rename(self.home / remote)
        self.ncftp("ncftpput", "-V", "-R", self.way.host, f"/{self.directory}", remote)
        (self.home / remote).rename(self.home / local)

    def mirror_down(self, remote: str, local: str) -> None:
        self.ncftp("ncftpget", "-V", "-R", "-T", self.way.host, ".", f"/{self.directory}/{remote}")
        (self.home / remote).rename(self.home / local)

    def shell(self, command: str) -> None:
        account = ("-u", USER, "-p", PASSWORD, "-P", str(self.port))
        self.run("ncftp", *account, self.way.host, stdin=f"cd /{self.directory}\n{command}\n")

    def rename(self, old: str, new: str) -> None:
        self.shell(f"rename {escaped(old)} {escaped(new)}")

    def delete(self, name: str) -> None:
        self.shell(f"rm -f {escaped(name)}")


class Tnftp(Client):
    name = "tnftp"
    mirrors_directories = False

    def commands(self, *commands: str) -> str:
        opening = (
            f"open {self.way.host} {self.port}",
            f"user {USER} {PASSWORD}",
            f"cd {self.directory}",
        )
        # no login by itself, no questions, no patterns, every dialogue
        options = ["-n", "-i", "-g", "-d", "-v", "-A" if self.way.active else "-p"]
        return self.run("tnftp", *options, stdin="\n".join((*opening, *commands, "bye")) + "\n")

    def names(self, directory: str) -> list[str]:
        self.commands(f"cd {escaped(directory)}", "nlist -a listing")
        return (self.home / "listing").read_text().splitlines()

    def upload(self, local: str, remote: str) -> None:
        self.commands(f"put {escaped('./' + local)} {escaped(remote)}")

    def download(self, remote: str, local: str) -> None:
        self.commands(f"get {escaped(remote)} {escaped('./' + local)}")

    def resume_upload(self, local: str, remote: str) -> None:
        there = re.search(
            r"^213 (\d+)", self.commands("quote TYPE I", f"quote SIZE {remote}"), re.M
        )
        assert there is not None, self.trace
        self.commands(f"restart {there[1]}", f"put {local} {remote}")

    def resume_download(self, remote: str, local: str) -> None:
        self.commands(f"reget {remote} {local}")

    def mirror_up(self, local: str, remote: str) -> None:
        """A directory with files in it; deeper it does not go."""
        commands = (f"mkdir {remote}", f"cd {remote}", f"lcd {local}", "glob", "mput * .??*")
        self.commands(*commands)

    def mirror_down(self, remote: str, local: str) -> None:
        (self.home / local).mkdir()
        self.commands(f"cd {remote}", f"lcd {local}", "glob", "mget * .??*")

    def rename(self, old: str, new: str) -> None:
        self.commands(f"rename {escaped(old)} {escaped(new)}")

    def delete(self, name: str) -> None:
        self.commands(f"delete {escaped(name)}")


class Wget(Client):
    name = "wget"

    def wget(self, name: str, *arguments: str) -> None:
        common = ["--debug", "--tries=2", f"--ca-certificate={self.site.authority}"]
        common += [f"--user={USER}", f"--password={PASSWORD}", *arguments]
        if self.way.active:
            common.append("--no-passive-ftp")
        if self.way.tls == "implicit":
            common.append("--ftps-implicit")
        scheme = "ftps" if self.way.tls else "ftp"
        url = f"{scheme}://{self.where}:{self.port}/{self.directory}/{quote(name)}"
        self.run("wget", *common, url)

    def names(self, directory: str) -> list[str]:
        """Its listings are for itself: what it lists is what it then fetches."""
        self.mirror_down(directory, "listed")
        return [path.name for path in (self.home / "listed").iterdir()]

    def download(self, remote: str, local: str) -> None:
        self.wget(remote, "-O", f"./{local}")

    def resume_download(self, remote: str, local: str) -> None:
        self.wget(remote, "-c", "-O", f"./{local}")

    def mirror_down(self, remote: str, local: str) -> None:
        self.wget(f"{remote}/", "-r", "-nH", "--cut-dirs=2", "-P", local)


class Rclone(Client):
    name = "rclone"
    _password: ClassVar[str] = ""

    def rclone(self, *arguments: str) -> str:
        if not self._password:
            type(self)._password = self.run("rclone", "obscure", PASSWORD).strip()
        account = [f"--ftp-host={self.way.host}", f"--ftp-port={self.port}"]
        account += [f"--ftp-user={USER}", f"--ftp-pass={self._password}"]
        if self.way.tls:
            account.append("--ftp-explicit-tls" if self.way.tls == "explicit" else "--ftp-tls")
        # names as they are, not as some servers want them; and the dialogue
        account += ["--ftp-encoding=Slash,Dot", "-vv", "--dump=bodies"]
        trust = f"SSL_CERT_FILE={self.site.authority}"
        return self.run("env", trust, need("rclone"), *arguments, *account)

    def at(self, name: str) -> str:
        return f":ftp:{self.directory}/{name}"

    def names(self, directory: str) -> list[str]:
        return self.rclone("lsf", self.at(directory)).splitlines()

    def upload(self, local: str, remote: str) -> None:
        self.rclone("copyto", f"./{local}", self.at(remote))

    def download(self, remote: str, local: str) -> None:
        self.rclone("copyto", self.at(remote), f"./{local}")

    def mirror_up(self, local: str, remote: str) -> None:
        self.rclone("copy", local, self.at(remote))
        self.rclone("check", "--download", local, self.at(remote))

    def mirror_down(self, remote: str, local: str) -> None:
        self.rclone("copy", self.at(remote), local)
        self.rclone("check", "--download", self.at(remote), local)

    def rename(self, old: str, new: str) -> None:
        self.rclone("moveto", self.at(old), self.at(new))

    def delete(self, name: str) -> None:
        self.rclone("deletefile", self.at(name))
