"""Environment variables that set keys: ``FTPCLUSTER__LIMITS__CONNECTIONS=200``."""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from ftpcluster.config.json_schema import schema_of
from ftpcluster.config.lines import Path
from ftpcluster.config.model import Config
from ftpcluster.config.naming import dotted
from ftpcluster.config.setting import every_key, is_array, keys, table_of
from ftpcluster.config.sources import PREFIX, Sources, variable_of

_INTEGER = re.compile(r"[+-]?[0-9]+(_[0-9]+)*")
_INDEX = re.compile(r"(?<=__)(0|[1-9][0-9]{0,3})(?=__|$)")  # "00" would be a second name of "0"
_NUMBER = re.compile(r"(?<=_)[0-9]+(?=_|$)")
_OF_US = "FTPCLUSTER_"
OF_A_USER = "FTPCLUSTER_USER_"
"""The prefix of variables with the password of a ``--user``."""
_OF_ACCOUNTS = variable_of(("user",))
_TRUTHS = {"true": True, "false": False}


class Environment:
    """The variables of an environment that stand for keys. Its ``repr`` shows no value."""

    def __init__(
        self, variables: Mapping[str, str] | None = None, misspelt: Mapping[str, str] | None = None
    ) -> None:
        """``misspelt``: the names of variables that are misspelt keys, each with the right name."""
        self._variables = dict(variables or {})
        self._misspelt = dict(misspelt or {})

    @property
    def names(self) -> list[str]:
        """The variables' names, sorted."""
        return sorted(self._variables)

    def only(self, path: Path) -> Environment:
        """An environment with the variables of one key, and of the tables that contain it."""
        names = {variable_of(path[:end]) for end in range(1, len(path) + 1)}
        return Environment({each: self._variables[each] for each in names & self._variables.keys()})

    def doubts(self) -> Iterator[str]:
        """Warnings of variables that have no effect, but may be meant for a key."""
        for name, right in sorted(self._misspelt.items()):
            yield f"{name}: has no effect; did you mean {right}?"

    def lay_over(self, sources: Sources) -> None:
        """Set the key of each variable. A variable without a key is refused."""
        placed: dict[Path, tuple[Any, str]] = {}
        for name, text in sorted(self._variables.items()):
            found = _find(name)
            if found is None:
                sources.refuse_unplaced(f"{name}: unknown key; {_instead(name)}")
            else:
                path, annotation = found
                placed[path] = annotation, text
        for path in sorted(placed):  # a table before the keys in it
            annotation, text = placed[path]
            if _follows(sources, path):
                sources.put_variable(path, value_of(annotation, text))


def take_environment(environment: MutableMapping[str, str]) -> Environment:
    """The variables that stand for keys.

    They are removed from ``environment``: worker processes must not inherit passwords.
    """
    misspelt = {name: right for name in environment if (right := _misspelt(name))}
    for name, right in misspelt.items():
        if right.startswith(_OF_ACCOUNTS):  # others may belong to other programs
            del environment[name]
    names = [name for name in environment if name.startswith(PREFIX)]
    return Environment({name: environment.pop(name) for name in names}, misspelt)


def value_of(annotation: Any, text: str) -> Any:
    """The value of a variable's text, by the annotation of its key, as a file would have it.

    Text stays as it is. Integers, booleans, arrays and tables are written as in a file.
    """
    schema = schema_of(annotation)
    types = {each.get("type") for each in schema.get("anyOf", (schema,))}
    if "boolean" in types:
        return _TRUTHS.get(text, text)
    if "integer" in types and _INTEGER.fullmatch(text):
        return _parsed(text)
    if types & {"array", "object"} and text.startswith(("[", "{")):
        return _parsed(text)
    return text


def _parsed(text: str) -> Any:
    """Parse text as a TOML value. If it is none, the text is returned, and its key refuses that."""
    try:
        found = tomllib.loads(f"value = {text}\n")
    except (ValueError, RecursionError):  # ValueError: also of int(), for thousands of digits
        return text
    return found["value"] if len(found) == 1 else text  # a line break, and other keys behind it


def _find(name: str) -> tuple[Path, Any] | None:
    """The key that a variable stands for, and its annotation."""
    path: Path = ()
    annotation: Any = Config
    for part in name.removeprefix(PREFIX).split("__"):
        table = table_of(annotation)
        if table is None or part != part.upper():
            return None
        if is_array(annotation):
            if not _INDEX.fullmatch(f"__{part}", 2):
                return None
            path, annotation = (*path, int(part)), table
        elif part.lower() in keys(table):
            path, annotation = (*path, part.lower()), keys(table)[part.lower()].annotation
        else:
            return None
    return path, annotation


def _instead(name: str) -> str:
    """Advice for a variable that has no key: the most similar name, if any. It has the indices of
    the wrong name.
    """
    indices = (found[0] for found in _INDEX.finditer(name))
    known = [variable_of(path).removeprefix(PREFIX) for path, _ in every_key(Config)]
    wrong = _INDEX.sub("0", name.upper()).removeprefix(PREFIX)
    near = difflib.get_close_matches(wrong, known, 1)
    if not near:
        return "the keys are in docs/configuration.md"
    variable = _INDEX.sub(lambda found: next(indices, found[0]), PREFIX + near[0])
    return f"did you mean {variable}?"


def _misspelt(name: str) -> str | None:
    """The right name, where underscores are missing or letters are small: otherwise a limit would
    not hold, and nobody would notice. None for variables of other programs.
    """
    if name.startswith((PREFIX, OF_A_USER)) or not name.upper().startswith(_OF_US):
        return None
    indices = iter(_NUMBER.findall(name))
    right = _by_flat_names().get(_flat(name))
    return None if right is None else _INDEX.sub(lambda found: next(indices, found[0]), right)


@functools.cache
def _by_flat_names() -> dict[str, str]:
    keys_alone = (path for path, key in every_key(Config) if key.setting is not None)
    return {_flat(name): name for name in map(variable_of, keys_alone)}


def _flat(name: str) -> str:
    return _NUMBER.sub("0", re.sub("_+", "_", name.upper()))


def _follows(sources: Sources, path: Path) -> bool:
    """Whether each index is that of an existing table, or the next one. If not, it is refused."""
    for end, index in enumerate(path):
        if not isinstance(index, int):
            continue
        above = sources.get(path[:end])
        count = len(above) if isinstance(above, list) else 0
        if index > count:
            before = variable_of((*path[:end], count, *path[end + 1 :]))
            table = dotted(tuple(key for key in path[:end] if isinstance(key, str)))
            there_are = "there is 1" if count == 1 else f"there are {count}"
            sources.refuse_unplaced(
                f"{variable_of(path)}: expected {before}, as {there_are} [[{table}]] before it"
            )
            return False
    return True
