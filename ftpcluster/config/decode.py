"""Decodes given values to structs, and finds all that is wrong with them in one go."""

from __future__ import annotations

import difflib
import typing
from typing import Any, TypeVar

import msgspec

from ftpcluster.config.kinds import Kind
from ftpcluster.config.lines import Path
from ftpcluster.config.model import Config
from ftpcluster.config.naming import dotted, quoted, shown
from ftpcluster.config.setting import keys, kind_of
from ftpcluster.config.sources import Sources
from ftpcluster.config.values import Unfit

T = TypeVar("T", bound=msgspec.Struct)

_WRONG: Any = None
"""Stands in the struct where the given value is wrong, or missing. It has no type that fits, so
code that reads a value before all problems are reported asks ``Sources.is_sound`` first."""


def decode(sources: Sources, annotation: type[T]) -> T:
    """The given values as a struct. Their problems are added to ``sources``.

    Where a value is wrong, the struct has None. Ask ``Sources.is_sound`` before you read one.
    """
    return _table(sources, annotation, sources.values, ())


def _value(sources: Sources, annotation: Any, value: Any, path: Path) -> Any:
    how = kind_of(annotation)
    if how is not None:
        return _single(sources, how, value, path)
    if typing.get_origin(annotation) is tuple:
        return _array(sources, typing.get_args(annotation)[0], value, path)
    if typing.get_origin(annotation) is dict:
        key, inner = typing.get_args(annotation)
        return _mapping(sources, key, inner, value, path)
    return _table(sources, annotation, value, path)


def _single(sources: Sources, how: Kind, value: Any, path: Path) -> Any:
    try:
        found = how.read(value)
    except Unfit as error:
        sources.refuse(path, str(error))
    except (ValueError, msgspec.ValidationError):
        sources.refuse_value(path, value, how)
    else:
        return sources.absolute(path, found) if how.is_file else found
    return _WRONG


def _array(sources: Sources, annotation: Any, value: Any, path: Path) -> Any:
    is_table = kind_of(annotation) is None
    if not isinstance(value, list):
        wanted = f"[[{dotted(path)}]]" if is_table and len(path) == 1 else "an array: […]"
        sources.refuse(path, f"expected {wanted}, got {_kind(value)}")
        return _WRONG
    if not value:
        sources.refuse(path, "expected at least one; leave the key out for the default")
        return _WRONG
    return tuple(
        _value(sources, annotation, each, (*path, index)) for index, each in enumerate(value)
    )


def _mapping(sources: Sources, key: Any, annotation: Any, value: Any, path: Path) -> Any:
    if not isinstance(value, dict):
        sources.refuse(path, f"expected a table: {{ … }}, got {_kind(value)}")
        return _WRONG
    return {
        _value(sources, key, name, (*path, name)): _value(sources, annotation, each, (*path, name))
        for name, each in value.items()
    }


def _table(sources: Sources, annotation: type[T], value: Any, path: Path) -> T:
    if not isinstance(value, dict):
        how = "a table" if any(isinstance(key, int) for key in path) else f"[{dotted(path)}]"
        sources.refuse(path, f"expected {how}, got {_kind(value)}")
        return typing.cast(T, _WRONG)
    known = keys(annotation)
    for name in value:
        if name not in known:
            sources.refuse((*path, name), _unknown(name, known, path))
    found: dict[str, Any] = {}
    for name, key in known.items():
        below = (*path, name)
        if name in value:
            found[key.field.name] = _value(sources, key.annotation, value[name], below)
        elif key.field.required:
            found[key.field.name] = _WRONG
            sources.refuse(below, f"is missing; expected {_words(key.annotation)}")
    return annotation(**found)


def _words(annotation: Any) -> str:
    how = kind_of(annotation)
    return "a table" if how is None else how.expected


def _unknown(name: str, known: typing.Iterable[str], path: Path) -> str:
    if path and name in (at_top := keys(Config)) and kind_of(at_top[name].annotation) is not None:
        return "no key of this table; it belongs above the first table"
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"unknown key; did you mean {quoted(near[0])}?"
    return f"unknown key; there are {', '.join(sorted(known))}"


def _kind(value: object) -> str:
    """What was given in place of a table or array. Text is not repeated: it could be a secret."""
    return "text" if isinstance(value, str) else shown(value)
