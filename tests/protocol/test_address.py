"""Addresses as people and limits see them."""

from __future__ import annotations

import pytest

from ftpcluster.protocol.address import (
    display,
    interface_of,
    is_ipv6,
    plain,
    socket_address,
    with_interface,
)


@pytest.mark.parametrize(
    ("host", "same"),
    [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::ffff:7f00:1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("2001:db8::ffff:1", "2001:db8::ffff:1"),
        ("::ffff:0:1.2.3.4", "::ffff:0:1.2.3.4"),  # translated (RFC 2765), not mapped
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_an_ipv4_address_is_the_same_over_a_dual_stack_socket(host: str, same: str) -> None:
    assert plain(host) == same


def test_an_address_and_its_port_as_people_write_them() -> None:
    assert display("127.0.0.1", 21) == "127.0.0.1:21"
    assert display("::1", 21) == "[::1]:21"
    assert display("0.0.0.0", 2121) == "0.0.0.0:2121"


@pytest.mark.parametrize(
    ("host", "interface", "text", "address"),
    [
        ("fe80::1", 2, "fe80::1%2", ("fe80::1", 21, 0, 2)),
        ("2001:db8::1", 0, "2001:db8::1", ("2001:db8::1", 21)),
        ("127.0.0.1", 0, "127.0.0.1", ("127.0.0.1", 21)),
    ],
)
def test_a_link_local_address_keeps_its_interface(
    host: str, interface: int, text: str, address: tuple[str | int, ...]
) -> None:
    named = with_interface(host, interface)
    assert named == text
    assert interface_of(named) == interface
    assert socket_address(named, 21, interface_of(named)) == address


def test_families_are_told_apart() -> None:
    assert is_ipv6("::")
    assert is_ipv6("fe80::1%eth0")
    assert not is_ipv6("127.0.0.1")
