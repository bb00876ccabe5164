"""What the commands of ``ftpcluster user`` take: an option for each key, made from the key's
declaration, and what a shell completes."""

from __future__ import annotations

import datetime
import difflib
import os
import sys
from collections.abc import Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ftpcluster.cli.hash import asked_for, first_line
from ftpcluster.cli.user_accounts import AccountFiles
from ftpcluster.config import ConfigError, UserConfig
from ftpcluster.config.environment import Environment, take_environment, value_of
from ftpcluster.config.json_schema import schema_of
from ftpcluster.config.naming import quoted
from ftpcluster.config.setting import Key, kind_of, own_keys_first

F = TypeVar("F", bound=Callable[..., Any])
_USUAL = Path("ftpcluster.toml")
_PREFIX = "key_"
_INSTEAD = {
    "login": "a login stays: add another user, and remove this one",
    "password": "other users of the machine see arguments: `ftpcluster user passwd` asks for it",
}
"""Keys that no argument sets, and what to do."""


def settable() -> dict[str, Key]:
    """The keys that an argument may set."""
    return {name: key for name, key in own_keys_first(UserConfig).items() if name not in _INSTEAD}


# ---------------------------------------------------------------------- options


def options_of_keys(command: F) -> F:
    """Add an option for each key."""
    for name, key in reversed(settable().items()):
        assert key.setting is not None
        help_ = key.setting.plain_help
        how = kind_of(key.annotation)
        if how is not None and how.has_units:
            help_ += f": {how.expected}"
        command = click.option(
            f"--{name.replace('_', '-')}",
            _PREFIX + name,
            metavar=_metavar(key),
            shell_complete=_complete_value(name),
            help=help_[0].upper() + help_[1:],
        )(command)
    return command


def _metavar(key: Key) -> str:
    schema = schema_of(key.annotation)
    how = kind_of(key.annotation)
    if schema.get("type") == "boolean":
        return "true|false"
    if schema.get("type") == "array" and how is not None:
        return "TEXT|[TEXT, ...]"
    if schema.get("type") in ("array", "object"):
        return "TOML"
    if schema.get("format") == "date":
        return "DATE"
    if how is not None and how.is_file:
        return "PATH"
    is_number = schema.get("type") == "integer"
    return "N" if is_number else how.type.upper() if how and how.has_units else "TEXT"


def of_options(given: dict[str, str | None]) -> dict[str, Any]:
    """The values of ``options_of_keys``, by their keys, as a file has them."""
    texts = {name: given[_PREFIX + name] for name in settable()}
    return {name: in_a_file(name, text) for name, text in texts.items() if text is not None}


def of_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """The values of arguments such as ``root=/srv/ftp``. Raises ConfigError."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{text}: expected KEY=VALUE")
        known_key(name)
        if name in found:
            raise ConfigError(f"{name}: given twice")
        found[name] = in_a_file(name, value)
    return found


def known_key(name: str) -> str:
    """The name of a key that an argument may set. Raises ConfigError."""
    if name in _INSTEAD:
        raise ConfigError(f"{name}: {_INSTEAD[name]}")
    known = settable()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {quoted(near[0])}?" if near else f"there are {', '.join(known)}"
        raise ConfigError(f"{name}: unknown key; {hint}")
    return name


def in_a_file(name: str, text: str) -> Any:
    """A value as a file has it. Paths are those of the command's directory, and become whole ones.

    One network of a list needs no brackets, nor quotation marks. Raises ConfigError.
    """
    annotation = settable()[name].annotation
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{name}: not UTF-8, which a file has to be") from None
    value = value_of(annotation, text)
    schema = schema_of(annotation)
    how = kind_of(annotation)
    if isinstance(value, str):
        if how is not None and how.is_file and value:
            return os.path.abspath(value)
        if schema.get("type") == "array" and schema["items"].get("type") == "string":
            return [value]
        if schema.get("format") == "date":
            return _date(value)
    return value


def _date(text: str) -> Any:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return text  # which its key refuses


# ---------------------------------------------------------------------- passwords


def new_password(*, from_stdin: bool) -> str:
    """A password that is asked for, or comes from stdin. Raises ConfigError."""
    if from_stdin:
        return first_line()
    refuse_to_ask("no password: give --password-stdin, with the password as its first line")
    return asked_for()


def refuse_to_ask(text: str) -> None:
    """Raises ConfigError where stdin is no terminal, so that nobody could answer."""
    if not sys.stdin.isatty():
        raise ConfigError(text)


# ---------------------------------------------------------------------- where accounts are


def account_files(file: Path | None, variables: MutableMapping[str, str]) -> AccountFiles:
    """Where accounts are: in a file that is named, or in the usual one. Raises ConfigError."""
    environment = take_environment(variables)
    if file is None and (not environment.names or os.path.lexists(_USUAL)):
        if not os.path.lexists(_USUAL):
            raise ConfigError(
                f"there is no {_USUAL} here; name the configuration file of the server: -c FILE"
            )
        file = _USUAL
    return AccountFiles(file, os.getcwd(), environment)


# ---------------------------------------------------------------------- completion


def _known(context: click.Context) -> tuple[list[str], list[str]]:
    """Logins and groups. Nothing is completed where they cannot be read."""
    file = context.params.get("file") or _USUAL
    try:
        return AccountFiles(file, os.getcwd(), Environment()).names()
    except (ConfigError, OSError):
        return [], []


def complete_login(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return _beginning(_known(context)[0], incomplete)


def complete_key(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _beginning(settable(), incomplete)


def complete_assignment(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    name, equals, value = incomplete.partition("=")
    if not equals:
        return _beginning((f"{each}=" for each in settable()), name)
    choices = _choices(context, name) if name in settable() else []
    return [CompletionItem(f"{name}={each}") for each in choices if each.startswith(value)]


def _complete_value(name: str) -> Callable[..., list[CompletionItem]]:
    def complete(
        context: click.Context, _: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        how = kind_of(settable()[name].annotation)
        if how is not None and how.is_file:
            return [CompletionItem(incomplete, type="file")]
        return _beginning(_choices(context, name), incomplete)

    return complete


def _choices(context: click.Context, name: str) -> list[str]:
    if name == "group":
        return _known(context)[1]
    schema = schema_of(settable()[name].annotation)
    return ["true", "false"] if schema.get("type") == "boolean" else []


def _beginning(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(each) for each in sorted(words) if each.startswith(incomplete)]
