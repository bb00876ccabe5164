"""Each field of each message from a worker is bounded: in size, in value, or in both."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from ftpcluster.ipc.messages import ToSupervisor


def unbounded(kind: Any, *, is_bounded: bool = False) -> Iterator[Any]:
    """The types within a field's type that any value fits."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        yield from unbounded(arguments[0], is_bounded=True)
    elif kind in (int, float, str) or (origin is tuple and arguments[-1] is ...):
        yield from () if is_bounded else (kind,)
        for argument in arguments[:1]:
            yield from unbounded(argument)
    elif origin not in (None, typing.Literal):
        for argument in arguments:
            yield from unbounded(argument)
    elif hasattr(kind, "_fields"):
        for hint in typing.get_type_hints(kind, include_extras=True).values():
            yield from unbounded(hint)


@pytest.mark.parametrize("kind", typing.get_args(ToSupervisor), ids=lambda kind: kind.__name__)
def test_each_field_of_what_a_worker_says_is_bounded(kind: type[msgspec.Struct]) -> None:
    hints = typing.get_type_hints(kind, include_extras=True)
    assert {name: list(unbounded(hints[name])) for name in kind.__struct_fields__} == {
        name: [] for name in kind.__struct_fields__
    }
