"""Readers of single values: each takes a value of a file, and returns the setting's value.

They raise ValueError where the key does not accept it, and Unfit where that needs a reason.
"""

from __future__ import annotations

import datetime
import re
from ipaddress import ip_address, ip_network

from ftpcluster.config.units import parse_duration, parse_frequency, parse_size
from ftpcluster.passwords import BadHash, check_hash, foreign_kind, is_hash
from ftpcluster.protocol.address import is_ipv4, without_zone
from ftpcluster.protocol.pattern import is_name_pattern

LOGIN = re.compile(r"[^:\s\x00-\x1f\x7f]{1,255}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_NUMBERS = re.compile(r"[0-9.]+")
_ADDRESS_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):(\d{1,5})")
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)\]")
_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})", re.ASCII)
OBJECT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_OCTAL = re.compile("0?[0-7]{3}")
RUN_AS = re.compile(r"[^:\s\x00-\x1f\x7f]+(:[^:\s\x00-\x1f\x7f]+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
LONGEST = 366 * 24 * 3600
_MOST_BYTES = 10**15
MOST_CONNECTIONS = 10**9
MOST_WORKERS = 1024
MOST_THREADS = 1024
MOST_FAILURES = 1000
LEAST_AGE = 60
LEAST_MEMORY = 100 * 10**6
"""A worker that has just started uses a third of it. With less, it would be replaced each
minute."""
PLAIN = "plain:"


class Unfit(ValueError):
    """A value cannot be used; the text says why, where "expected … got …" would not."""


def read_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(value)
    return value


def read_umask(value: object) -> int:
    if not _OCTAL.fullmatch(read_text(value)):
        raise ValueError(value)
    return int(read_text(value), 8)


def read_whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(value)
    return value


def read_number(least: int, most: int, value: object) -> int:
    number = read_whole(value)
    if not least <= number <= most:
        raise ValueError(value)
    return number


def read_matching(pattern: re.Pattern[str], value: object) -> str:
    text = read_text(value)
    if not pattern.fullmatch(text):
        raise ValueError(text)
    return text


def read_speed(value: object) -> int:
    speed = parse_size(value) if isinstance(value, str) else read_whole(value)
    if speed < 1:
        raise ValueError(value)
    if speed > _MOST_BYTES:
        raise Unfit('is more than "1000TB"; leave it out for no limit')
    return speed


def read_memory(value: object) -> int:
    size = read_speed(value)
    if size < LEAST_MEMORY:
        raise ValueError(value)
    return size


def read_duration(least: int, value: object) -> int:
    seconds = parse_duration(value) if isinstance(value, str) else read_whole(value)
    if not least <= seconds <= LONGEST:
        raise ValueError(value)
    return seconds


def read_frequency(value: object) -> tuple[int, int]:
    number, seconds = parse_frequency(read_text(value))
    if number < 1 or not 1 <= seconds <= LONGEST:
        raise ValueError(value)
    return number, seconds


def read_age(value: object) -> int:
    return read_duration(LEAST_AGE, value)


def read_port_range(value: object) -> tuple[int, int]:
    match = _RANGE.fullmatch(read_text(value))
    if match is None:
        raise ValueError(value)
    first, last = int(match[1]), int(match[2])
    if not 0 < first <= last <= 65535:
        raise Unfit("expected ports from 1 to 65535, lower one first")
    return first, last


def read_network(value: object) -> str:
    text = read_text(value)
    try:
        return str(ip_network(text))
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(text) from None
    raise Unfit(f'{text} has host bits set; the network is "{meant}"')


def read_networks(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(value)
    found = []
    for each in value:
        try:
            found.append(read_network(each))
        except Unfit:
            raise
        except ValueError:
            raise Unfit(f"{each!r} is no network") from None
    return tuple(found)


def read_announced(value: object) -> str:
    """An IPv4 address or host name that PASV may announce."""
    text = read_matching(_HOST, value)
    if _NUMBERS.fullmatch(text) and not is_ipv4(text):
        raise ValueError(text)
    return text


def read_address(value: object) -> str:
    """What a socket may be bound to: an address, with a zone where it needs one, or a name."""
    text = read_text(value)
    try:
        without_zone(text)
    except ValueError:
        return read_announced(text)
    return text


def read_address_port(value: object) -> tuple[str, int]:
    """``127.0.0.1:9121``, ``[::1]:9121``."""
    match = _ADDRESS_PORT.fullmatch(read_text(value))
    if match is None or int(match[3]) > 65535:
        raise ValueError(value)
    host = match[1] or match[2]
    try:
        return str(ip_address(host)), int(match[3])
    except ValueError:
        raise ValueError(value) from None


def read_addresses(value: object) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise ValueError(value)
    for each in texts:
        if isinstance(each, str) and (match := _BRACKETED.fullmatch(each)):
            raise Unfit(f'"{each}": without brackets, "{match[1]}"')
        try:
            read_address(each)
        except ValueError:
            raise Unfit(
                f"{each!r} is no address to listen on; expected an address, or a name, of this "
                "machine"
            ) from None
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


def read_line(value: object) -> str:
    text = read_text(value)
    if not text or _CONTROL.search(text):
        raise ValueError(text)
    return text


def read_virtual_path(value: object) -> str:
    """A path as clients see it; kept as it is looked up, without a slash at its end."""
    text = read_text(value)
    parts = text.strip("/").split("/")
    if not text.startswith("/") or "\0" in text:
        raise ValueError(text)
    if parts != [""] and not {"", ".", ".."}.isdisjoint(parts):
        raise Unfit('has an empty part, "." or ".." in it')
    return "/" + "/".join(parts)


def read_name_pattern(value: object) -> str:
    text = read_text(value)
    if not is_name_pattern(text):
        raise ValueError(text)
    return text


def read_file(value: object) -> str:
    text = read_text(value)
    if not text or "\0" in text:
        raise ValueError(text)
    return text


def read_date(value: object) -> datetime.date:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    return datetime.date.fromisoformat(read_text(value))


def read_password(value: object) -> str:
    text = read_text(value)
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
