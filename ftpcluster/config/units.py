"""Sizes and times as people write them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d{1,15})(?:\.(\d{1,3}))? ?(|[kKMGT]i?)B?", re.ASCII)
_FREQUENCY = re.compile(r"(\d{1,9}) ?/ ?(?:(\d{1,9}) ?)?([smh])", re.ASCII)
_DURATION = re.compile(r"(\d{1,9}) ?([smh])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def parse_size(text: str) -> int:
    """Bytes: "10MB" are 10⁷, "10MiB" 10 · 2²⁰, "1.5GB" 1.5 · 10⁹. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    whole, fraction, unit = match.groups()
    base = 1024 if unit.endswith("i") else 1000
    factor = base ** " kMGT".index(unit[0].replace("K", "k")) if unit else 1
    size = int(whole) * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)
    if size < 1:
        raise ValueError(text)
    return size


def parse_duration(text: str) -> int:
    """Seconds: "30s", "5m" are 300, "2h" 7200. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    return int(match[1]) * _SECONDS[match[2]]


def parse_frequency(text: str) -> tuple[int, int]:
    """A number, and the seconds in which: "60/m" is (60, 60), "5/s" (5, 1), "30/10m" (30, 600).

    Raises ValueError.
    """
    match = _FREQUENCY.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    return int(match[1]), int(match[2] or 1) * _SECONDS[match[3]]


def show_frequency(number: int, seconds: int) -> str:
    """As ``parse_frequency`` reads it."""
    time = show_duration(seconds)
    return f"{number}/{time[1:] if len(time) == 2 and time[0] == '1' else time}"


def show_size(size: int) -> str:
    """A size as ``parse_size`` reads it, in the largest unit that loses nothing."""
    for unit, factor in (
        ("TB", 10**12), ("TiB", 1 << 40), ("GB", 10**9), ("GiB", 1 << 30),
        ("MB", 10**6), ("MiB", 1 << 20), ("kB", 10**3), ("KiB", 1 << 10),
    ):  # fmt: skip
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def show_duration(seconds: int) -> str:
    """A time as ``parse_duration`` reads it, in the largest unit that loses nothing."""
    for unit, factor in (("h", 3600), ("m", 60)):
        if seconds and seconds % factor == 0:
            return f"{seconds // factor}{unit}"
    return f"{seconds}s"
