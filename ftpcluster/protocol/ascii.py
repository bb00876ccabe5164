"""TYPE A (RFC 959 section 3.1.1.1): lines end in CRLF on the wire and in LF in files."""

from __future__ import annotations

import re

_BARE_LF = re.compile(rb"(?<!\r)\n")


class ToNetwork:
    """Converts LF to CRLF. A CRLF of the file stays as it is, also where two blocks share it."""

    __slots__ = ("_after_cr",)

    def __init__(self) -> None:
        self._after_cr = False

    def convert(self, data: bytes) -> bytes:
        if not data:
            return data
        skip = self._after_cr and data.startswith(b"\n")
        self._after_cr = data.endswith(b"\r")
        if skip:
            return b"\n" + _BARE_LF.sub(b"\r\n", data[1:])
        return _BARE_LF.sub(b"\r\n", data)


class FromNetwork:
    """Converts CRLF to LF, also where two reads share it. A CR without LF stays."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = False

    def convert(self, data: bytes) -> bytes:
        if not data:
            return data
        if self._held:
            data = b"\r" + data
        self._held = data.endswith(b"\r")
        if self._held:
            data = data[:-1]
        return data.replace(b"\r\n", b"\n")

    def flush(self) -> bytes:
        """The CR that ``convert`` still holds, if the data ended with one. Called at the end."""
        held, self._held = self._held, False
        return b"\r" if held else b""
