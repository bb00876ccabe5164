"""Single values of a configuration: how each is written, and what is read from that."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Annotated, Any

from ftpcluster.config.units import parse_duration, parse_size
from ftpcluster.passwords import BadHash, check_hash, foreign_kind, is_hash
from ftpcluster.protocol.address import is_ipv4, without_zone
from ftpcluster.protocol.pattern import is_name_pattern

_LOGIN = re.compile(r"[^:\s\x00-\x1f\x7f]{1,255}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_NUMBERS = re.compile(r"[0-9.]+")
_ADDRESS_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):(\d{1,5})")
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)\]")
_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})", re.ASCII)
_OBJECT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_OCTAL = re.compile("0?[0-7]{3}")
_RUN_AS = re.compile(r"[^:\s\x00-\x1f\x7f]+(:[^:\s\x00-\x1f\x7f]+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST = 366 * 24 * 3600
_MOST_BYTES = 10**15
_MOST_CONNECTIONS = 10**9
_MOST_WORKERS = 1024
_MOST_THREADS = 1024
_MOST_FAILURES = 1000
LEAST_AGE = 60
LEAST_MEMORY = 100 * 10**6
"""A worker that has just started has a third of it; less would be a new worker each minute."""
PLAIN = "plain:"


class Unfit(ValueError):
    """A value cannot be used; the text says why, where "expected … got …" would not."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """A kind of value.

    ``expected`` says in a message what should have stood there. ``read`` makes the value of what
    stands there, or raises ValueError. What is ``secret`` is never repeated. A ``file`` is
    relative to where it was named.
    """

    expected: str
    read: Callable[[Any], Any]
    schema: dict[str, Any] = field(default_factory=dict)
    is_secret: bool = False
    is_file: bool = False


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(value)
    return value


def _umask(value: object) -> int:
    if not _OCTAL.fullmatch(_text(value)):
        raise ValueError(value)
    return int(_text(value), 8)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(value)
    return value


def _number(least: int, most: int, value: object) -> int:
    number = _whole(value)
    if not least <= number <= most:
        raise ValueError(value)
    return number


def _matching(pattern: re.Pattern[str], value: object) -> str:
    text = _text(value)
    if not pattern.fullmatch(text):
        raise ValueError(text)
    return text


def _speed(value: object) -> int:
    speed = parse_size(value) if isinstance(value, str) else _whole(value)
    if speed < 1:
        raise ValueError(value)
    if speed > _MOST_BYTES:
        raise Unfit('is more than "1000TB"; leave it out for no limit')
    return speed


def _memory(value: object) -> int:
    size = _speed(value)
    if size < LEAST_MEMORY:
        raise ValueError(value)
    return size


def _age(value: object) -> int:
    return _duration(LEAST_AGE, value)


def _duration(least: int, value: object) -> int:
    seconds = parse_duration(value) if isinstance(value, str) else _whole(value)
    if not least <= seconds <= _LONGEST:
        raise ValueError(value)
    return seconds


def _port_range(value: object) -> tuple[int, int]:
    match = _RANGE.fullmatch(_text(value))
    if match is None:
        raise ValueError(value)
    first, last = int(match[1]), int(match[2])
    if not 0 < first <= last <= 65535:
        raise Unfit("expected ports from 1 to 65535, lower one first")
    return first, last


def _network(value: object) -> str:
    text = _text(value)
    try:
        return str(ip_network(text))
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(text) from None
    raise Unfit(f'{text} has host bits set; the network is "{meant}"')


def _networks(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(value)
    found = []
    for each in value:
        try:
            found.append(_network(each))
        except Unfit:
            raise
        except ValueError:
            raise Unfit(f"{each!r} is no network") from None
    return tuple(found)


def _announced(value: object) -> str:
    """What PASV may name."""
    text = _matching(_HOST, value)
    if _NUMBERS.fullmatch(text) and not is_ipv4(text):
        raise ValueError(text)
    return text


def _address(value: object) -> str:
    """What a socket may be bound to: an address, with a zone where it needs one, or a name."""
    text = _text(value)
    try:
        without_zone(text)
    except ValueError:
        return _announced(text)
    return text


def _address_port(value: object) -> tuple[str, int]:
    """``127.0.0.1:9121``, ``[::1]:9121``."""
    match = _ADDRESS_PORT.fullmatch(_text(value))
    if match is None or int(match[3]) > 65535:
        raise ValueError(value)
    host = match[1] or match[2]
    try:
        return str(ip_address(host)), int(match[3])
    except ValueError:
        raise ValueError(value) from None


def _addresses(value: object) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise ValueError(value)
    for each in texts:
        if isinstance(each, str) and (match := _BRACKETED.fullmatch(each)):
            raise Unfit(f'"{each}": without brackets, "{match[1]}"')
        try:
            _address(each)
        except ValueError:
            raise Unfit(f"{each!r} is no address to listen on") from None
    found = tuple(texts)
    plain = [str(ip_address(each)) if _is_address(each) else each for each in found]
    if twice := next((each for each in plain if plain.count(each) > 1), None):
        raise Unfit(f"{twice} is given twice")
    return found


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _line(value: object) -> str:
    text = _text(value)
    if not text or _CONTROL.search(text):
        raise ValueError(text)
    return text


def _virtual_path(value: object) -> str:
    """A path as clients see it; kept as it is looked up, without a slash at its end."""
    text = _text(value)
    parts = text.strip("/").split("/")
    if not text.startswith("/") or "\0" in text:
        raise ValueError(text)
    if parts != [""] and not {"", ".", ".."}.isdisjoint(parts):
        raise Unfit('has an empty part, "." or ".." in it')
    return "/" + "/".join(parts)


def _name_pattern(value: object) -> str:
    text = _text(value)
    if not is_name_pattern(text):
        raise ValueError(text)
    return text


def _file(value: object) -> str:
    text = _text(value)
    if not text or "\0" in text:
        raise ValueError(text)
    return text


def _password(value: object) -> str:
    text = _text(value)
    if text.startswith(PLAIN):
        secret = text.removeprefix(PLAIN)
        if not secret:
            raise Unfit("the password is empty")
        if is_hash(secret):
            raise Unfit(f'a hash stands without "{PLAIN}" before it')
        return text
    if kind := foreign_kind(text):
        raise Unfit(f"a {kind} hash cannot be checked here: a new password, see docs/moving.md")
    if not is_hash(text):
        raise ValueError
    try:
        check_hash(text)
    except BadHash as error:
        raise Unfit(f"is {error}; `ftpcluster hash` makes one") from None
    return text


def _whole_schema(least: int, most: int | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer", "minimum": least}
    return schema if most is None else {**schema, "maximum": most}


_TEXT = {"type": "string"}
_RANGE_SCHEMA = {**_TEXT, "pattern": r"^\d+-\d+$"}


def _bytes_schema(least: int) -> dict[str, Any]:
    text = {**_TEXT, "pattern": r"^\d+(\.\d+)? ?([kKMGT]i?)?B?$"}
    return {"anyOf": [_whole_schema(least), text]}


def _duration_schema(least: int) -> dict[str, Any]:
    return {
        "anyOf": [_whole_schema(least, _LONGEST), {"type": "string", "pattern": "^\\d+ ?[smh]$"}]
    }


def _counting(expected: str, most: int) -> Leaf:
    return Leaf(expected, partial(_number, 1, most), _whole_schema(1, most))


Umask = Annotated[
    int,
    Leaf(
        'three octal digits in quotation marks, such as "022"',
        _umask,
        {**_TEXT, "pattern": "^0?[0-7]{3}$"},
    ),
]
Workers = Annotated[
    int, _counting(f"a whole number of workers from 1 to {_MOST_WORKERS}", _MOST_WORKERS)
]
Count = Annotated[int, _counting("a whole number, at least 1", _MOST_CONNECTIONS)]
Threads = Annotated[int, _counting(f"a whole number from 1 to {_MOST_THREADS}", _MOST_THREADS)]
Failures = Annotated[int, _counting(f"a whole number from 1 to {_MOST_FAILURES}", _MOST_FAILURES)]
Port = Annotated[
    int, Leaf("a whole number from 0 to 65535", partial(_number, 0, 65535), _whole_schema(0, 65535))
]
Memory = Annotated[
    int, Leaf('bytes, at least "100MB", such as "500MB"', _memory, _bytes_schema(LEAST_MEMORY))
]
Speed = Annotated[int, Leaf('bytes per second such as "10MB" or "10MiB"', _speed, _bytes_schema(1))]
Size = Annotated[int, Leaf('bytes such as "4GB" or "4GiB"', _speed, _bytes_schema(1))]
_A_DURATION = 'seconds, or a time such as "30s", "5m" or "2h"'
Duration = Annotated[int, Leaf(_A_DURATION, partial(_duration, 1), _duration_schema(1))]
Age = Annotated[
    int, Leaf('a time, at least "1m", such as "24h"', _age, _duration_schema(LEAST_AGE))
]
Grace = Annotated[int, Leaf(_A_DURATION, partial(_duration, 0), _duration_schema(0))]
PortRange = Annotated[
    tuple[int, int],
    Leaf("a range such as 50000-50999", _port_range, _RANGE_SCHEMA),
]
Network = Annotated[str, Leaf('a network such as "10.0.0.0/8"', _network, _TEXT)]
NetworkList = Annotated[
    tuple[str, ...],
    Leaf(
        'an array of networks such as ["10.0.0.0/8"]',
        _networks,
        {"type": "array", "items": _TEXT},
    ),
]
Announced = Annotated[
    str, Leaf("an IPv4 address such as 203.0.113.7, or a host name", _announced, _TEXT)
]
Addresses = Annotated[
    tuple[str, ...],
    Leaf(
        "an address of this machine to listen on, or an array of them",
        _addresses,
        {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]},
    ),
]
AddressPort = Annotated[
    tuple[str, int],
    Leaf(
        'an address and a port such as "127.0.0.1:9121" or "[::1]:9121"',
        _address_port,
        {**_TEXT, "pattern": r"^(\[[0-9A-Fa-f:.]+\]|[0-9.]+):\d{1,5}$"},
    ),
]
Line = Annotated[str, Leaf("one line of text", _line, _TEXT)]
ObjectName = Annotated[
    str, Leaf("package.module:name", partial(_matching, _OBJECT), {**_TEXT, "pattern": "^.+:.+$"})
]
RunAs = Annotated[str, Leaf('a user, or "user:group"', partial(_matching, _RUN_AS), _TEXT)]
VirtualPath = Annotated[
    str, Leaf('an absolute path as clients see it, such as "/incoming"', _virtual_path, _TEXT)
]
NamePattern = Annotated[
    str, Leaf('a pattern of names, without "/", such as "*.tmp"', _name_pattern, _TEXT)
]
File = Annotated[str, Leaf("the path of a file", _file, _TEXT, is_file=True)]
Folder = Annotated[str, Leaf("the path of a folder", _file, _TEXT, is_file=True)]
Login = Annotated[
    str,  # secret, since a password could stand where the name should
    Leaf(
        "a name with no space, no colon and no control character in it",
        partial(_matching, _LOGIN),
        _TEXT,
        is_secret=True,
    ),
]
Password = Annotated[
    str,
    Leaf(
        f'a hash (`ftpcluster hash` makes one), or "{PLAIN}" with the password behind it',
        _password,
        {**_TEXT, "pattern": r"^(plain:.|\$)"},
        is_secret=True,
    ),
]
