"""Splits long lists of entries about users into messages that fit the channel's bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

_PORTION = 48 * 1024
_NUMBERS = 60
"""Bytes of a message's entries (a message has at most 64 KiB); and of an entry without its
login."""


class _OfAUser(Protocol):
    @property
    def login(self) -> str: ...


_Entry = TypeVar("_Entry", bound=_OfAUser)


def portions(entries: Sequence[_Entry]) -> Iterator[tuple[_Entry, ...]]:
    """Reports, grants or logins, in as many messages as they need."""
    start = size = 0
    for number, entry in enumerate(entries):
        login = entry.login
        length = _NUMBERS + (len(login) if login.isascii() else 4 * len(login))
        if size + length > _PORTION and number > start:
            yield tuple(entries[start:number])
            start, size = number, 0
        size += length
    if len(entries) > start:
        yield tuple(entries[start:])
