"""Parses xferlog(5) strictly: a line that does not fit its definition is an error."""

from __future__ import annotations

import re
import time
from typing import NamedTuple


class Transfer(NamedTuple):
    time: float
    seconds: int
    host: str
    size: int
    name: str
    kind: str
    action: str
    direction: str
    access: str
    user: str
    service: str
    method: int
    authenticated: str
    completion: str


_FIELDS = re.compile(
    r"(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}) "
    r"(?P<seconds>\d+) (?P<host>\S+) (?P<size>\d+) (?P<name>\S+) (?P<kind>[ab]) "
    r"(?P<action>[CUT_]) (?P<direction>[iod]) (?P<access>[agr]) (?P<user>\S+) "
    r"(?P<service>\S+) (?P<method>[01]) (?P<authenticated>\S+) (?P<completion>[ci])"
)


def parse(line: bytes) -> Transfer:
    """One line, with its end."""
    text = line.decode("utf-8", "surrogateescape")
    assert text.endswith("\n"), text
    assert len(text.splitlines()) == 1, text
    match = _FIELDS.fullmatch(text[:-1])
    assert match is not None, text
    found = match.groupdict()
    when = time.mktime(time.strptime(found["time"], "%a %b %d %H:%M:%S %Y"))
    return Transfer(
        **{
            **found,
            "time": when,
            **{name: int(found[name]) for name in ("seconds", "size", "method")},
        }
    )


def parse_all(data: bytes) -> list[Transfer]:
    return [parse(line) for line in data.splitlines(keepends=True)]
