"""Kinds of values: what each is called, how it is written, read and shown, and its JSON Schema."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any

from ftpcluster.config import values
from ftpcluster.config.units import show_duration, show_frequency, show_size


def toml(value: object) -> str:
    """A value as a file has it. Sequences are arrays."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of value.

    ``expected`` describes the kind in messages, ``type`` in the documentation's tables. ``read``
    makes a value from what was given, or raises ValueError; ``show`` does the opposite. A value
    with ``is_secret`` is never shown. A path (``is_file``) is relative to the place that names it.
    """

    expected: str
    read: Callable[[Any], Any]
    schema: dict[str, Any] = field(default_factory=dict)
    type: str = "text"
    show: Callable[[Any], str] = toml
    is_secret: bool = False
    is_file: bool = False

    @property
    def has_units(self) -> bool:
        """Whether values may be text with a unit, which users have to know: sizes and times."""
        return any("pattern" in each for each in self.schema.get("anyOf", ()))


def _whole_schema(least: int, most: int | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer", "minimum": least}
    return schema if most is None else {**schema, "maximum": most}


_TEXT = {"type": "string"}


def _bytes_schema(least: int) -> dict[str, Any]:
    text = {**_TEXT, "pattern": r"^\d+(\.\d+)? ?([kKMGT]i?)?B?$"}
    return {"anyOf": [_whole_schema(least), text]}


def _duration_schema(least: int) -> dict[str, Any]:
    text = {**_TEXT, "pattern": "^\\d+ ?[smh]$"}
    return {"anyOf": [_whole_schema(least, values.LONGEST), text]}


def _counting(expected: str, most: int, called: str = "") -> Kind:
    reader = partial(values.read_number, 1, most)
    return Kind(expected, reader, _whole_schema(1, most), called or f"1 to {most}")


def _bytes(expected: str, read: Callable[[Any], int], least: int, called: str) -> Kind:
    return Kind(expected, read, _bytes_schema(least), called, lambda size: toml(show_size(size)))


def _time(expected: str, least: int, called: str = "time") -> Kind:
    return Kind(
        expected,
        partial(values.read_duration, least),
        _duration_schema(least),
        called,
        lambda seconds: toml(show_duration(seconds)),
    )


def _show_networks(networks: tuple[str, ...]) -> str:
    """Networks as people write them: without the prefix length if it is a single address."""
    return toml([each.removesuffix("/32").removesuffix("/128") for each in networks])


Umask = Annotated[
    int,
    Kind(
        'three octal digits in quotation marks, such as "022"',
        values.read_umask,
        {**_TEXT, "pattern": "^0?[0-7]{3}$"},
        'octal digits: `"022"`, `"007"`',
        lambda mask: f'"{mask:03o}"',
    ),
]
Workers = Annotated[
    int,
    _counting(f"a whole number of workers from 1 to {values.MOST_WORKERS}", values.MOST_WORKERS),
]
Count = Annotated[int, _counting("a whole number, at least 1", values.MOST_CONNECTIONS, "number")]
Threads = Annotated[
    int, _counting(f"a whole number from 1 to {values.MOST_THREADS}", values.MOST_THREADS)
]
Failures = Annotated[
    int, _counting(f"a whole number from 1 to {values.MOST_FAILURES}", values.MOST_FAILURES)
]
Port = Annotated[
    int,
    Kind(
        "a whole number from 0 to 65535",
        partial(values.read_number, 0, 65535),
        _whole_schema(0, 65535),
        "0 to 65535",
    ),
]
SourcePort = Annotated[int, _counting("a port from 1 to 65535", 65535)]
Memory = Annotated[
    int,
    _bytes(
        'bytes, at least "100MB", such as "500MB"',
        values.read_memory,
        values.LEAST_MEMORY,
        'size from `"100MB"` up',
    ),
]
Speed = Annotated[
    int,
    _bytes('bytes per second such as "10MB" or "10MiB"', values.read_speed, 1, "speed"),
]
Size = Annotated[int, _bytes('bytes such as "4GB" or "4GiB"', values.read_speed, 1, "size")]
_A_TIME = 'seconds, or a time such as "30s", "5m" or "2h"'
Duration = Annotated[int, _time(_A_TIME, 1)]
Grace = Annotated[int, _time(_A_TIME, 0)]
Age = Annotated[
    int,
    replace(
        _time('a time, at least "1m", such as "24h"', values.LEAST_AGE, 'time from `"1m"` up'),
        read=values.read_age,
    ),
]
Frequency = Annotated[
    tuple[int, int],
    Kind(
        'a number in a time, such as "60/m", "5/s" or "100/10m"',
        values.read_frequency,
        {**_TEXT, "pattern": r"^\d+ ?/ ?(\d+ ?)?[smh]$"},
        '`"number/time"`',
        lambda rate: toml(show_frequency(*rate)),
    ),
]
PortRange = Annotated[
    tuple[int, int],
    Kind(
        "a range such as 50000-50999",
        values.read_port_range,
        {**_TEXT, "pattern": r"^\d+-\d+$"},
        '`"first-last"`',
        lambda ports: '"{}-{}"'.format(*ports),
    ),
]
Network = Annotated[
    str, Kind('a network such as "10.0.0.0/8"', values.read_network, _TEXT, "network")
]
NetworkList = Annotated[
    tuple[str, ...],
    Kind(
        'an array of networks such as ["10.0.0.0/8"]',
        values.read_networks,
        {"type": "array", "items": _TEXT},
        "array of networks",
        _show_networks,
    ),
]
Announced = Annotated[
    str,
    Kind(
        "an IPv4 address such as 203.0.113.7, or a host name",
        values.read_announced,
        _TEXT,
        "IPv4 address or host name",
    ),
]
Addresses = Annotated[
    tuple[str, ...],
    Kind(
        "an address of this machine to listen on, or an array of them",
        values.read_addresses,
        {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]},
        "address, or array of them",
    ),
]
AddressPort = Annotated[
    tuple[str, int],
    Kind(
        'an address and a port such as "127.0.0.1:9121" or "[::1]:9121"',
        values.read_address_port,
        {**_TEXT, "pattern": r"^(\[[0-9A-Fa-f:.]+\]|[0-9.]+):\d{1,5}$"},
        '`"address:port"`',
    ),
]
Line = Annotated[str, Kind("one line of text", values.read_line, _TEXT)]
ObjectName = Annotated[
    str,
    Kind(
        "package.module:name",
        partial(values.read_matching, values.OBJECT),
        {**_TEXT, "pattern": "^.+:.+$"},
        '`"package.module:name"`',
    ),
]
RunAs = Annotated[
    str,
    Kind(
        'a user, or "user:group"',
        partial(values.read_matching, values.RUN_AS),
        _TEXT,
        '`"user"` or `"user:group"`',
    ),
]
VirtualPath = Annotated[
    str,
    Kind(
        'an absolute path as clients see it, such as "/incoming"',
        values.read_virtual_path,
        _TEXT,
        "absolute path within `root`",
    ),
]
NamePattern = Annotated[
    str,
    Kind(
        'a pattern of names, without "/", such as "*.tmp"',
        values.read_name_pattern,
        _TEXT,
        "pattern",
    ),
]
File = Annotated[str, Kind("the path of a file", values.read_file, _TEXT, "file", is_file=True)]
Directory = Annotated[
    str, Kind("the path of a directory", values.read_file, _TEXT, "directory", is_file=True)
]
Pattern = Annotated[
    str,
    Kind(
        'a pattern of paths such as "users.d/*.toml"',
        values.read_file,
        _TEXT,
        "pattern of paths",
        is_file=True,
    ),
]
Place = Annotated[
    str,
    Kind(
        "the path of a directory or a file",
        values.read_file,
        _TEXT,
        "path",
        is_file=True,
    ),
]
Login = Annotated[
    str,  # secret, since a password could stand where the name should
    Kind(
        "a name with no space, no colon and no control character in it",
        partial(values.read_matching, values.LOGIN),
        _TEXT,
        is_secret=True,
    ),
]
GroupName = Annotated[
    str,
    Kind(
        "a name with no space, no colon and no control character in it",
        partial(values.read_matching, values.LOGIN),
        _TEXT,
    ),
]
Date = Annotated[
    datetime.date,
    Kind(
        "a date such as 2027-01-31",
        values.read_date,
        {**_TEXT, "format": "date"},
        "date",
        lambda date: date.isoformat(),
    ),
]
Password = Annotated[
    str,
    Kind(
        f'a hash (`ftpcluster hash` makes one), or "{values.PLAIN}" with the password behind it',
        values.read_password,
        {**_TEXT, "pattern": r"^(plain:.|\$)"},
        is_secret=True,
    ),
]
