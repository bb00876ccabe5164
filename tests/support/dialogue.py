"""A dialogue with a server that reads like an RFC.

    client.says("USER alice", 331)
    client.says("PASS secret", 230)

Its sockets block, with deadlines. So a test whose server runs in the same process has to use it in
a thread.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import struct
from types import TracebackType
from typing import Self

CLOCK = 0.002
"""Seconds that a timer may be early: the clock of libuv's loop counts milliseconds."""
DEADLINE = 20.0


def reset(sock: socket.socket) -> None:
    """Close a connection with RST, as if the client had crashed."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def rest_of(sock: socket.socket) -> bytes:
    """All that still comes, until the connection ends, by FIN or by an error."""
    received = bytearray()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while block := sock.recv(1 << 16):
            received += block
    return bytes(received)


class Dialogue:
    """The client's end of one control connection."""

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        greeting: int | None = 220,
        source: str | None = None,
    ) -> None:
        """``source``: the client's own address, one of loopback."""
        self.host = host
        self.source = source
        come_from = None if source is None else (source, 0)
        self.sock = socket.create_connection((host, port), DEADLINE, come_from)
        self._buffer = b""
        if greeting is not None:
            try:
                self.expects(greeting)
            except BaseException:
                self.sock.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self, line: str | bytes) -> None:
        """Send a line, CRLF is added."""
        data = line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape")
        self.sock.sendall(data + b"\r\n")

    def line(self) -> str:
        """The next line of a reply, without CRLF. Raises EOFError at the end."""
        while b"\n" not in self._buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(self._buffer)
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        assert line.endswith(b"\r"), line
        return line[:-1].decode("utf-8", "surrogateescape")

    def reply(self) -> tuple[int, str]:
        """The next reply: its code, and its whole text (lines joined by newlines)."""
        lines = [self.line()]
        code = lines[0][:3]
        assert re.fullmatch(r"[1-5]\d\d[ -].*", lines[0]), lines[0]
        if lines[0][3] == "-":
            while not lines[-1].startswith(code + " "):
                lines.append(self.line())
        return int(code), "\n".join(lines)

    def expects(self, *codes: int) -> str:
        """The next reply, which must have one of these codes; its text."""
        code, text = self.reply()
        assert code in codes, f"expected {codes}, got {text!r}"
        return text

    def says(self, command: str | bytes, *codes: int) -> str:
        """Send a command. Its reply must have one of these codes. Returns its text."""
        self.send(command)
        code, text = self.reply()
        assert code in codes, f"{command!r}: expected {codes}, got {text!r}"
        return text

    def logs_in(self, user: str = "user", password: str = "12345", *, binary: bool = True) -> None:
        self.says(f"USER {user}", 331)
        self.says(f"PASS {password}", 230)
        if binary:
            self.says("TYPE I", 200)

    def guesses(self, user: str = "user", password: str = "wrong") -> tuple[int, str]:
        """Try a password. Returns code and text of the reply."""
        self.says(f"USER {user}", 331)
        self.send(f"PASS {password}")
        return self.reply()

    def epsv(self) -> int:
        """The data port that EPSV names."""
        match = re.search(r"\(\|\|\|(\d+)\|\)", self.says("EPSV", 229))
        assert match is not None
        return int(match[1])

    def pasv(self) -> tuple[str, int]:
        """The address and data port that PASV names."""
        match = re.search(r"\((\d+,\d+,\d+,\d+),(\d+),(\d+)\)", self.says("PASV", 227))
        assert match is not None
        return match[1].replace(",", "."), int(match[2]) * 256 + int(match[3])

    def passive(self, *, window: int | None = None) -> socket.socket:
        """Open a data connection with EPSV. ``window``: the size of its receive buffer."""
        port = self.epsv()
        data = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        data.settimeout(DEADLINE)
        if window is not None:
            data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        try:
            if self.source is not None:
                data.bind((self.source, 0))
            data.connect((self.host, port))
        except BaseException:
            data.close()
            raise
        return data

    def begins(self, command: str | bytes, *, window: int | None = None) -> socket.socket:
        """Begin a transfer, and wait for 150. Returns the data connection."""
        data = self.passive(window=window)
        try:
            self.says(command, 150)
        except BaseException:
            data.close()
            raise
        return data

    def has_more(self) -> bool:
        """Whether something has been received that no reply was read from."""
        return bool(self._buffer)

    def finds_silence(self, seconds: float) -> None:
        """Assert that nothing comes for so long: neither a reply nor the end."""
        assert not self._buffer, self._buffer
        assert not select.select([self.sock], [], [], seconds)[0], self.sock.recv(4096)

    def downloads(self, command: str | bytes, *final: int) -> bytes:
        """The data that a command such as RETR or LIST sends over a passive data connection."""
        with self.passive() as data:
            self.says(command, 150)
            received = b"".join(iter(lambda: data.recv(1 << 16), b""))
        self.expects(*(final or (226,)))
        return received

    def uploads(self, command: str | bytes, content: bytes, *final: int) -> str:
        """Send ``content`` with a command such as STOR; the text of its final reply."""
        with self.passive() as data:
            self.says(command, 150)
            data.sendall(content)
        return self.expects(*(final or (226,)))

    def is_closed(self) -> bool:
        """Whether the server has closed the connection, with nothing more to say."""
        try:
            data = self._buffer or self.sock.recv(1)
        except ConnectionResetError:
            return True
        return not data
