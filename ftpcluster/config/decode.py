"""What was given → structs; all that is wrong is found in one go, value by value."""

from __future__ import annotations

import difflib
import typing
from typing import Any, TypeVar

import msgspec

from ftpcluster.config.kinds import Kind
from ftpcluster.config.lines import Path
from ftpcluster.config.model import Config
from ftpcluster.config.setting import keys, kind_of
from ftpcluster.config.source import Source, dotted, quoted, shown
from ftpcluster.config.values import Unfit

T = TypeVar("T", bound=msgspec.Struct)

_WRONG: Any = None
"""In place of what is wrong: nobody looks at it, see ``Source.is_sound``."""


def decode(source: Source, kind: type[T]) -> T:
    """All that was given as a struct; its problems are the source's.

    Only what is sound may be used.
    """
    return _table(source, kind, source.values, ())


def _value(source: Source, kind: Any, value: Any, path: Path) -> Any:
    how = kind_of(kind)
    if how is not None:
        return _single(source, how, value, path)
    if typing.get_origin(kind) is tuple:
        return _array(source, typing.get_args(kind)[0], value, path)
    if typing.get_origin(kind) is dict:
        key, inner = typing.get_args(kind)
        return _mapping(source, key, inner, value, path)
    return _table(source, kind, value, path)


def _single(source: Source, how: Kind, value: Any, path: Path) -> Any:
    try:
        found = how.read(value)
    except Unfit as error:
        source.refuse(path, str(error))
    except (ValueError, msgspec.ValidationError):
        source.refuse_value(path, value, how)
    else:
        return source.absolute(path, found) if how.is_file else found
    return _WRONG


def _array(source: Source, kind: Any, value: Any, path: Path) -> Any:
    is_table = kind_of(kind) is None
    if not isinstance(value, list):
        wanted = f"[[{dotted(path)}]]" if is_table and len(path) == 1 else "an array: […]"
        source.refuse(path, f"expected {wanted}, got {_kind(value)}")
        return _WRONG
    if not value:
        source.refuse(path, "expected at least one; leave the key out for the default")
        return _WRONG
    return tuple(_value(source, kind, each, (*path, index)) for index, each in enumerate(value))


def _mapping(source: Source, key: Any, kind: Any, value: Any, path: Path) -> Any:
    if not isinstance(value, dict):
        source.refuse(path, f"expected a table: {{ … }}, got {_kind(value)}")
        return _WRONG
    return {
        _value(source, key, name, (*path, name)): _value(source, kind, each, (*path, name))
        for name, each in value.items()
    }


def _table(source: Source, kind: type[T], value: Any, path: Path) -> T:
    if not isinstance(value, dict):
        how = "a table" if any(isinstance(key, int) for key in path) else f"[{dotted(path)}]"
        source.refuse(path, f"expected {how}, got {_kind(value)}")
        return typing.cast(T, _WRONG)
    known = keys(kind)
    for name in value:
        if name not in known:
            source.refuse((*path, name), _unknown(name, known, path))
    found: dict[str, Any] = {}
    for name, key in known.items():
        below = (*path, name)
        if name in value:
            found[key.field.name] = _value(source, key.kind, value[name], below)
        elif key.field.required:
            found[key.field.name] = _WRONG
            source.refuse(below, f"is missing; expected {_words(key.kind)}")
    return kind(**found)


def _words(kind: Any) -> str:
    how = kind_of(kind)
    return "a table" if how is None else how.expected


def _unknown(name: str, known: typing.Iterable[str], path: Path) -> str:
    if path and name in (at_top := keys(Config)) and kind_of(at_top[name].kind) is not None:
        return "no key of this table; it belongs above the first table"
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"unknown key; did you mean {quoted(near[0])}?"
    return f"unknown key; there are {', '.join(sorted(known))}"


def _kind(value: object) -> str:
    """What stands where a table should. Text is not repeated: it could be a secret."""
    return "text" if isinstance(value, str) else shown(value)
