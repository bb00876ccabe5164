"""One command line: compiled and in Python alike."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ftpcluster.protocol import single_line
from tests.support.leaks import assert_leaves_nothing

compiled = pytest.importorskip("ftpcluster._native.single_line", reason="was not built")
PIECES = st.sampled_from(
    [b" ", b"\r", b"\n", b"\r\n", b"\xff", b"\0", b"noop", b"RETR", b"a", b"\xe4", b"[`{@"]
)
DATA = st.one_of(st.binary(max_size=12), st.lists(PIECES, max_size=8).map(b"".join))


@settings(max_examples=2000, deadline=None)
@given(DATA, st.sampled_from([b"", b"\n", b"\r\n", b"\r\r\n"]))
@example(bytes(range(256)).translate(None, b"\r\n\xff"), b"\r\n")
@example(b"x" * 100_000, b"\n")
def test_lines_are_split_and_refused_alike(data: bytes, end: bytes) -> None:
    assert compiled.one_line(data + end) == single_line.one_line(data + end)


@pytest.mark.parametrize(
    "data", [None, "NOOP\r\n", bytearray(b"NOOP\r\n"), memoryview(b"NOOP\r\n")]
)
def test_what_is_no_bytes_is_refused(data: object) -> None:
    with pytest.raises(TypeError, match=r"bytes|None"):
        compiled.one_line(data)


def test_calls_leave_nothing_behind() -> None:
    for data in (b"retr file\r\n", b"noop\r\n", b"\r\n", b"a b\xff\r\n", b"no end", b"x \n"):
        assert_leaves_nothing(lambda data=data: compiled.one_line(data), 2000, data, None)
