"""The sessions' ``Settings`` of a configuration, by the declarations of its keys."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import msgspec

from ftpcluster.config.lines import Path
from ftpcluster.config.model import Config
from ftpcluster.config.setting import Key, every_key


def _of_sessions() -> Iterator[tuple[str, Path, Key]]:
    for path, key in every_key(Config):
        if key.setting is not None and key.setting.session:
            yield key.setting.session, path, key


def session_defaults() -> dict[str, Any]:
    """The defaults of all keys that sessions know, by the fields of ``Settings``."""
    return {name: _default(key) for name, _, key in _of_sessions()}


def _default(key: Key) -> Any:
    make = key.field.default_factory
    return key.default if make is msgspec.NODEFAULT else make()


def session_settings(config: Config) -> dict[str, Any]:
    """The values that a configuration sets, by the fields of ``Settings``."""
    found = {}
    for name, path, key in _of_sessions():
        *above, last = map(str, path)
        table: Any = operator.attrgetter(*above)(config) if above else config
        value = key.default if table is None else getattr(table, last)
        if value is not None and value != {}:
            found[name] = value
    return found


def keepalive_of(config: Config) -> int:
    """The seconds of TCP keepalive that control connections inherit from their listener."""
    seconds: int = {**session_defaults(), **session_settings(config)}["keepalive"]
    return seconds
