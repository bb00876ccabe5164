"""An FTP client that costs as little as Python lets it, so that the server is what is measured."""

from __future__ import annotations

import re
import socket
import ssl
import struct
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = struct.pack("ll", 30, 0)
"""As the kernel takes it: time-outs of Python's own would cost a poll for each call."""
_IP_BIND_ADDRESS_NO_PORT = 24
_BLOCK = 1 << 20


class Refused(Exception):
    """The server said something else than what was hoped for."""


FAILURES = (Refused, OSError, EOFError)
"""What an operation may raise."""


@dataclass(frozen=True)
class Target:
    """Where a server is, and whom it lets in. ``authority``: of its certificate, for TLS."""

    port: int
    login: str
    password: str
    authority: Path | None = None


class Client:
    """One control connection at a time, by the client of that ``number``.

    Each has an address of its own: ports of connections that have ended are not free at once, and
    many short sessions from one address would run out of them.
    """

    def __init__(self, target: Target, number: int) -> None:
        self.number = number
        self._target = target
        self._source = (f"127.0.{1 + number // 250}.{1 + number % 250}", 0)
        self._has_epsv = True
        self._context: ssl.SSLContext | None = None
        if target.authority is not None:
            self._context = ssl.create_default_context(cafile=target.authority)
        self._sink = bytearray(0)
        self.last = "connect"

    # ------------------------------------------------------------------ the control connection

    def logs_in(self) -> None:
        """Connect, begin TLS where the target has it, and log in. Raises FAILURES."""
        self.last = "connect"
        self._received = b""
        self._control = self._dial(self._target.port)
        self._control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._expects(b"2")
        if self._context is not None:
            self.says("AUTH TLS")
            self._control = self._context.wrap_socket(self._control, server_hostname="localhost")
        if self.says(f"USER {self._target.login}", b"23").startswith(b"3"):
            self.says(f"PASS {self._target.password}")
        if self._context is not None:
            self.says("PBSZ 0")
            self.says("PROT P")

    def quits(self) -> None:
        self.says("QUIT")
        self._control.close()

    def says(self, command: str, hoped: bytes = b"2") -> bytes:
        """The last line of the reply; its code has to begin with one of these digits."""
        self.last = command
        self._control.sendall(command.encode() + b"\r\n")
        return self._expects(hoped)

    def _expects(self, hoped: bytes) -> bytes:
        line = self._reply()
        if line[0] not in hoped:
            raise Refused(line.decode(errors="replace").strip())
        return line

    def _reply(self) -> bytes:
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if not newline:
                data = self._control.recv(8192)
                if not data:
                    raise EOFError("the server closed the control connection")
                self._received += data
                continue
            self._received = rest
            if line[3:4] == b" " and line[:3].isdigit():
                return line

    # ------------------------------------------------------------------ data connections

    def begins(self, command: str) -> socket.socket:
        """Begin a transfer: its data connection, once 1xx has come. ``ends`` ends it."""
        data = self._dial(self._data_port())
        try:
            self.says(command, b"1")
            if self._context is None:
                return data
            assert isinstance(self._control, ssl.SSLSocket)
            return self._context.wrap_socket(
                data, server_hostname="localhost", session=self._control.session
            )
        except BaseException:
            data.close()
            raise

    def ends(self, data: socket.socket) -> None:
        """End a transfer: the server has to say that it is whole."""
        if isinstance(data, ssl.SSLSocket):
            try:
                data = data.unwrap()
            except OSError:
                pass  # many close without close_notify; their reply says whether it was whole
        data.close()
        self._expects(b"2")

    def fetches(self, command: str) -> int:
        """A whole transfer to here: how much came."""
        data = self.begins(command)
        count = self._discards(data)
        self.ends(data)
        return count

    def _discards(self, data: socket.socket) -> int:
        """How much comes until the connection ends. The kernel keeps it, where there is no TLS."""
        if not self._sink:
            self._sink = bytearray(_BLOCK)
        flags = 0 if isinstance(data, ssl.SSLSocket) else socket.MSG_TRUNC
        receive, sink, total = data.recv_into, self._sink, 0
        while count := receive(sink, _BLOCK, flags):
            total += count
        return total

    def _data_port(self) -> int:
        if self._has_epsv:
            line = self.says("EPSV", b"25")
            if match := re.search(rb"\(\|\|\|(\d+)\|\)", line):
                return int(match[1])
            self._has_epsv = False
        match = re.search(rb"(\d+),(\d+)\)?\D*$", self.says("PASV"))
        if match is None:
            raise Refused("PASV named no port")
        return int(match[1]) * 256 + int(match[2])

    def _dial(self, port: int) -> socket.socket:
        sock = socket.socket()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind(self._source)
            sock.connect(("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return sock
