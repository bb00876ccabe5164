"""A client that says anything, and holds the server to one final reply for each line."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from types import TracebackType
from typing import Self

from tests.support.dialogue import DEADLINE
from tests.tls.support import Client, says_close_notify

MARKS = (200, 215)
"""The codes of what is said to see whether replies and lines are in step."""


class Caller:
    """One session. ``ended``: the server has said that it is over, and closed."""

    def __init__(self, port: int, trusting: ssl.SSLContext, *, tls: bool, login: bool) -> None:
        self._client = Client(port, trusting)
        self._data: socket.socket | None = None
        self._protected = False
        self.ended = False
        try:
            if tls:
                self._client.secures()
            if login:
                self._client.logs_in(binary=False)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.sock.close()
        self._drop()

    def _drop(self) -> None:
        if self._data is not None:
            self._data.close()
            self._data = None

    def says(self, line: bytes) -> int:
        """Say a line: it gets one final reply, after a preliminary one at most. Its code."""
        assert not self.ended
        self._client.send(line)
        code, text = self._client.reply()
        if code in (125, 150):
            code, text = self._client.reply()
        assert 200 <= code < 600, (line, text)
        self._follow(line, code, text)
        return code

    def _follow(self, line: bytes, code: int, text: str) -> None:
        """Do what a client does after such a reply."""
        words = line.replace(b"\xff\xf4", b"").replace(b"\xff\xf2", b"").upper().split()
        if code in (227, 229):
            self._connect(text)
        elif code == 234:
            self._client.handshakes()
            self._protected = words[1] in (b"SSL", b"TLS-P")
        elif code in (221, 421):
            assert self._client.is_closed()
            self.ended = True
        elif code == 200 and words[:1] == [b"PROT"]:
            self._protected = words[1] == b"P"
        elif code == 200 and words[:1] == [b"CCC"]:
            self._client.sock = self._client.tls.unwrap()
        elif code in (226, 425, 426):
            self._drop()

    def _connect(self, text: str) -> None:
        """The data connection that the server awaits: it sends nothing, and says so."""
        self._drop()
        numbers = [int(number) for number in re.findall(r"\d+", text)]
        port = numbers[-1] if numbers[0] == 229 else numbers[-2] * 256 + numbers[-1]
        self._data = socket.create_connection(("127.0.0.1", port), DEADLINE)
        if not self._protected:
            self._data.shutdown(socket.SHUT_WR)
            return
        with contextlib.suppress(ssl.SSLError, ConnectionError):  # it may not be wanted any more
            self._data = self._client.wraps(self._data)
            says_close_notify(self._data)

    def is_in_step(self) -> bool:
        """No reply is missing and none is left over; nor is the session over."""
        for line, code in zip(("NOOP", "SYST"), MARKS, strict=True):
            self._client.says(line, code)
        self._client.finds_silence(0)
        return True
