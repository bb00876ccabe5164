"""Addresses as FTP and people write them."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address


def plain(host: str) -> str:
    """An address without its IPv6 wrapping: "::ffff:127.0.0.1" is 127.0.0.1.

    A peer that comes over a dual-stack socket is the same peer as over an IPv4 one: for limits,
    for PASV's reply and for the check of the data connection.
    """
    if host.startswith("::ffff:"):
        address = ip_address(host.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return host


def is_ipv6(host: str) -> bool:
    return ":" in host


def display(host: str, port: int) -> str:
    """``127.0.0.1:21``, ``[::1]:21``."""
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"
