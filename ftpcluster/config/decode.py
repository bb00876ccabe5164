"""A tree of what was given → structs; whatever is wrong is found in one go, leaf by leaf."""

from __future__ import annotations

import difflib
import functools
import types
import typing
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from ftpcluster.config.leaves import Leaf, Unfit
from ftpcluster.config.lines import Path
from ftpcluster.config.model import Config
from ftpcluster.config.tree import Tree, dotted, quoted, shown

T = TypeVar("T", bound=msgspec.Struct)

_WRONG: Any = None
"""In place of what is wrong: nobody looks at it, see ``Tree.is_sound``."""
_WORDS = {bool: "true or false", str: "text"}


def decode(tree: Tree, kind: type[T]) -> T:
    """All of a tree as a struct; its problems are the tree's. Only what is sound may be used."""
    return _table(tree, kind, tree.values, ())


@functools.cache
def keys(kind: type[msgspec.Struct]) -> dict[str, tuple[msgspec.structs.FieldInfo, Any]]:
    """The keys of a table, each with its field and the kind of its value, None taken off."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        field.encode_name: (field, _given(hints[field.name]))
        for field in msgspec.structs.fields(kind)
    }


def _given(kind: Any) -> Any:
    """TOML has no null: what is optional is given or absent."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        (kind,) = (each for each in typing.get_args(kind) if each is not type(None))
    return kind


def leaf_of(kind: Any) -> Leaf | None:
    """How a kind of value is read; None where it is a table or an array."""
    if typing.get_origin(kind) is Annotated:
        leaf = kind.__metadata__[0]
        assert isinstance(leaf, Leaf)
        return leaf
    if typing.get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
        choices = _choices(kind)
        return Leaf(f"one of {', '.join(map(quoted, choices))}", _reader(kind), {"enum": choices})
    if kind in _WORDS:
        name = "boolean" if kind is bool else "string"
        return Leaf(_WORDS[kind], _reader(kind), {"type": name})
    return None


def _choices(kind: Any) -> list[str]:
    if typing.get_origin(kind) is Literal:
        return list(typing.get_args(kind))
    return [each.value for each in kind]


def _reader(kind: Any) -> typing.Callable[[Any], Any]:
    return functools.partial(msgspec.convert, type=kind)


def _value(tree: Tree, kind: Any, value: Any, path: Path) -> Any:
    leaf = leaf_of(kind)
    if leaf is not None:
        return _leaf(tree, leaf, value, path)
    if typing.get_origin(kind) is tuple:
        return _array(tree, typing.get_args(kind)[0], value, path)
    if typing.get_origin(kind) is dict:
        key, inner = typing.get_args(kind)
        return _mapping(tree, key, inner, value, path)
    return _table(tree, kind, value, path)


def _leaf(tree: Tree, leaf: Leaf, value: Any, path: Path) -> Any:
    try:
        found = leaf.read(value)
    except Unfit as error:
        tree.refuse(path, str(error))
    except (ValueError, msgspec.ValidationError):
        tree.refuse_value(path, value, leaf)
    else:
        return tree.absolute(path, found) if leaf.is_file else found
    return _WRONG


def _array(tree: Tree, kind: Any, value: Any, path: Path) -> Any:
    is_table = leaf_of(kind) is None
    if not isinstance(value, list):
        wanted = f"[[{dotted(path)}]]" if is_table and len(path) == 1 else "an array: […]"
        tree.refuse(path, f"expected {wanted}, got {_kind(value)}")
        return _WRONG
    if not value:
        tree.refuse(path, "expected at least one; leave the key out for the default")
        return _WRONG
    return tuple(_value(tree, kind, each, (*path, index)) for index, each in enumerate(value))


def _mapping(tree: Tree, key: Any, kind: Any, value: Any, path: Path) -> Any:
    if not isinstance(value, dict):
        tree.refuse(path, f"expected a table: {{ … }}, got {_kind(value)}")
        return _WRONG
    return {
        _value(tree, key, name, (*path, name)): _value(tree, kind, each, (*path, name))
        for name, each in value.items()
    }


def _table(tree: Tree, kind: type[T], value: Any, path: Path) -> T:
    if not isinstance(value, dict):
        how = "a table" if any(isinstance(key, int) for key in path) else f"[{dotted(path)}]"
        tree.refuse(path, f"expected {how}, got {_kind(value)}")
        return typing.cast(T, _WRONG)
    known = keys(kind)
    for name in value:
        if name not in known:
            tree.refuse((*path, name), _unknown(name, known, path))
    found: dict[str, Any] = {}
    for name, (field, inner) in known.items():
        below = (*path, name)
        if name in value:
            found[field.name] = _value(tree, inner, value[name], below)
        elif field.required:
            found[field.name] = _WRONG
            tree.refuse(below, f"is missing; expected {_words(inner)}")
    return kind(**found)


def _words(kind: Any) -> str:
    leaf = leaf_of(kind)
    return "a table" if leaf is None else leaf.expected


def _unknown(name: str, known: typing.Iterable[str], path: Path) -> str:
    if path and name in (at_top := keys(Config)) and leaf_of(at_top[name][1]) is not None:
        return "no key of this table; it belongs above the first table"
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"unknown key; did you mean {quoted(near[0])}?"
    return f"unknown key; there are {', '.join(sorted(known))}"


def _kind(value: object) -> str:
    """What stands where a table should. Text is not repeated: it could be a secret."""
    return "text" if isinstance(value, str) else shown(value)
