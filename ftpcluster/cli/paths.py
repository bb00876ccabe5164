"""Flags that name a path.

Empty text is refused: otherwise an unset variable of a script would mean the current directory.
"""

from __future__ import annotations

from pathlib import Path

import click


def a_directory(text: str) -> Path:
    return Path(_given("directory", text))


def a_file(text: str) -> Path:
    return Path(_given("file", text))


def a_file_s_name(text: str) -> str:
    return _given("file", text)


def _given(what: str, text: str) -> str:
    if not text:
        raise click.BadParameter(f'expected the path of a {what}, got ""')
    return text
