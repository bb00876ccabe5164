"""A configuration before it is decoded: a file, with environment and flags laid over it.

The origin of each value is kept, so that messages can name it.
"""

from __future__ import annotations

import copy
import itertools
import os
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from ftpcluster.config.kinds import Kind
from ftpcluster.config.lines import Path
from ftpcluster.config.model import ConfigError
from ftpcluster.config.naming import dotted, shown
from ftpcluster.config.toml_files import TomlFile

_BEHIND = (1 << 30, 0)
"""The place by which problems of flags are sorted: after those of the files."""
PREFIX = "FTPCLUSTER__"
"""The prefix of variables that set keys."""


class _Label(NamedTuple):
    """What messages call a value: a flag, with its value behind it, or a variable's name."""

    text: str
    is_variable: bool


class FilePlace(NamedTuple):
    """Where a value stands: the file and the path in it, and where that file comes among others."""

    file: TomlFile | None
    path: Path
    rank: int

    @property
    def line(self) -> int:
        return 1 if self.file is None else self.file.line(self.path)


class Sources:
    """The given values, as ``tomllib`` makes them, and the problems found in them.

    What is wrong with an account is kept apart (``account_problems``): it harms no other account.
    """

    def __init__(self, file: FilePath | None = None, directory: str = "") -> None:
        """Without a ``file`` there are no values. Raises ConfigError where the file cannot be read.
        ``directory``: relative names begin there; if it is empty, in the current directory.
        """
        self.file = file
        self.directory = directory
        self._main = None if file is None else TomlFile(file, directory)
        self.values: dict[str, Any] = {} if self._main is None else self._main.values()
        self._in_file = copy.deepcopy(self.values)
        self._user_files: dict[Path, FilePlace] = {}
        self._origins: dict[Path, Path] = {}
        self._labels: dict[Path, _Label] = {}
        self._problems: list[tuple[tuple[int, int], str]] = []
        self.account_problems: dict[Path, list[tuple[tuple[int, int], str]]] = {}
        """By account, such as ("user", 0): what is wrong with it, each with its place."""
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

    def passwords_in_files(self) -> dict[str, list[str]]:
        """By file: the passwords in it, even if flags replace them."""
        found: dict[str, list[str]] = {}
        for index, user in enumerate(_tables(self._in_file, "user")):
            password = user.get("password")
            if isinstance(password, str):
                found.setdefault(str(self.place(("user", index)).file), []).append(password)
        return found

    def add_user(self, table: object, file: TomlFile, path: Path, rank: int) -> None:
        """Add a table ``[[user]]`` of another file, which stands at ``path`` there."""
        for values in (self.values, self._in_file):
            users = values.setdefault("user", [])
            if not isinstance(users, list):
                return  # which is refused
            users.append(copy.deepcopy(table))
        self._user_files[("user", len(self.values["user"]) - 1)] = FilePlace(file, path, rank)

    def inherit(self, path: Path, value: object, origin: Path) -> None:
        """Set a value that an account does not have itself. It is given at ``origin``."""
        self._put(path, value)
        self._origins[path] = origin

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

    def put_draft(self, path: Path, value: object, label: str) -> None:
        """Set a value that no file has yet. ``label`` is its name in messages."""
        self._put_labelled(path, value, _Label(label, is_variable=True))

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
        path = self.origin(path)
        named_by = self.place(path).file
        if named_by is None or self._label(path) is not None:
            return os.path.abspath(os.path.join(self.directory, file))
        return os.path.join(os.path.dirname(named_by.absolute), file)

    def refuse(self, path: Path, text: str, about: str | None = None) -> None:
        """Note that the value at ``path`` is wrong. ``text`` says why, and what to do.

        ``about``: the file or directory that ``text`` is about; a flag names it already.
        """
        self._wrong.add(path)
        self._above_wrong.update(path[:end] for end in range(len(path)))
        label = self._label(path)
        problem = self._rank(path), self._said(path, text, about)
        account = account_of(path)
        if account is None or (label is not None and not label.is_variable):
            self._problems.append(problem)
        else:
            self.account_problems.setdefault(account, []).append(problem)

    def refuse_accounts(self) -> None:
        """What is wrong with accounts is an error of the whole configuration."""
        for problems in self.account_problems.values():
            self._problems += problems

    def _rank(self, path: Path) -> tuple[int, int]:
        path = self.origin(path)
        if self._label(path) is not None or self._is_variables(path):
            return _BEHIND
        place = self.place(path)
        return _BEHIND if place.file is None else (place.rank, place.line)

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
        path = self.origin(path)
        label = self._label(path)
        if label is not None:
            # a variable may have a whole table in it
            below = dotted(path[self._labelled(path) :]) if label.is_variable else ""
            return f"{label.text}: {below}" if below else label.text
        if self._is_variables(path):
            return variable_of(path)
        place = self.place(path)
        line = "" if place.file is None else f"{place.file}:{place.line}: "
        return line + dotted(place.path)

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
            self.refuse_accounts()
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

    def origin(self, path: Path) -> Path:
        """Where a value is given: an account may have it from a group, or from the defaults."""
        for end in range(len(path), 0, -1) if self._origins else ():
            if path[:end] in self._origins:
                return self._origins[path[:end]] + path[end:]
        return path

    def place(self, path: Path) -> FilePlace:
        """The file in which a value stands, and where."""
        found = self._user_files.get(path[:2])
        if found is None:
            return FilePlace(self._main, path, 0)
        return found._replace(path=found.path + path[2:])


def account_of(path: Path) -> Path | None:
    """The account that a value belongs to; None of other values, and of accounts as a whole."""
    if path[0] == "user" and len(path) > 1:
        return path[:2]
    return path[:1] if path[0] == "anonymous" and len(path) > 1 else None


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
