"""One command line, as most come. The compiled twin is ``_native/single_line.pyx``."""

from __future__ import annotations

import re

_ONE_LINE = re.compile(rb"([^ \r\n\xff]+)(?: ([^\r\n\xff]*))?\r*\n")


def one_line(data: bytes) -> tuple[bytes, bytes] | None:
    """Verb (upper case) and argument, where ``data`` is one whole line without Telnet commands."""
    match = _ONE_LINE.fullmatch(data)
    if match is None:
        return None
    verb, argument = match.groups(b"")
    return verb.upper(), argument
