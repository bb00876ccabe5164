"""The declaration of a setting, and what can be read from it.

A setting is declared once, as a field of a table in ``model.py``, ``tables.py``, ``banning.py``,
``network.py`` or ``accounts.py``: its name, kind and default are the field's own, the rest stands
in its ``Setting``.
The parser, the environment, the flags, the schema, the file of ``init``, the documentation's tables
and the library's keywords are made from these declarations.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import msgspec

from ftpcluster.config.kinds import Kind, toml
from ftpcluster.config.lines import Path

_WORDS = {bool: "true or false", str: "text"}
_NOTHING = msgspec.NODEFAULT
NO_LIMIT = "no limit"
COMPUTED = "computed"
"""Marks a field of a table that is no key: it is found out when the configuration is loaded."""


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all tables. A field that has no default has to be given."""


@dataclass(frozen=True, eq=False)
class Keyword:
    """A keyword of the library's ``Server`` that stands for a setting.

    ``type`` is that of its values, as Python writes it; ``default`` is the library's own.
    """

    name: str
    type: str
    default: Any = None


@dataclass(frozen=True, eq=False)
class Setting:
    """The parts of a declaration that a field itself does not have.

    ``help`` describes the setting in a few words, for ``--help``, ``init`` and the schema; ``more``
    continues that in the documentation's table. ``otherwise`` describes the default where that is
    not a value. ``example`` is a value as a file has it, ``is_set`` whether ``init`` sets it.
    ``flag`` is the flag of ``run`` with its argument: ``"--workers N"``.

    ``session`` is the field of the sessions' ``Settings`` that has the value. If neither the file
    nor a ``server`` class sets that field, it is ``fallback``; the key's own default is then None.
    """

    help: str
    more: str = ""
    _: KW_ONLY
    otherwise: str = ""
    example: str = ""
    is_set: bool = False
    flag: str = ""
    session: str = ""
    fallback: Any = None
    keyword: Keyword | None = None

    @property
    def plain_help(self) -> str:
        """``help`` without the documentation's backticks."""
        return self.help.replace("`", "")


@dataclass(frozen=True, eq=False)
class Key:
    """A key of a table: its field, the rest of the field's annotation, and its declaration.

    The annotation is without None. A Kind in it says how a value is read, see ``kind_of``. A key
    that is a table, or an array of tables, has no declaration.
    """

    field: msgspec.structs.FieldInfo
    annotation: Any
    setting: Setting | None

    @property
    def default(self) -> Any:
        """The value if none is set; None: there is no default, or it is not a fixed value."""
        if self.setting is not None and self.setting.fallback is not None:
            return self.setting.fallback
        if self.field.default_factory is not _NOTHING or self.field.required:
            return None
        return self.field.default

    @property
    def default_text(self) -> str:
        """The default for people: a value as a file has it, in backticks, or words."""
        assert self.setting is not None
        if self.setting.otherwise:
            return self.setting.otherwise
        return "needed" if self.field.required else f"`{show(self.annotation, self.default)}`"


@functools.cache
def keys(table: type[msgspec.Struct]) -> dict[str, Key]:
    """The keys of a table."""
    return {
        field.encode_name: Key(field, *_taken_apart(field.type))
        for field in msgspec.structs.fields(table)
        if not _is_computed(field.type)
    }


def bases_of(table: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """The tables whose keys a table inherits."""
    return [each for each in table.__mro__[1:] if issubclass(each, Table)]


def own_keys_first(table: type[msgspec.Struct]) -> dict[str, Key]:
    """The keys of a table, those that it inherits at the end."""
    inherited = {name for base in bases_of(table) for name in keys(base)}
    found = keys(table)
    return {name: found[name] for name in sorted(found, key=inherited.__contains__)}


def _is_computed(hint: Any) -> bool:
    return typing.get_origin(hint) is Annotated and COMPUTED in hint.__metadata__


def _taken_apart(hint: Any) -> tuple[Any, Setting | None]:
    setting = None
    if typing.get_origin(hint) is Annotated:
        *others, last = hint.__metadata__
        if isinstance(last, Setting):
            setting = last
            hint = hint.__origin__
            for each in others:
                hint = Annotated[hint, each]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        # TOML has no null: what is optional is given or absent
        (hint,) = (each for each in typing.get_args(hint) if each is not type(None))
    return hint, setting


def table_of(annotation: Any) -> type[msgspec.Struct] | None:
    """The table of an annotation, or of its array of tables; else None."""
    if typing.get_origin(annotation) is tuple:
        (annotation, *_) = typing.get_args(annotation)
    is_table = isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)
    return annotation if is_table else None


def is_array(annotation: Any) -> bool:
    return typing.get_origin(annotation) is tuple


def every_key(table: type[msgspec.Struct], path: Path = ()) -> Iterator[tuple[Path, Key]]:
    """All keys of a table and of those in it, the tables themselves among them.

    An array of tables stands for its first one: ``("listen", 0, "port")``.
    """
    for name, key in keys(table).items():
        below = (*path, name)
        yield below, key
        inner = table_of(key.annotation)
        if inner is not None:
            yield from every_key(inner, (*below, 0) if is_array(key.annotation) else below)


def kind_of(annotation: Any) -> Kind | None:
    """How a value is read and written; None of a table, an array or a mapping."""
    if typing.get_origin(annotation) is Annotated:
        found = annotation.__metadata__[0]
        assert isinstance(found, Kind)
        return found
    read = functools.partial(msgspec.convert, type=annotation)
    if typing.get_origin(annotation) is Literal or (
        isinstance(annotation, type) and issubclass(annotation, Enum)
    ):
        choices = _choices(annotation)
        expected = f"one of {', '.join(map(toml, choices))}"
        called = ", ".join(f"`{toml(each)}`" for each in choices)
        return Kind(expected, read, {"enum": choices}, called, _show_choice)
    if annotation in _WORDS:
        name = "boolean" if annotation is bool else "string"
        return Kind(
            _WORDS[annotation], read, {"type": name}, "boolean" if annotation is bool else "text"
        )
    return None


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [each.value for each in annotation]


def _show_choice(value: Any) -> str:
    return toml(value.value if isinstance(value, Enum) else value)


def show(annotation: Any, value: Any) -> str:
    """A value as a file has it."""
    found = kind_of(annotation)
    return toml(value) if found is None else found.show(value)


def type_text(annotation: Any) -> str:
    """What the documentation's table says of a value's type."""
    found = kind_of(annotation)
    if found is not None:
        return found.type
    first, *others = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        return f"table of {type_text(first)} = {type_text(others[0])}"
    return "array of tables" if kind_of(first) is None else f"array of {type_text(first)}s"
