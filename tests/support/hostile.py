"""Messages of a worker that was taken over: all of their types, with any values."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
from hypothesis import strategies as st

from ftpcluster.ipc.channel import MAX_MESSAGE
from ftpcluster.ipc.messages import ToSupervisor

INTEGERS = (-(2**63), -5, -1, *range(6), 220, 10**9, 2**31, 2**48, 2**53, 2**63 - 1, 2**64 - 1)
FLOATS = (float("nan"), float("inf"), float("-inf"), -1.0, 0.0, 0.5, 1e9, 1e308)
TEXTS = (
    *("", "alice", "bob", "ftp", "round-trip", "download", "upload", "complete", "client"),
    *("\x1b[2J\x1b]0;owned\x07", "\u202eecila\u2066", "a\nb\r\nc", "\u2028", "\x9b31m", "\0"),
    *("1.2.3.4", "127.0.0.1", "::1", "fe80::1%\x1b[31m", "fe80::1%" + "z" * 50),
    *("x" * 255, "x" * 256, "y" * 4096, "z" * 60_000),
)
_encode = msgspec.msgpack.Encoder().encode


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, without regard to its bounds."""
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return values(arguments[0])
    if kind is int:
        return st.sampled_from(INTEGERS)
    if kind is float:
        return st.sampled_from(FLOATS)
    if kind is str:
        return st.sampled_from(TEXTS)
    if kind is bool:
        return st.booleans()
    if origin is tuple and arguments[-1] is ...:
        one = values(arguments[0])
        return st.lists(one, max_size=5) | st.tuples(one, st.integers(2, 3000)).map(
            lambda pair: [pair[0]] * pair[1]
        )
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    if origin is typing.Literal:
        return st.sampled_from([*arguments, *TEXTS[:6]])
    if origin is dict:
        return st.dictionaries(*map(values, arguments), max_size=20)
    if arguments:
        return st.one_of(*map(values, arguments))
    if kind is type(None):
        return st.none()
    fields = typing.get_type_hints(kind, include_extras=True)  # a NamedTuple
    return st.tuples(*map(values, fields.values()))


def _messages() -> st.SearchStrategy[bytes]:
    kinds = []
    for kind in typing.get_args(ToSupervisor):
        hints = typing.get_type_hints(kind, include_extras=True)
        fields = [values(hints[name]) for name in kind.__struct_fields__]
        kinds.append(st.tuples(st.just(kind.__struct_config__.tag), *fields))
    return st.one_of(*kinds).map(_encode)


def _cut(data: bytes, where: int) -> bytes:
    return data[: where % (len(data) + 1)]


MESSAGES = _messages()
DATAGRAMS = st.one_of(
    MESSAGES,
    MESSAGES,
    MESSAGES,
    st.tuples(MESSAGES, st.integers(0, 1 << 16)).map(lambda both: _cut(*both)),
    st.binary(max_size=100),
    st.just(_encode([3, [1] * MAX_MESSAGE])),
)
"""Mostly messages with any values; some are cut off, random bytes, or too large."""
