"""The shipped deploy/haproxy/haproxy.cfg, with two clusters behind it and with clients that know
HAProxy's address only: their data connections have to come through it."""

from __future__ import annotations

import contextlib
import ftplib
import ipaddress
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.support.cluster import DEADLINE, Cluster, until
from tests.support.dialogue import rest_of
from tests.support.forking import CHECKOUT
from tests.support.ports import HOST, bind_range, bound
from tests.support.programs import drive, need
from tests.support.tree import digest, make_file

SHIPPED = CHECKOUT / "deploy" / "haproxy" / "haproxy.cfg"
PORTS = 20
SERVERS = {"one": "127.0.0.11", "two": "127.0.0.12"}
CLIENTS = ipaddress.ip_network("127.0.1.0/24")
OTHER_HOST = "127.0.0.9"
AUTHORITY = trustme.CA()

Transfer = Callable[["Site", str, Path, bool, bool], None]
"""Puts the file "up" to the site, from an address, and gets it as "down"; with TLS, with EPSV."""


@dataclass
class Site:
    """Two clusters behind one HAProxy, which listens on ``port`` of ``HOST``."""

    port: int
    authority: Path
    directories: dict[str, Path]  # what each of them serves
    clients: dict[str, str]  # the address of a client that HAProxy sends to each of them


def replaced(text: str, changes: dict[str, str]) -> str:
    """``text`` with its addresses and ports changed, each of which has to be there."""
    for old, new in changes.items():
        text, count = re.subn(rf"{re.escape(old)}(?!\d)", new, text)
        assert count, old
    return text


def make_cluster(name: str, first: int, directory: Path, certificate: Path) -> Cluster:
    """A cluster with the configuration that the file's comment shows."""
    lines = re.findall(r"^#   (.*)$", SHIPPED.read_text(), re.MULTILINE)
    changes = {
        "10.0.0.11": SERVERS[name],
        "10.0.0.1": HOST,
        "203.0.113.1": HOST,
        "port = 2121": "port = 0",
        "50000-50499": f"{first}-{first + PORTS - 1}",
    }
    configuration = directory.parent / f"{name}.toml"
    configuration.write_text(replaced("\n".join(lines), changes))
    account = ("--root", str(directory), "--user", "user:12345", "--writable")
    tls = ("--tls-cert", str(certificate))
    command = ["run", "-c", str(configuration), "--workers", "2"]
    return Cluster(*account, *tls, hosts=None, program=("ftpcluster", *command))


def make_haproxy(stack: contextlib.ExitStack, port: int, text: str, directory: Path) -> None:
    """HAProxy, which serves when this returns."""
    (directory / "haproxy.cfg").write_text(text)
    log = directory / "haproxy.log"
    process = subprocess.Popen(
        [need("haproxy"), "-db", "-f", str(directory / "haproxy.cfg")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stack.enter_context(log.open("wb")),
    )
    stack.callback(process.wait, DEADLINE)
    stack.callback(process.terminate)

    def serves() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((HOST, port), DEADLINE).close()
            return True
        return False

    until(serves)


def find_clients(port: int) -> dict[str, str]:
    """An address for each server: it is by clients' addresses that HAProxy chooses."""
    found: dict[str, str] = {}
    for address in map(str, CLIENTS.hosts()):
        with ftplib.FTP(timeout=DEADLINE, source_address=(address, 0)) as client:
            client.connect(HOST, port)
            client.login("user", "12345")
            found.setdefault(client.nlst()[0], address)
        if len(found) == len(SERVERS):
            return found
    raise AssertionError(f"HAProxy has sent all clients to {list(found)}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    need("haproxy")
    base = tmp_path_factory.mktemp("haproxy")
    certificate, authority = base / "server.pem", base / "authority.pem"
    AUTHORITY.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(certificate))
    AUTHORITY.cert_pem.write_to_path(str(authority))
    with contextlib.ExitStack() as stack:
        directories, changes = {}, {"maxconn 20000": "maxconn 200"}
        for name, span in (("one", "50000-50499"), ("two", "50500-50999")):
            directories[name] = base / name
            directories[name].mkdir()
            (directories[name] / name).touch()
            first = bind_range(stack, PORTS)
            cluster = stack.enter_context(make_cluster(name, first, directories[name], certificate))
            number = int(SERVERS[name].rpartition(".")[2])
            changes |= {
                f"bind :{span}": f"bind {HOST}:{first}-{first + PORTS - 1}",
                f"10.0.0.{number}:2121": f"{SERVERS[name]}:{cluster.port}",
                f"10.0.0.{number}": SERVERS[name],
            }
        control = stack.enter_context(bound(0))
        port = control.getsockname()[1]
        changes["bind :21"] = f"bind {HOST}:{port}"
        make_haproxy(stack, port, replaced(SHIPPED.read_text(), changes), base)
        yield Site(port, authority, directories, find_clients(port))


def with_curl(site: Site, address: str, home: Path, tls: bool, extended: bool) -> None:
    url = f"ftp://{HOST}:{site.port}/{home.name}"
    options = ["--silent", "--show-error", "--interface", address, "--user", "user:12345"]
    if tls:
        options += ["--ssl-reqd", "--cacert", str(site.authority)]
    if not extended:
        options.append("--disable-epsv")
    drive("curl", *options, "--upload-file", "up", url, home=home)
    drive("curl", *options, "--output", "down", url, home=home)


def with_ftplib(site: Site, address: str, home: Path, tls: bool, extended: bool) -> None:
    context = ssl.create_default_context(cafile=site.authority)
    kind = ftplib.FTP_TLS(context=context) if tls else ftplib.FTP()
    with kind as client:
        client.connect(HOST, site.port, DEADLINE, (address, 0))
        client.login("user", "12345")
        if isinstance(client, ftplib.FTP_TLS):
            client.prot_p()
        if extended:
            client.af = socket.AF_INET6  # by which it chooses
        with (home / "up").open("rb") as file:
            client.storbinary(f"STOR {home.name}", file)
        with (home / "down").open("wb") as file:
            client.retrbinary(f"RETR {home.name}", file.write)


def with_lftp(site: Site, address: str, home: Path, tls: bool, extended: bool) -> None:
    script = [
        "set cmd:fail-exit yes",
        "set net:max-retries 2",
        f"set net:socket-bind-ipv4 {address}",
        f"set ftp:prefer-epsv {'yes' if extended else 'no'}",
        f"set ssl:ca-file {site.authority}",
        f"set ftp:ssl-allow {'yes' if tls else 'no'}",
        f"set ftp:ssl-force {'yes' if tls else 'no'}",
        "set ftp:ssl-protect-data yes",
        f"open -u user,12345 ftp://{HOST}:{site.port}",
        f"put up -o {home.name}",
        f"get {home.name} -o down",
    ]
    drive("lftp", "--norc", home=home, stdin="\n".join(script) + "\n")


@pytest.mark.parametrize("transfer", [with_curl, with_ftplib, with_lftp])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("extended", [False, True], ids=["PASV", "EPSV"])
@pytest.mark.parametrize("server", SERVERS)
def test_files_come_through_whole(
    site: Site, tmp_path: Path, transfer: Transfer, tls: bool, extended: bool, server: str
) -> None:
    make_file(tmp_path / "up", 5_000_001)
    transfer(site, site.clients[server], tmp_path, tls, extended)
    stored = site.directories[server] / tmp_path.name
    assert digest(stored) == digest(tmp_path / "up") == digest(tmp_path / "down")
    stored.unlink()


def test_a_client_s_data_connection_is_nobody_else_s(site: Site) -> None:
    """Both come through HAProxy, which says who is who."""
    (site.directories["one"] / "file").write_bytes(b"content")
    address = site.clients["one"]
    with ftplib.FTP(timeout=DEADLINE, source_address=(address, 0)) as client:
        client.connect(HOST, site.port)
        client.login("user", "12345")
        where = client.makepasv()
        assert where[0] == HOST
        client.sendcmd("RETR file")
        with socket.create_connection(where, DEADLINE, (OTHER_HOST, 0)) as other:
            assert rest_of(other) == b""
        with socket.create_connection(where, DEADLINE, (address, 0)) as data:
            assert rest_of(data) == b"content"
        client.voidresp()
