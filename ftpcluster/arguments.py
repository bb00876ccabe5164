"""Checks of the library's arguments when they are given: later an error would hit every client."""

from __future__ import annotations

import codecs
import datetime
from collections.abc import Iterable
from typing import Any

from ftpcluster.protocol.address import Networks
from ftpcluster.protocol.pattern import is_name_pattern


def check_numbers(**given: float | None) -> None:
    """Raises ValueError, with the keyword, for what is neither None nor a number of at least 0."""
    for keyword, value in given.items():
        if value is not None and not (isinstance(value, int | float) and value >= 0):
            raise ValueError(f"{keyword}: expected a number of at least 0 or None, got {value!r}")


def check_texts(**given: str | None) -> None:
    """Raises TypeError for what is neither None nor a text: no login would ever be equal to it."""
    for keyword, value in given.items():
        if value is not None and not isinstance(value, str):
            # not the value: it may be a password
            raise TypeError(f"{keyword}: expected a str or None, got {type(value).__name__}")


def check_port(port: int | None) -> None:
    """Raises ValueError for what is no port: of 70000 the C library makes 4464."""
    if port is not None and not (isinstance(port, int) and 0 <= port < 65536):
        raise ValueError(f"port: expected a number from 0 to 65535, got {port!r}")


def check_booleans(**given: bool) -> None:
    """Raises ValueError for what is not a bool: "no" and "0" would count as true."""
    for keyword, value in given.items():
        if not isinstance(value, bool):
            raise ValueError(f"{keyword}: expected True or False, got {value!r}")


def check_lines(**given: str) -> None:
    """Raises ValueError for a text that is more than one line: each is sent as one."""
    for keyword, text in given.items():
        if not isinstance(text, str) or len(text.splitlines()) > 1 or text.endswith(("\r", "\n")):
            raise ValueError(f"{keyword}: expected one line of text, got {text!r}")


def check_encoding(name: str) -> None:
    """Raises ValueError for an encoding that Python lacks, or that does not keep ASCII."""
    try:
        suits = "A\r\n".encode(codecs.lookup(name).name) == b"A\r\n"
    except (LookupError, TypeError):
        suits = False
    if not suits:
        raise ValueError(f'encoding: expected one such as "utf-8" or "latin-1", got {name!r}')


def day(given: datetime.date | None) -> datetime.date | None:
    """Raises TypeError: a date and time, or text, could not be compared with today."""
    if given is not None and type(given) is not datetime.date:
        raise TypeError(f"expires: expected a datetime.date or None, got {given!r}")
    return given


def ports(given: Iterable[int] | None) -> tuple[int, ...] | None:
    """Check ports for data connections. Raises ValueError."""
    if given is None:
        return None
    found = _several(given)
    if found is None or not all(isinstance(port, int) and 0 < port < 65536 for port in found):
        raise ValueError(f"data_ports: expected ports such as range(50000, 51000), got {given!r}")
    return found


def patterns(keyword: str, given: Iterable[str]) -> tuple[str, ...]:
    """Check patterns of names. Raises ValueError."""
    found = _several(given)
    if found is None or not all(map(is_name_pattern, found)):
        raise ValueError(f'{keyword}: expected patterns of names, such as ["*.tmp"], got {given!r}')
    return found


def networks(keyword: str, given: Iterable[object]) -> Networks:
    """Networks from texts or objects of ``ipaddress``. Raises ValueError."""
    found = _several(given)
    try:
        return Networks(map(str, found if found is not None else [""]))
    except ValueError:
        raise ValueError(
            f'{keyword}: expected networks, such as ["10.0.0.0/8"], got {given!r}'
        ) from None


def _several(given: Any) -> tuple[Any, ...] | None:
    """The items of an iterable; None for anything else, and for a string, which is one value."""
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else None
