"""Reading a TOML file: its text and its values. What is wrong is said in the words of the file."""

from __future__ import annotations

import ast
import functools
import os
import re
import shlex
import tomllib
from pathlib import Path as FilePath
from typing import Any

from ftpcluster.config.lines import Path, given_twice, key_lines
from ftpcluster.config.model import ConfigError
from ftpcluster.config.naming import dotted
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


class TomlFile:
    """A file: its text, and the lines of its keys, which are found when they are asked for."""

    def __init__(self, file: FilePath, directory: str = "") -> None:
        """``directory``: where relative names begin. Raises ConfigError where it cannot be read."""
        looking_at(str(file))
        self.file = file
        self.absolute = os.path.abspath(os.path.join(directory, file))
        self._text = _read(file, directory)

    def __str__(self) -> str:
        return str(self.file)

    def values(self) -> dict[str, Any]:
        """Raises ConfigError."""
        return _parse(self.file, self._text)

    def line(self, path: Path) -> int:
        """The line of a key; where it is missing, that of the table that it is missing in."""
        lines = self._lines
        while path and path not in lines:
            path = path[:-1]
        return lines.get(path, 1)

    @functools.cached_property
    def _lines(self) -> dict[Path, int]:
        return key_lines(self._text)


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
