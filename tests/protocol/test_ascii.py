"""TYPE A: line ends, also where reads cut them in two."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftpcluster.protocol.ascii import FromNetwork, ToNetwork

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

BLOCKS = st.lists(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"bc"])).map(b"".join))


def to_network(blocks: list[bytes]) -> bytes:
    converter = ToNetwork()
    return b"".join(converter.convert(block) for block in blocks)


def from_network(blocks: list[bytes]) -> bytes:
    converter = FromNetwork()
    return b"".join(converter.convert(block) for block in blocks) + converter.flush()


@UNHURRIED
@given(BLOCKS)
def test_what_is_sent_is_the_same_however_it_was_read(blocks: list[bytes]) -> None:
    whole = b"".join(blocks)
    # bare LFs are those that are left when every CRLF is taken as one
    assert to_network(blocks) == whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@UNHURRIED
@given(BLOCKS)
def test_what_is_stored_is_the_same_however_it_was_received(blocks: list[bytes]) -> None:
    assert from_network(blocks) == b"".join(blocks).replace(b"\r\n", b"\n")


@UNHURRIED
@given(BLOCKS)
def test_text_comes_back_as_it_was(blocks: list[bytes]) -> None:
    text = b"".join(blocks).replace(b"\r\n", b"\n")
    while b"\r\n" in text:  # CRs that stood before a CRLF
        text = text.replace(b"\r\n", b"\n")
    assert from_network([to_network([text])]) == text


def test_crlf_that_a_file_already_has_is_not_doubled() -> None:
    assert to_network([b"a\r\nb\nc"]) == b"a\r\nb\r\nc"
    assert to_network([b"a\r", b"\nb"]) == b"a\r\nb"


def test_a_cr_alone_stays() -> None:
    assert to_network([b"a\rb\r"]) == b"a\rb\r"
    assert from_network([b"a\rb\r"]) == b"a\rb\r"
    assert from_network([b"\r", b"\r", b"\n"]) == b"\r\n"


@pytest.mark.parametrize("convert", [to_network, from_network])
def test_no_data_stays_no_data(convert: object) -> None:
    assert callable(convert)
    assert convert([]) == convert([b""]) == b""
