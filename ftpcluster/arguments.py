"""What the library is given: looked at when it is given, since later every client would be hit."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Any

from ftpcluster.protocol.address import Networks
from ftpcluster.protocol.pattern import is_name_pattern


def check_numbers(**given: float | None) -> None:
    """Numbers from 0 on, or None, by keyword. Raises ValueError."""
    for keyword, value in given.items():
        if value is not None and not (isinstance(value, int | float) and value >= 0):
            raise ValueError(f"{keyword}: expected a number or None, got {value!r}")


def check_truths(**given: bool) -> None:
    """Raises ValueError for all but True and False: "no" and "0" would be true."""
    for keyword, value in given.items():
        if not isinstance(value, bool):
            raise ValueError(f"{keyword}: expected True or False, got {value!r}")


def check_lines(**given: str) -> None:
    """Texts that are sent as one line each. Raises ValueError."""
    for keyword, text in given.items():
        if not isinstance(text, str) or len(text.splitlines()) > 1 or text.endswith(("\r", "\n")):
            raise ValueError(f"{keyword}: expected one line of text, got {text!r}")


def check_encoding(name: str) -> None:
    """Raises ValueError where Python has no such encoding, or it is not one for lines of FTP."""
    try:
        suits = "A\r\n".encode(codecs.lookup(name).name) == b"A\r\n"
    except (LookupError, TypeError):
        suits = False
    if not suits:
        raise ValueError(f'encoding: expected one such as "utf-8" or "latin-1", got {name!r}')


def ports(given: Iterable[int] | None) -> tuple[int, ...] | None:
    """Ports for data connections. Raises ValueError."""
    if given is None:
        return None
    found = _several(given)
    if found is None or not all(isinstance(port, int) and 0 < port < 65536 for port in found):
        raise ValueError(f"data_ports: expected ports such as range(50000, 51000), got {given!r}")
    return found


def patterns(keyword: str, given: Iterable[str]) -> tuple[str, ...]:
    """Patterns of names. Raises ValueError."""
    found = _several(given)
    if found is None or not all(map(is_name_pattern, found)):
        raise ValueError(f'{keyword}: expected patterns of names, such as ["*.tmp"], got {given!r}')
    return found


def networks(keyword: str, given: Iterable[object]) -> Networks:
    """Networks, as text or as objects of ``ipaddress``. Raises ValueError."""
    found = _several(given)
    try:
        return Networks(map(str, found if found is not None else [""]))
    except ValueError:
        raise ValueError(
            f'{keyword}: expected networks, such as ["10.0.0.0/8"], got {given!r}'
        ) from None


def _several(given: Any) -> tuple[Any, ...] | None:
    """What a sequence has; None where it is none. Text is one value."""
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else None
