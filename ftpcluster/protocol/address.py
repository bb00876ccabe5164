"""IP addresses: of PORT and EPRT, of peers, and of configurations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from ftpcluster.protocol.errors import ArgumentProblem, NetworkProtocolNotSupported

SocketAddress = tuple[str, int] | tuple[str, int, int, int]

Bits = tuple[int, int, int]
"""A network: its IP version, the length of its prefix, and the prefix's bits as a number."""

_NAT64 = int(IPv6Address("64:ff9b::")) >> 32
_LOCAL = tuple(
    (network.prefixlen, int(network.network_address) >> 128 - network.prefixlen)
    for network in map(
        IPv6Network,
        # RFC 8215: in the last one each network chooses where the IPv4 address lies
        ("fe80::/10", "fc00::/7", "64:ff9b::/96", "64:ff9b:1::/48"),
    )
)
_EMBEDDING = ("64:ff9b::", "2002:", "2001:0:", "2001::", "::ffff:")
_PORT = re.compile(r"(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3})", re.ASCII)
_DECIMAL = re.compile(r"\d{1,5}", re.ASCII)


def plain(host: str) -> str:
    """The IPv4 address of an IPv4-mapped one, such as "::ffff:127.0.0.1"; others as they are.

    A peer has a mapped address on a dual-stack socket. It is the same peer as on an IPv4 socket:
    for limits, for PASV's reply and for the check of the data connection.
    """
    if host.startswith("::ffff:"):
        address = without_zone(host)
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return host


def without_zone(host: str) -> IPv4Address | IPv6Address:
    """Parse an address, and drop its zone: "fe80::1%eth0" is fe80::1. Raises ValueError."""
    return ip_address(host.partition("%")[0])


def with_interface(host: str, interface: int) -> str:
    """A link-local address with the number of its interface: "fe80::1%2". 0 is no interface."""
    return f"{host}%{interface}" if interface else host


def interface_of(host: str) -> int:
    """The interface's number that ``with_interface`` has put behind an address; 0 if none."""
    return int(host.partition("%")[2] or 0)


def socket_address(host: str, port: int, interface: int = 0) -> SocketAddress:
    """The arguments of ``bind`` and ``connect``: the interface is not in the text, but a number."""
    if not interface:
        return host, port
    return host.partition("%")[0], port, 0, interface


def site(host: str) -> Bits:
    """The network that counts as one client: an IPv4 address, or the /64 of an IPv6 address.

    An IPv6 address with an IPv4 one in it counts as that one, else all of IPv4 behind a NAT64
    would be one site. In local networks (link-local, ULA, a local NAT64 prefix) a site is a single
    address: all hosts share one /64 there. Raises ValueError for what is no address.
    """
    address = without_zone(plain(host))
    if isinstance(address, IPv4Address):
        return 4, 32, int(address)
    meant = embedded_ipv4(address)
    if meant is not None:
        return 4, 32, int(meant)
    number = int(address)
    if any(number >> 128 - prefix == bits for prefix, bits in _LOCAL):
        return 6, 128, number
    return 6, 64, number >> 64


def embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address in an IPv6 one: mapped, or of NAT64, 6to4 or Teredo; None if there is none.

    RFC 4291, 6052, 3056 and 4380 say where it lies. An IPv4 address that no host can have, such as
    a loopback one, counts as none: no translator has made such an IPv6 address.
    """
    number = int(address)
    meant = address.ipv4_mapped or address.sixtofour
    if number >> 32 == _NAT64:
        meant = IPv4Address(number & 0xFFFFFFFF)
    elif address.teredo is not None:
        meant = address.teredo[1]
    if meant is None or meant.is_loopback or meant.is_multicast or meant.is_unspecified:
        return None
    return meant


def may_embed_ipv4(host: str) -> bool:
    """Whether ``embedded_ipv4`` may find one. It looks at the text alone, which is cheap."""
    return host.startswith(_EMBEDDING)


def is_ipv4(text: str) -> bool:
    """Whether a text is an IPv4 address; a host name or an IPv6 address is not."""
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def is_ipv6(host: str) -> bool:
    return ":" in host


def parse_port(argument: str) -> tuple[str, int]:
    """The address and port of PORT's ``h1,h2,h3,h4,p1,p2``. Raises ArgumentProblem (501)."""
    match = _PORT.fullmatch(argument)
    numbers = [int(number) for number in match.groups()] if match else [256]
    if max(numbers) > 255:
        raise ArgumentProblem("Expected six numbers below 256: h1,h2,h3,h4,p1,p2.")
    host = ".".join(map(str, numbers[:4]))
    return host, numbers[4] << 8 | numbers[5]


def parse_eprt(argument: str) -> tuple[str, int]:
    """The address and port of EPRT's ``|1|132.235.1.2|6275|`` (RFC 2428 section 2).

    An IPv4-mapped address is returned as the IPv4 address. Raises ArgumentProblem (501), or
    NetworkProtocolNotSupported (522) for an unknown address family.
    """
    delimiter = argument[:1]
    fields = argument.split(delimiter) if delimiter else []
    if len(fields) != 5 or fields[4] or not _DECIMAL.fullmatch(fields[3]):
        raise ArgumentProblem("Expected |1|address|port| or |2|address|port|.")
    family, host, port = fields[1], fields[2], int(fields[3])
    if family not in ("1", "2"):
        raise NetworkProtocolNotSupported("Network protocol not supported, use (1,2).")
    try:
        address = ip_address(host)
    except ValueError:
        raise ArgumentProblem("That is no IP address.") from None
    if address.version != (4 if family == "1" else 6) or not 0 < port < 65536:
        raise ArgumentProblem("The address is of another family, or the port is not in 1-65535.")
    return plain(str(address)), port


def display(host: str, port: int) -> str:
    """Address and port for people: ``127.0.0.1:21``, ``[::1]:21``."""
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"


class Networks:
    """A set of networks, such as "10.0.0.0/8" or "::1". ``in`` tells whether one has an address.

    There may be many: a lookup takes as long as there are lengths of prefixes among them.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        """Raises ValueError for a text that is no network."""
        found: dict[tuple[int, int], set[int]] = {}
        for network in map(ip_network, networks):
            shift = network.max_prefixlen - network.prefixlen
            numbers = found.setdefault((network.prefixlen, network.version), set())
            numbers.add(int(network.network_address) >> shift)
        self._by_length = sorted(found.items(), reverse=True)

    def __bool__(self) -> bool:
        return bool(self._by_length)

    def __contains__(self, host: str) -> bool:
        return self.longest(host) >= 0

    def longest(self, host: str) -> int:
        """The prefix length of the narrowest network that has an address; -1 if none has it."""
        address = without_zone(host)
        number, length = int(address), address.max_prefixlen
        for (prefix, version), numbers in self._by_length:
            if version == address.version and number >> length - prefix in numbers:
                return prefix
        return -1
