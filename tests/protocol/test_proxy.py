"""The PROXY protocol's header: what it says, and where exactly it ends."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftpcluster.protocol.proxy import BadProxyHeader, Origin, missing, parse

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, UDP4, TCP6, UDP6, UNIX = 0x11, 0x12, 0x21, 0x22, 0x31
LINE = 107  # bytes of a line at most, with CRLF
BINARY = 16 + 4096


def binary(command: int, family: int, payload: bytes = b"") -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(payload)) + payload


def tcp4(source: str, port: int, tlvs: bytes = b"") -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton("10.0.0.1")
    return binary(PROXY, TCP4, addresses + struct.pack("!HH", port, 21) + tlvs)


def tcp6(source: str, port: int, tlvs: bytes = b"") -> bytes:
    addresses = b"".join(socket.inet_pton(socket.AF_INET6, host) for host in (source, "::1"))
    return binary(PROXY, TCP6, addresses + struct.pack("!HH", port, 21) + tlvs)


ALPN = b"\x01\x00\x03ftp"
UNIQUE_ID = b"\x05\x00\x80" + bytes(range(128))
UNIX_PATHS = b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")

HEADERS: dict[bytes, Origin | None] = {
    b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 21\r\n": Origin("192.0.2.1", 56324, "198.51.100.1"),
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": Origin(
        "255.255.255.255", 65535, "255.255.255.255"
    ),
    b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n": Origin("0.0.0.0", 0, "0.0.0.0"),
    b"PROXY TCP6 2001:db8::1 2001:db8::2 1 21\r\n": Origin("2001:db8::1", 1, "2001:db8::2"),
    b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::1 1 21\r\n": Origin("2001:db8::1", 1, "::1"),
    b"PROXY TCP6 ::ffff:192.0.2.1 ::1 7 21\r\n": Origin("192.0.2.1", 7, "::1"),
    b"PROXY TCP6 0:0:0:0:0:FFFF:c000:201 ::1 7 21\r\n": Origin("192.0.2.1", 7, "::1"),
    b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n": Origin(
        *("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff:f::1 whatever else\r\n": None,
    b"PROXY UNKNOWN ".ljust(LINE - 2, b"x") + b"\r\n": None,
    tcp4("192.0.2.1", 56324): Origin("192.0.2.1", 56324, "10.0.0.1"),
    tcp4("127.0.0.2", 0, ALPN + UNIQUE_ID): Origin("127.0.0.2", 0, "10.0.0.1"),
    tcp6("2001:db8::1", 65535): Origin("2001:db8::1", 65535, "::1"),
    tcp6("::1", 21, UNIQUE_ID): Origin("::1", 21, "::1"),
    tcp6("::ffff:192.0.2.1", 7): Origin("192.0.2.1", 7, "::1"),
    tcp4("192.0.2.1", 1, b"\x04" * (4096 - 12)): Origin("192.0.2.1", 1, "10.0.0.1"),
    binary(LOCAL, 0): None,
    binary(LOCAL, 0, ALPN): None,
    binary(LOCAL, TCP4, b"\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02"): None,
    binary(LOCAL, TCP4): None,
    binary(PROXY, 0): None,
    binary(PROXY, UNIX, UNIX_PATHS): None,
    binary(PROXY, UDP4, b"\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02"): None,
    binary(PROXY, UDP6, bytes(36)): None,
}

BAD = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"USER anonymous\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
    b"proxy TCP4 192.0.2.1 198.51.100.1 1 21\r\n",
    b" PROXY TCP4 192.0.2.1 198.51.100.1 1 21\r\n",
    b"PROXY\tTCP4 192.0.2.1 198.51.100.1 1 21\r\n",
    b"PROXYTCP4 192.0.2.1 198.51.100.1 1 21\r\n",
    b"PROXY  TCP4 192.0.2.1 198.51.100.1 1 21\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 1 21 3\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 1 21 \r\n",
    b"PROXY TCP4 192.0.2.1  198.51.100.1 1 21\r\n",
    b"PROXY TCP5 192.0.2.1 198.51.100.1 1 21\r\n",
    b"PROXY UDP4 192.0.2.1 198.51.100.1 1 21\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 1 21\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.1 1 21\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.1 1 21\r\n",
    b"PROXY TCP4 192.0.2 198.51.100.1 1 21\r\n",
    b"PROXY TCP4 192.0.2.1/32 198.51.100.1 1 21\r\n",
    b"PROXY TCP4 localhost 198.51.100.1 1 21\r\n",
    "PROXY TCP4 192.0.2.\u0661 198.51.100.1 1 21\r\n".encode(),
    b"PROXY TCP4 192.0.2.1 198.51.100.1 1 21\n\r\n",
    b"PROXY UNKNOWN ".ljust(LINE - 1, b"x") + b"\r\n",
    b"PROXY UNKNOWN ".ljust(LINE, b"x") + b"\r\n",
    b"PROXY UNKNOWN ".ljust(4 * LINE, b"x"),
    SIGNATURE[:-1] + b"\0" + b"\x21\x11\x00\x0c" + bytes(12),
    tcp4("192.0.2.1", 1, bytes(4097 - 12)),
    binary(PROXY, TCP4, bytes(11)),
    binary(PROXY, TCP6, bytes(35)),
    binary(PROXY, TCP4),
    binary(0x11, TCP4, bytes(12)),
    binary(0x31, TCP4, bytes(12)),
    binary(0x01, TCP4, bytes(12)),
    binary(0x22, TCP4, bytes(12)),
    binary(0x2F, 0),
)


def read(stream: bytes, sizes: list[int] | None = None) -> bytes:
    """The header at the beginning of a stream, which comes in pieces of these ``sizes``.

    Raises BadProxyHeader, and EOFError where the stream ends within the header.
    """
    data = b""
    pieces = iter(sizes or ())
    while count := missing(data):
        assert count > 0
        piece = stream[len(data) :][: min(count, next(pieces, count))]
        if not piece:
            raise EOFError
        data += piece
    return data


def outcome(stream: bytes, sizes: list[int] | None = None) -> tuple[bytes, Origin | None] | None:
    """The header and what it says; None where it is none, or not all of one."""
    try:
        header = read(stream, sizes)
        return header, parse(header)
    except (BadProxyHeader, EOFError):
        return None


# ---------------------------------------------------------------------- what it says


@pytest.mark.parametrize(("header", "origin"), HEADERS.items(), ids=range(len(HEADERS)))
def test_the_header_names_the_client(header: bytes, origin: Origin | None) -> None:
    assert parse(read(header)) == origin


@pytest.mark.parametrize("stream", BAD, ids=[repr(stream[:60]) for stream in BAD])
@pytest.mark.parametrize("size", [1, 10_000])
def test_what_is_no_header_is_refused(stream: bytes, size: int) -> None:
    with pytest.raises(BadProxyHeader):
        parse(read(stream, [size] * len(stream)))


@pytest.mark.parametrize(
    "number", ["65536", "99999999999999999999", "-1", "", "x", "0x15", "1.0", "1e3"]
)
@pytest.mark.parametrize("which", ["the client's", "the server's"])
def test_what_is_no_port_is_refused(number: str, which: str) -> None:
    ports = f"{number} 21" if which == "the client's" else f"21 {number}"
    with pytest.raises(BadProxyHeader):
        parse(read(f"PROXY TCP4 192.0.2.1 198.51.100.1 {ports}\r\n".encode()))


@pytest.mark.parametrize("number", ["+1", "-0", "1_0", "\t1", "1\v", "1\n", "021", "00"])
def test_a_port_is_a_decimal_number_without_leading_zeros(number: str) -> None:
    """Whatever else Python's ``int`` takes for one: “Heading zeroes are not permitted”."""
    with pytest.raises(BadProxyHeader):
        parse(read(f"PROXY TCP4 192.0.2.1 198.51.100.1 {number} 21\r\n".encode()))


@pytest.mark.parametrize("host", ["", "x", "198.51.100", "2001:db8::1", "198.51.100.1\n"])
def test_the_server_s_address_has_to_be_one(host: str) -> None:
    with pytest.raises(BadProxyHeader):
        parse(read(f"PROXY TCP4 192.0.2.1 {host} 1 21\r\n".encode()))


@pytest.mark.parametrize("zone", ["eth0", "\x1b[2J", "\nforged"])
def test_an_address_has_no_zone(zone: str) -> None:
    """It would be a piece of free text in logs, and one address could be counted as many."""
    with pytest.raises(BadProxyHeader):
        parse(read(f"PROXY TCP6 fe80::1%{zone} ::1 1 21\r\n".encode()))


# ---------------------------------------------------------------------- where it ends


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
@pytest.mark.parametrize("behind", [b"USER anonymous\r\n", b"\r\n", b"\n", b"\x16\x03\x01", b"P"])
def test_not_a_byte_behind_the_header_is_read(header: bytes, behind: bytes) -> None:
    assert read(header + behind) == header
    assert read(header + behind, [1] * len(header)) == header


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_no_part_of_a_header_is_taken_for_the_whole(header: bytes) -> None:
    for length in range(len(header)):
        assert 0 < missing(header[:length]) <= len(header) - length


@pytest.mark.parametrize(
    "begins", [b"U", b"\x16", b"\n", b"PROXZ", b"PROXY\r", SIGNATURE[:4] + b"x"]
)
def test_what_cannot_become_a_header_is_refused_at_once(begins: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        missing(begins)


def test_a_header_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadProxyHeader):
        missing(SIGNATURE + struct.pack("!BBH", PROXY, TCP4, 65535))


# ---------------------------------------------------------------------- whatever comes

ports = st.integers(0, 65535)
versions_1 = st.builds(
    lambda source, port: (
        f"PROXY TCP{source.version} {source} {source} {port} 21\r\n".encode(),
        port,
    ),
    st.ip_addresses(),
    ports,
)
versions_2 = st.builds(
    lambda source, port, tlvs: (
        (tcp4 if source.version == 4 else tcp6)(str(source), port, tlvs),
        port,
    ),
    st.ip_addresses(),
    ports,
    st.binary(max_size=300),
)
sizes = st.lists(st.integers(1, 40), max_size=200)
words = st.sampled_from(
    [b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"192.0.2.1 ", b"::1 ", b"::ffff:1.2.3.4 ", b"21 ",
     b"65536 ", b"21", b" ", b"\r", b"\n", b"\r\n", b"\0", b"%", b"\xff"]
)  # fmt: skip
streams = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda parts: b"".join(parts), st.lists(words | st.binary(max_size=3), max_size=30)),
    st.builds(lambda rest: b"PROXY " + rest, st.binary(max_size=300)),
    st.builds(lambda rest: SIGNATURE + rest, st.binary(max_size=300)),
    st.builds(
        lambda command, family, payload, rest: binary(command, family, payload) + rest,
        st.integers(0, 255) | st.sampled_from([LOCAL, PROXY]),
        st.integers(0, 255) | st.sampled_from([TCP4, TCP6, UNIX]),
        st.binary(max_size=300),
        st.binary(max_size=20),
    ),
)


@given(header=versions_1 | versions_2, behind=st.binary(max_size=200), sizes=sizes)
def test_however_a_header_is_split_all_of_it_is_read_and_no_more(
    header: tuple[bytes, int], behind: bytes, sizes: list[int]
) -> None:
    found = read(header[0] + behind, sizes)
    assert found == header[0]
    origin = parse(found)
    assert origin is not None
    assert origin.port == header[1]


@given(stream=streams, sizes=sizes)
def test_whatever_comes_is_a_header_or_refused_the_same_way_however_split(
    stream: bytes, sizes: list[int]
) -> None:
    assert outcome(stream, sizes) == outcome(stream)  # and nothing else is raised


@given(stream=streams)
def test_what_is_asked_for_is_bounded(stream: bytes) -> None:
    stream = stream + b"x" * BINARY
    data = b""
    with contextlib.suppress(BadProxyHeader):
        while count := missing(data):
            data = stream[: len(data) + count]
            assert len(data) <= (LINE if data.startswith(b"PROXY ") else BINARY)
