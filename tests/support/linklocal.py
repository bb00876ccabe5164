"""Data connections over link-local addresses, which hold on one interface only.

unshare --map-root-user --net python -m tests.support.linklocal LOOP WAY

The loopback interface gets such an address. Prints what was received.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from ftpcluster import Server, User
from tests.conftest import InProcess
from tests.support.apart import add_address, bring_up
from tests.support.dialogue import DEADLINE, Dialogue, rest_of

ADDRESS = "fe80::21"
ELSEWHERE = "fe80::22"
_HOST = f"{ADDRESS}%lo"
_CONTENT = b"over a link-local address"


def main() -> None:
    _, loop, way = sys.argv
    bring_up("lo")
    for address in (ADDRESS, ELSEWHERE):
        add_address("lo", address)
    with TemporaryDirectory() as directory:
        (Path(directory) / "file").write_bytes(_CONTENT)
        users = [User("user", "12345", base_path=directory)]
        server = InProcess(loop, lambda: Server(users), "::")
        try:
            with Dialogue(server.port, _HOST) as client:
                client.logs_in()
                print(WAYS[way](client).decode())
        finally:
            server.stop()


def _passive(client: Dialogue) -> bytes:
    with socket.create_connection((_HOST, client.epsv()), DEADLINE) as data:
        client.says("RETR file", 150)
        received = rest_of(data)
    client.expects(226)
    return received


def _intruded(client: Dialogue) -> bytes:
    """Another host on the same link connects first."""
    port = client.epsv()
    (*_, elsewhere), *_ = socket.getaddrinfo(f"{ELSEWHERE}%lo", 0)
    with socket.socket(socket.AF_INET6) as intruder:
        intruder.settimeout(DEADLINE)
        intruder.bind(elsewhere)
        (*_, there), *_ = socket.getaddrinfo(_HOST, port)
        intruder.connect(there)
        with socket.create_connection((_HOST, port), DEADLINE, _own()) as data:
            client.says("RETR file", 150)
            received = rest_of(data)
        assert rest_of(intruder) == b""
    client.expects(226)
    return received


def _active(client: Dialogue) -> bytes:
    return _awaited(client, ADDRESS)


def _active_with_an_interface(client: Dialogue) -> bytes:
    """A client may name the address with its own interface."""
    return _awaited(client, f"{ADDRESS}%wlan0")


def _awaited(client: Dialogue, named: str) -> bytes:
    with socket.create_server(_own(), family=socket.AF_INET6) as listener:
        listener.settimeout(DEADLINE)
        client.says(f"EPRT |2|{ELSEWHERE}|{listener.getsockname()[1]}|", 501)
        client.says(f"EPRT |2|{named}|{listener.getsockname()[1]}|", 200)
        client.says("RETR file", 150)
        sock, peer = listener.accept()
        with sock:
            assert peer[0] == ADDRESS
            received = rest_of(sock)
    client.expects(226)
    return received


def _own() -> tuple[str, int]:
    """The client's address, with port 0, as ``bind`` takes it."""
    (*_, address), *_ = socket.getaddrinfo(_HOST, 0, type=socket.SOCK_STREAM)
    return address


WAYS: dict[str, Callable[[Dialogue], bytes]] = {
    "passive": _passive,
    "passive, with somebody else there": _intruded,
    "active": _active,
    "active, with an interface": _active_with_an_interface,
}

if __name__ == "__main__":
    main()
