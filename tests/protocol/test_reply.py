"""Replies as they go over the wire."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftpcluster.protocol.reply import (
    Code,
    Reply,
    extended_passive_mode,
    on_wire,
    passive_mode,
    quoted,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_a_reply_of_one_line() -> None:
    assert Reply(Code.OK, "Done.").encode() == b"200 Done.\r\n"


def test_a_reply_of_several_lines_has_them_behind_a_space() -> None:
    # RFC 2389 section 3.2: no line between the first and the last can be taken for the last
    reply = Reply(Code.SYSTEM_STATUS, "Features:", [" MDTM", "211 x"], end="End")
    assert reply.encode() == b"211-Features:\r\n  MDTM\r\n 211 x\r\n211 End\r\n"


def test_what_an_encoding_has_not_is_a_question_mark() -> None:
    text = 'é €: "\udcff"\r\n'
    assert on_wire(text, "utf-8") == b'\xc3\xa9 \xe2\x82\xac: "\xff"\r\n'
    assert on_wire(text, "latin-1") == b'\xe9 ?: "\xff"\r\n'
    assert Reply(Code.PATHNAME, "€").encode("latin-1") == b"257 ?\r\n"


@UNHURRIED
@given(
    st.sampled_from(Code),
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))),
)
def test_only_the_last_line_of_a_reply_looks_like_the_last(code: Code, lines: list[str]) -> None:
    *others, last, nothing = Reply(code, "First", lines).encode().split(b"\r\n")
    assert nothing == b""
    assert last.startswith(b"%d " % code)
    assert len(others) == (len(lines) + 1 if lines else 0)
    assert not [line for line in others if re.match(rb"[1-5]\d\d ", line)]


def test_a_name_that_is_no_text_leaves_as_it_came() -> None:
    name = b"\xe4\xff".decode("utf-8", "surrogateescape")
    assert Reply(Code.PATHNAME, quoted(f"/{name}")).encode() == b'257 "/\xe4\xff"\r\n'


def test_a_reply_is_encoded_as_the_session_asks_also_the_second_time() -> None:
    reply = Reply(Code.PATHNAME, "é")
    assert reply.encode() == b"257 \xc3\xa9\r\n"
    assert reply.encode("latin-1") == b"257 \xe9\r\n"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", '"/"'),
        ('/a"b', '"/a""b"'),
        ('/"', '"/"""'),
        ('/""', '"/"""""'),
        ("/a b", '"/a b"'),
    ],
)
def test_quotes_in_a_path_are_doubled(path: str, text: str) -> None:
    assert quoted(path) == text


@pytest.mark.parametrize(
    ("host", "port", "numbers"),
    [
        ("127.0.0.1", 65535, b"127,0,0,1,255,255"),
        ("10.1.2.3", 256, b"10,1,2,3,1,0"),
        ("192.168.0.200", 2047, b"192,168,0,200,7,255"),
    ],
)
def test_passive_mode_names_host_and_port(host: str, port: int, numbers: bytes) -> None:
    wire = passive_mode(host, port).encode()
    assert wire.startswith(b"227 ")
    assert b"(" + numbers + b")" in wire


def test_extended_passive_mode_names_the_port() -> None:
    wire = extended_passive_mode(6446).encode()
    assert wire.startswith(b"229 ")
    assert b"(|||6446|)" in wire


def test_replies_are_equal_when_they_look_alike_to_a_client() -> None:
    assert Reply(Code.OK, "a") == Reply(200, "a")
    assert hash(Reply(Code.OK, "a")) == hash(Reply(200, "a"))
    assert Reply(Code.OK, "a") != Reply(Code.OK, "b")
    assert Reply(Code.OK, "a") != Reply(Code.OK, "a", ["b"])
    assert Reply(Code.OK, "a") != "200 a"
