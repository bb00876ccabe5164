"""Listening sockets of the control port."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from pathlib import Path

import pytest

from ftpcluster.net import listeners
from ftpcluster.net.listeners import CannotListen, listen, listen_on_all
from ftpcluster.protocol.address import plain


def close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def peer_seen(sockets: list[socket.socket], host: str) -> str:
    """Connect to ``host``: as whom one of the listeners sees us."""
    port = sockets[0].getsockname()[1]
    with socket.create_connection((host, port), 20):
        for sock in sockets:
            sock.settimeout(0)
            try:
                accepted, address = sock.accept()
            except BlockingIOError:
                continue
            accepted.close()
            return str(address[0])
    raise AssertionError("nobody accepted")


@pytest.fixture
def ipv6() -> None:
    """For tests that need it."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.usefixtures("ipv6")
def test_without_a_host_both_families_are_served_on_one_port() -> None:
    sockets = listen_on_all((), 0)
    try:
        assert {sock.family for sock in sockets} == {socket.AF_INET, socket.AF_INET6}
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        assert peer_seen(sockets, "127.0.0.1") == "127.0.0.1"
        assert peer_seen(sockets, "::1") == "::1"
    finally:
        close_all(sockets)


@pytest.mark.usefixtures("ipv6")
def test_all_hosts_get_the_same_port() -> None:
    sockets = listen_on_all(("127.0.0.1", "127.0.0.2", "::1"), 0)
    try:
        assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1", "127.0.0.2", "::1"]
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
    finally:
        close_all(sockets)


@pytest.mark.usefixtures("ipv6")
def test_a_lone_double_colon_serves_both_families() -> None:
    sockets = listen_on_all(("::",), 0)
    try:
        assert len(sockets) == 1
        assert peer_seen(sockets, "127.0.0.1") == "::ffff:127.0.0.1"
        assert peer_seen(sockets, "::1") == "::1"
    finally:
        close_all(sockets)


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("hosts", [("0.0.0.0", "::"), ("::", "0.0.0.0")])
def test_beside_all_ipv4_addresses_double_colon_serves_ipv6_only(hosts: tuple[str, ...]) -> None:
    sockets = listen_on_all(hosts, 0)
    try:
        assert peer_seen(sockets, "127.0.0.1") == "127.0.0.1"
        assert peer_seen(sockets, "::1") == "::1"
    finally:
        close_all(sockets)


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("hosts", [("127.0.0.1", "::"), ("::", "127.0.0.1")])
def test_double_colon_does_not_stand_in_the_way_of_an_ipv4_host(hosts: tuple[str, ...]) -> None:
    sockets = listen_on_all(hosts, 0)
    try:
        assert plain(peer_seen(sockets, "127.0.0.1")) == "127.0.0.1"
        assert peer_seen(sockets, "::1") == "::1"
    finally:
        close_all(sockets)


def test_without_ipv6_in_the_kernel_ipv4_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, kind)

    real = socket.socket
    monkeypatch.setattr(listeners.socket, "socket", without_ipv6)
    sockets = listen_on_all((), 0)
    close_all(sockets)
    assert [sock.family for sock in sockets] == [socket.AF_INET]
    with pytest.raises(CannotListen, match="::1"):
        listen_on_all(("::1",), 0)


def test_a_port_that_is_taken_is_said_to_be() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotListen) as caught:
            listen_on_all(("127.0.0.1",), port)
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1 port {port}: the port is taken; "
        "end what uses it, or choose another one"
    )


def test_an_address_of_one_interface_is_listened_on_there() -> None:
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, _, _, _, flags, name = line.split()
        if digits.startswith("fe80") and not int(flags, 16) & 0x40:  # IFA_F_TENTATIVE
            host = str(ipaddress.IPv6Address(bytes.fromhex(digits)))
            break
    else:
        pytest.skip("no interface has a link-local address")
    sockets = listen_on_all((f"{host}%{name}",), 0)
    close_all(sockets)
    assert len(sockets) == 1


def test_an_address_of_one_interface_is_said_to_need_its_name() -> None:
    with pytest.raises(CannotListen, match=r"fe80::1: .* say which, as in fe80::1%eth0;"):
        listen_on_all(("fe80::1",), 0)


def test_a_failure_on_one_host_gives_the_others_back() -> None:
    with socket.create_server(("127.0.0.2", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotListen, match=r"127\.0\.0\.2"):
            listen_on_all(("127.0.0.1", "127.0.0.2"), port)
        socket.create_server(("127.0.0.1", port)).close()


def test_an_address_of_another_machine_is_said_to_be() -> None:
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1: .*no such address"):
        listen_on_all(("192.0.2.1",), 0)


def test_a_port_that_needs_root_is_said_to() -> None:
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        first_free = int(file.read())
    if os.geteuid() == 0 or first_free < 2:
        pytest.skip("whoever runs the tests may bind every port")
    with pytest.raises(CannotListen, match=r"port 1: not permitted.*--port"):
        listen("127.0.0.1", 1)


@pytest.mark.parametrize(
    ("option", "level"),
    [
        (socket.TCP_NODELAY, socket.IPPROTO_TCP),
        (socket.SO_KEEPALIVE, socket.SOL_SOCKET),
        (socket.SO_OOBINLINE, socket.SOL_SOCKET),
    ],
    ids=["TCP_NODELAY", "SO_KEEPALIVE", "SO_OOBINLINE"],
)
@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_accepted_connections_inherit_their_options(host: str, option: int, level: int) -> None:
    with listen(host, 0) as listener:
        with socket.create_connection(listener.getsockname()[:2], 20):
            listener.settimeout(20)
            accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(level, option) != 0


def test_a_port_can_be_listened_on_again_while_old_connections_linger() -> None:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        listener.settimeout(20)
        accepted, _ = listener.accept()
        accepted.close()  # the server's side closes first and has TIME_WAIT
        assert client.recv(1) == b""
    listener.close()
    listen("127.0.0.1", port).close()
