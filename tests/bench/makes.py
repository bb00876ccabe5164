"""The servers: how each is configured, started and asked for its version.

All let one user read a directory and write into ``up`` beneath it, log as little as they can be
told, but ours, which runs as ``ftpcluster run`` does, and limit nothing.
"""

from __future__ import annotations

import grp
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
LOGIN, PASSWORD = "bench", "bench-12345"
_HASH = "$1$bench$qSkIQtvO9aNUlzOdft3yO0"
"""Of the password: MD5, which hides nothing and costs little, as plain text does with the others.

(``openssl passwd -1 -salt bench``.)"""


class Unusable(Exception):
    """Why a server cannot be measured."""


@dataclass(frozen=True)
class Place:
    """What one start of a server is told. ``directory`` is its own, ``certificate`` has its key.

    ``tls``: whether clients are going to ask for AUTH TLS.
    """

    directory: Path
    root: Path
    port: int
    certificate: Path
    tls: bool


@dataclass(frozen=True)
class Launch:
    """How to start it, and whom it lets in then."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    login: str = LOGIN
    password: str = PASSWORD


@dataclass(frozen=True)
class Make:
    """A column of the table."""

    name: str
    prepare: Callable[[Place], Launch]
    version: str | None = None
    is_ours: bool = False
    is_found: bool = False  # nobody has asked for it by name


# ---------------------------------------------------------------------- ours, and whatever is named


def ours(name: str, workers: int | None, flags: Sequence[str]) -> Make:
    """``ftpcluster run`` of this checkout."""

    def prepare(place: Place) -> Launch:
        command = [sys.executable, "-m", "ftpcluster", "run", "--host", "127.0.0.1"]
        command += ["--port", str(place.port), "--root", str(place.root)]
        command += ["--user", LOGIN, "--writable"]
        if workers is not None:
            command += ["--workers", str(workers)]
        if place.tls:
            command += ["--tls-cert", str(place.certificate)]
        environment = {
            f"FTPCLUSTER_USER_{LOGIN.upper()}": PASSWORD,
            "PYTHONPATH": os.pathsep.join(
                filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH")))
            ),
        }
        return Launch([*command, *flags], environment)

    return Make(name, prepare, _distribution("ftpcluster"), is_ours=True)


def given(text: str) -> Make:
    """NAME='COMMAND with {port} {root} {user} {password} {certificate}'. Raises Unusable."""
    name, equals, command = text.partition("=")
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise Unusable(f"--server {name}: {error}") from None
    if not (name and equals and parts):
        raise Unusable(f"--server {text}: has to be NAME='COMMAND with {{port}} and {{root}}'")

    def prepare(place: Place) -> Launch:
        values = {
            "port": place.port,
            "root": place.root,
            "user": LOGIN,
            "password": PASSWORD,
            "certificate": place.certificate,
        }
        try:
            return Launch([part.format(**values) for part in parts])
        except (LookupError, ValueError, AttributeError) as error:
            known = " ".join(f"{{{each}}}" for each in values)
            raise Unusable(f"--server {name}: {error} in its command; there are {known}") from None

    return Make(name, prepare)


# ---------------------------------------------------------------------- peers

_VSFTPD = """\
listen=YES
listen_ipv6=NO
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
local_enable=NO
anon_root={root}
anon_world_readable_only=NO
anon_umask=022
write_enable=YES
anon_upload_enable=YES
anon_other_write_enable=YES
allow_writeable_chroot=YES
ftp_username={user}
nopriv_user={user}
run_as_launching_user={launching}
secure_chroot_dir={directory}
xferlog_enable=NO
connect_from_port_20=NO
max_clients=0
max_per_ip=0
"""
_VSFTPD_TLS = """\
ssl_enable=YES
allow_anon_ssl=YES
rsa_cert_file={certificate}
rsa_private_key_file={certificate}
require_ssl_reuse=NO
ssl_ciphers=HIGH
"""
_PROFTPD = """\
{modules}
ServerName bench
ServerType standalone
DefaultServer on
DefaultAddress 127.0.0.1
Port {port}
UseIPv6 off
User {user}
Group {group}
{chroot}
RequireValidShell off
AuthPAM off
AuthOrder mod_auth_file.c
AuthUserFile {directory}/passwd
Umask 022 022
MaxInstances none
UseReverseDNS off
AllowOverwrite on
TimesGMT on
WtmpLog off
TransferLog none
SystemLog none
PidFile {directory}/pid
ScoreboardFile none
DelayTable none
<IfModule mod_delay.c>
  DelayEngine off
</IfModule>
<IfModule mod_ident.c>
  IdentLookups off
</IfModule>
<IfModule mod_ctrls.c>
  ControlsEngine off
</IfModule>
"""
_PROFTPD_TLS = """\
<IfModule !mod_tls.c>
  LoadModule mod_tls.c
</IfModule>
TLSEngine on
TLSLog none
TLSProtocol TLSv1.2 TLSv1.3
TLSECCertificateFile {certificate}
TLSECCertificateKeyFile {certificate}
TLSVerifyClient off
TLSRequired off
TLSRenegotiate none
TLSOptions NoSessionReuseRequired
"""
_PURE_FTPD = (
    *("-4", "-E", "-H", "-A", "-f", "none", "-l", "puredb:{directory}/users.pdb"),
    *("-S", "127.0.0.1,{port}", "-g", "{directory}/pid", "-u", "1", "-U", "133:022"),
    *("-c", "100000", "-C", "100000", "-L", "100000:10", "-I", "15", "-z"),
)
_NOBODY = 65534


def _vsftpd(place: Place) -> Launch:
    """With anonymous logins: others go through PAM, whose services are the machine's to set up."""
    text = _VSFTPD + (_VSFTPD_TLS if place.tls else "")
    servant = _servant().pw_name
    launching = "NO" if os.geteuid() == 0 else "YES"
    file = _write(place, "vsftpd.conf", text, user=servant, launching=launching)
    return Launch([_found("vsftpd"), str(file)], login="anonymous")


def _proftpd(place: Place) -> Launch:
    program = _found("proftpd")
    modules = Path(program).resolve().parents[1] / "lib" / "proftpd"
    is_root = os.geteuid() == 0
    user = pwd.getpwnam("nobody") if is_root else _servant()
    record = f"{LOGIN}:{_HASH}:{user.pw_uid}:{user.pw_gid}::{place.root}:/bin/sh\n"
    _write(place, "passwd", record)
    file = _write(
        place,
        "proftpd.conf",
        _PROFTPD + (_PROFTPD_TLS if place.tls else ""),
        modules=f"ModulePath {modules}" if modules.is_dir() else "",
        user=user.pw_name,
        group=grp.getgrgid(user.pw_gid).gr_name,
        chroot="DefaultRoot ~" if is_root else "",
    )
    return Launch([program, "-n", "-q", "-c", str(file)])


def _pure_ftpd(place: Place) -> Launch:
    if os.geteuid() != 0:
        raise Unusable("lets nobody in without being root")
    program, makes_users = _found("pure-ftpd"), _found("pure-pw")
    record = f"{LOGIN}:{_HASH}:{_NOBODY}:{_NOBODY}::{place.root}/./::::::::::::\n"
    file = _write(place, "passwd", record)
    subprocess.run(
        [makes_users, "mkdb", str(place.directory / "users.pdb"), "-f", str(file)], check=True
    )
    command = [part.format(directory=place.directory, port=place.port) for part in _PURE_FTPD]
    tls = ["-Y", "1", "-2", str(place.certificate)] if place.tls else ["-Y", "0"]
    return Launch([program, *command, *tls])


def _script(name: str) -> Callable[[Place], Launch]:
    """A server in Python, which a script of this directory starts."""

    def prepare(place: Place) -> Launch:
        if importlib.util.find_spec(name) is None:
            raise Unusable("is not installed")
        script = str(Path(__file__).with_name(f"{name}_server.py"))
        certificate = str(place.certificate) if place.tls else ""
        told = [str(place.port), str(place.root), LOGIN, PASSWORD, certificate]
        return Launch([sys.executable, script, *told])

    return prepare


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise Unusable(f"{program} is not on PATH")
    return path


def _servant() -> pwd.struct_passwd:
    """Who serves: this user, but for root somebody who is on every machine and has a home."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    for name in ("ftp", "daemon", "bin"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if Path(user.pw_dir).is_dir():
            return user
    raise Unusable("needs a user ftp, daemon or bin with a home")


def _write(place: Place, name: str, text: str, **values: str) -> Path:
    file = place.directory / name
    file.touch(mode=0o600)
    file.write_text(
        text.format(
            directory=place.directory,
            root=place.root,
            port=place.port,
            certificate=place.certificate,
            **values,
        )
        if values
        else text
    )
    return file


def _says(command: Sequence[str]) -> str:
    """What a program says of itself; vsftpd does on its stdin."""
    read, write = os.pipe()
    with os.fdopen(read, errors="replace") as answer:
        try:
            subprocess.run(command, stdin=write, stdout=write, stderr=write, timeout=10)
        finally:
            os.close(write)
        return answer.read()


def _version(program: str, flag: str) -> str | None:
    """The version that is installed; None where nothing is."""
    path = shutil.which(program)
    match = path and re.search(r"\d+\.\d+[\w.]*", _says([path, flag]))
    return match[0] if match else None


def _distribution(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


_Row = tuple[Callable[[Place], Launch], Callable[[], str | None]]
_PEERS: dict[str, _Row] = {
    "vsftpd": (_vsftpd, lambda: _version("vsftpd", "-v")),
    "proftpd": (_proftpd, lambda: _version("proftpd", "-v")),
    "pure-ftpd": (_pure_ftpd, lambda: _version("pure-ftpd", "--help")),
    "pyftpdlib": (_script("pyftpdlib"), lambda: _distribution("pyftpdlib")),
    "aioftp": (_script("aioftp"), lambda: _distribution("aioftp")),
}
PEERS = tuple(_PEERS)


def peer(name: str) -> Make:
    """The server of that name, as this machine has it."""
    prepare, version = _PEERS[name]
    return Make(name, prepare, version(), is_found=True)
