"""What is read of a ClientHello: its size, and the protocols that it offers."""

from __future__ import annotations

import contextlib
import ssl
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftpcluster.protocol.client_hello import offered_protocols, record_size

RECORD = st.builds(
    lambda version, body: b"\x16" + version + len(body).to_bytes(2) + body,
    st.binary(min_size=2, max_size=2),
    st.binary(max_size=600),
)
NAMES = st.lists(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255),
    min_size=1,
    max_size=20,
)


def hello(
    *protocols: str,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    name: str | None = "localhost",
    session: bool = False,
) -> bytes:
    """The first record of a real client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    if not session:
        context.options |= ssl.OP_NO_TICKET
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("name", ["localhost", None])
@pytest.mark.parametrize("session", [True, False], ids=["tickets", "no tickets"])
@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"]
)
@pytest.mark.parametrize("protocols", [(), ("ftp",), ("h2", "http/1.1"), ("a" * 255, "ftp")])
def test_a_real_clients_hello_tells_what_it_offers(
    protocols: tuple[str, ...], version: ssl.TLSVersion, session: bool, name: str | None
) -> None:
    record = hello(*protocols, version=version, session=session, name=name)
    assert record_size(record) == len(record)
    assert offered_protocols(record) == tuple(each.encode() for each in protocols)


@settings(deadline=None)  # the machine may be busy
@given(NAMES)
def test_whatever_a_real_client_offers_is_read(names: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = hello(*names)
    assert offered_protocols(record) == tuple(name.encode() for name in names)


@settings(deadline=None)
@given(st.binary(max_size=2000) | RECORD)
def test_no_bytes_make_it_raise(data: bytes) -> None:
    size = record_size(data)
    assert 0 <= size <= 5 + (1 << 14) + 256
    for name in offered_protocols(data):
        assert name in data


@settings(deadline=None)
@given(st.data())
def test_a_real_hello_with_some_bytes_changed_never_makes_it_raise(data: st.DataObject) -> None:
    record = bytearray(hello("ftp", "h2"))
    for _ in range(data.draw(st.integers(1, 8))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    record_size(bytes(record))
    offered_protocols(bytes(record))


def test_of_a_part_of_a_hello_nothing_is_offered_but_its_size_is_known_after_the_header() -> None:
    record = hello("ftp")
    for end in range(len(record)):
        part = record[:end]
        assert record_size(part) == (5 if end < 5 else len(record))
        assert offered_protocols(part) in ((), (b"ftp",))
    assert offered_protocols(record[:200]) == ()


@pytest.mark.parametrize(
    "data", [b"USER anonymous\r\n", b"GET / HTTP/1.1\r\n", b"\x15\x03\x01\x00\x02", b"\x80\x2e\x01"]
)
def test_what_is_no_handshake_has_no_size(data: bytes) -> None:
    assert record_size(data) == 0
    assert offered_protocols(data) == ()


def test_a_record_that_is_longer_than_tls_allows_has_no_size() -> None:
    assert record_size(b"\x16\x03\x01" + (0x4100).to_bytes(2)) == 5 + 0x4100
    assert record_size(b"\x16\x03\x01" + (0x4101).to_bytes(2)) == 0
    assert record_size(b"\x16\x03\x01\xff\xff") == 0


def test_another_handshake_message_offers_nothing() -> None:
    record = bytearray(hello("ftp"))
    record[5] = 2  # ServerHello
    assert offered_protocols(bytes(record)) == ()
