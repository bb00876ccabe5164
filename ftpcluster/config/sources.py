"""A configuration before it is decoded: a file, with environment and flags laid over it.

The origin of each value is kept, so that messages can name it.
"""

from __future__ import annotations

import ast
import copy
import functools
import itertools
import json
import os
import re
import shlex
import tomllib
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from ftpcluster.config.kinds import Kind
from ftpcluster.config.lines import Path, given_twice, key_lines
from ftpcluster.config.model import ConfigError
from ftpcluster.config.progress import looking_at

_WHERE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_DECLARED = re.compile(r"Cannot declare (\(.+\)) twice")
_IN_BRACES = re.compile(r"Cannot mutate immutable namespace (\(.+\))")
_OVERWRITTEN = "Cannot overwrite a value"
_HINTS = {
    "Expected '=' after a key in a key/value pair": "expected key = value",
    "Invalid statement": "expected key = value, or [table]",
    "Invalid value": "expected a value; text stands in quotation marks, yes and no are true, false",
    "Expected newline or end of document after a statement": (
        'expected the end of the line behind the value; text, such as "10MB", stands in '
        "quotation marks"
    ),
    r"Illegal character '\n'": "a text ends in another line: is a quotation mark missing?",
    "Unterminated string": "a text has no end: is a quotation mark missing?",
    r"Unescaped '\' in a string": (
        "a text in double quotation marks has a backslash in it; write two, or put the text in "
        "single ones"
    ),
    _OVERWRITTEN: "is given already, as something else; of tables that repeat, each is [[name]]",
}
"""What ``tomllib`` says, and what a person does about it."""
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 60
_BEHIND = 1 << 30
"""The line by which problems of flags are sorted: after those of the file."""
PREFIX = "FTPCLUSTER__"
"""The prefix of variables that set keys."""


class _Label(NamedTuple):
    """What messages call a value: a flag, with its value behind it, or a variable's name."""

    text: str
    is_variable: bool


class Sources:
    """The given values, as ``tomllib`` makes them, and the problems found in them."""

    def __init__(self, file: FilePath | None = None, directory: str = "") -> None:
        """Without a ``file`` there are no values. Raises ConfigError where the file cannot be read.
        ``directory``: relative names begin there; if it is empty, in the current directory.
        """
        self.file = file
        self._directory = directory
        if file is not None:
            looking_at(str(file))
        self._text = "" if file is None else _read(file, directory)
        self.values: dict[str, Any] = {} if file is None else _parse(file, self._text)
        self._in_file = copy.deepcopy(self.values)
        self._labels: dict[Path, _Label] = {}
        self._problems: list[tuple[int, str]] = []
        self.doubts: list[str] = []
        """Warnings: each with its place, what is wrong there, and what to do."""
        self._wrong: set[Path] = set()
        self._above_wrong: set[Path] = set()

    # ------------------------------------------------------------------ values

    def get(self, path: Path) -> Any:
        """What stands at a path; None where nothing does."""
        return _found(self.values, path)

    def tables(self, name: str) -> list[dict[str, Any]]:
        """The tables ``[[name]]``; an empty list even if that name is something else."""
        return _tables(self.values, name)

    def passwords_in_file(self) -> list[str]:
        """The passwords in the file, even if flags replace them."""
        given = [user.get("password") for user in _tables(self._in_file, "user")]
        return [each for each in given if isinstance(each, str)]

    def put_default(self, path: Path, value: object) -> None:
        """Set a value that a flag needs, unless there is one."""
        if self.get(path) is None:
            self._put(path, value)

    def put(self, path: Path, value: object, flag: str) -> None:
        """Set the value of a flag. ``flag`` is its name in messages.

        If the file has something else in place of a table on the path, nothing is set: that is an
        error in any case.
        """
        self._put_labelled(path, value, _Label(flag, is_variable=False))

    def put_variable(self, path: Path, value: object) -> None:
        """Set the value of an environment variable, as ``put`` does."""
        self._put_labelled(path, value, _Label(variable_of(path), is_variable=True))

    def _put_labelled(self, path: Path, value: object, label: _Label) -> None:
        self._put(path, value)
        replaced = [each for each in self._labels if each[: len(path)] == path]
        for each in replaced:
            del self._labels[each]
        self._labels[path] = label

    def _put(self, path: Path, value: object) -> None:
        above: Any = self.values
        for key, following in itertools.pairwise(path):
            above = _child(above, key, [] if isinstance(following, int) else {})
        if _child(above, path[-1], value) is not None:
            above[path[-1]] = value

    # ------------------------------------------------------------------ problems

    def absolute(self, path: Path, file: str) -> str:
        """The whole path of a file that is named at ``path``: relative to the file that names it.

        In a flag or a variable it is relative to the directory of the command.
        """
        if self.file is None or self._label(path) is not None:
            return os.path.abspath(os.path.join(self._directory, file))
        named_by = os.path.abspath(os.path.join(self._directory, self.file))
        return os.path.join(os.path.dirname(named_by), file)

    def refuse(self, path: Path, text: str, about: str | None = None) -> None:
        """Note that the value at ``path`` is wrong. ``text`` says why, and what to do.

        ``about``: the file or directory that ``text`` is about; a flag names it already.
        """
        self._wrong.add(path)
        self._above_wrong.update(path[:end] for end in range(len(path)))
        is_in_file = self.file is not None and self._label(path) is None
        is_in_file = is_in_file and not self._is_variables(path)
        line = self._line(path) if is_in_file else _BEHIND
        self._problems.append((line, self._said(path, text, about)))

    def doubt(self, path: Path, text: str, about: str | None = None) -> None:
        """Warn of the value at ``path``. The rest can be served."""
        self.doubts.append(self._said(path, text, about))

    def _said(self, path: Path, text: str, about: str | None) -> str:
        label = self._label(path)
        if about is not None and (label is None or label.is_variable):
            text = f"{about}: {text}"
        return f"{self.where(path)}: {text}"

    def where(self, path: Path) -> str:
        """The origin of the value at ``path``: a flag, a variable, or a line and its key."""
        label = self._label(path)
        if label is not None:
            # a variable may have a whole table in it
            below = dotted(path[self._labelled(path) :]) if label.is_variable else ""
            return f"{label.text}: {below}" if below else label.text
        if self._is_variables(path):
            return variable_of(path)
        line = "" if self.file is None else f"{self.file}:{self._line(path)}: "
        return line + dotted(path)

    def refuse_value(self, path: Path, value: object, how: Kind) -> None:
        """Refuse a value at ``path`` that its kind does not accept."""
        label = self._label(path)
        # a flag's label has the value already; a secret is shown nowhere
        is_hidden = how.is_secret or (label is not None and not label.is_variable)
        got = "" if is_hidden else f", got {shown(value)}"
        self.refuse(path, f"expected {how.expected}{got}")

    def refuse_unplaced(self, text: str) -> None:
        """Note a wrong flag or variable that sets no value."""
        self._problems.append((_BEHIND, text))

    def is_sound(self, *paths: Path) -> bool:
        """Whether the values at these paths were decoded: nothing wrong was found in them, in the
        tables that they are in, or in what they contain."""
        return not any(
            path in self._above_wrong
            or any(path[:end] in self._wrong for end in range(len(path) + 1))
            for path in paths
        )

    @property
    def has_problems(self) -> bool:
        """Whether anything is known to be wrong."""
        return bool(self._problems)

    def check(self) -> None:
        """Raises ConfigError with all that was found, in the order of the file's lines."""
        if self._problems:
            in_order = sorted(self._problems, key=lambda problem: problem[0])
            raise ConfigError(*dict.fromkeys(text for _, text in in_order))

    def _label(self, path: Path) -> _Label | None:
        """The label of the flag or variable that has set a path, or a table above it."""
        return self._labels.get(path[: self._labelled(path)])

    def _labelled(self, path: Path) -> int:
        """The length of the part of a path that a flag or variable has set; 0: the file did."""
        ends = range(len(path), 0, -1)
        return next((end for end in ends if path[:end] in self._labels), 0)

    def _is_variables(self, path: Path) -> bool:
        """Whether a key, or the table that it is missing in, is there by variables alone."""
        return any(
            _found(self._in_file, each) is None
            and any(
                label.is_variable and placed[: len(each)] == each
                for placed, label in self._labels.items()
            )
            for each in (path, path[:-1])
            if each
        )

    def _line(self, path: Path) -> int:
        lines = self._lines
        while path and path not in lines:
            path = path[:-1]
        return lines.get(path, 1)

    @functools.cached_property
    def _lines(self) -> dict[Path, int]:
        return key_lines(self._text)


def _tables(values: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = values.get(name)
    if isinstance(found, list) and all(isinstance(each, dict) for each in found):
        return found
    return []


def _child(above: Any, key: str | int, default: object) -> Any:
    """The value of a table or an array at a key; if there is none, ``default`` is put there. None
    where ``above`` is neither, or the key does not fit.
    """
    if isinstance(above, dict) and isinstance(key, str):
        return above.setdefault(key, default)
    if isinstance(above, list) and isinstance(key, int):
        if key == len(above):
            above.append(default)
        return above[key]
    return None


def _found(value: Any, path: Path) -> Any:
    """What stands at a path; None where nothing does."""
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def variable_of(path: Path) -> str:
    """The environment variable that stands for a key: ``FTPCLUSTER__LISTEN__0__PORT``."""
    return PREFIX + "__".join(str(key).upper() for key in path)


def dotted(path: Path) -> str:
    """``user[0].download``, as messages name a key."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += "." * bool(text) + (key if _BARE.fullmatch(key) else quoted(key))
    return text


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def shown(value: object) -> str:
    """A value in a message, as TOML writes it, if it is short."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, bool):
        return str(value).lower()
    text = quoted(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _read(file: FilePath, directory: str) -> str:
    try:
        data = FilePath(directory, file).read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: there is no such file; `ftpcluster init {shlex.quote(str(file))}` writes one"
        ) from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: not UTF-8; save the file in that encoding") from None


def _parse(file: FilePath, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _WHERE.search(str(error))
        line = match[1] if match and match[1] else str(text.rstrip().count("\n") + 1)
        why = _explained(_WHERE.sub("", str(error)), text, int(line))
        raise ConfigError(f"{file}:{line}: {why}") from None
    except ValueError:  # of int()
        raise ConfigError(f"{file}: a number has thousands of digits") from None
    except RecursionError:
        raise ConfigError(f"{file}: brackets are nested too deeply") from None


def _explained(why: str, text: str, line: int) -> str:
    """A message of ``tomllib``, in the words of the file."""
    if match := _DECLARED.fullmatch(why):
        return (
            f"[{dotted(ast.literal_eval(match[1]))}] is there already; put all its keys below one"
        )
    if match := _IN_BRACES.fullmatch(why):
        return f"{dotted(ast.literal_eval(match[1]))}: put all its keys between the braces"
    if why == _OVERWRITTEN:
        twice = given_twice("\n".join(text.split("\n")[:line]))
        if twice is not None:
            return f"{dotted(twice[0])}: is given already, in line {twice[1]}"
    return _HINTS.get(why) or why[:1].lower() + why[1:]
