"""Speaking to a running server, from another process."""

from __future__ import annotations

import contextlib
import os
import socket

import msgspec

from ftpcluster.admin.requests import AnyReply, ChangedUser, Refused, Reload, Request

_PATIENCE = 10.0
"""Seconds for an answer: more takes only a server that is stopped, or stuck."""
_OF_RELOADS = 120.0
"""A reload starts workers first."""
_decode = msgspec.json.Decoder(AnyReply).decode


class NoServer(Exception):
    """There is nobody to speak to, or no permission; the message says what to do."""


class NotRunning(NoServer):
    """There is no server at the socket: it does not run, or has another socket."""


class OrderRefused(Exception):
    """The server says why it does not do that."""


class AdminConnection:
    """A connection to a server's admin socket. Raises NoServer."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(_PATIENCE)
        try:
            self._sock.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            self._sock.close()
            raise NotRunning(
                f"no server answers at {path}; give the one that is meant: -c FILE or --socket PATH"
            ) from None
        except TimeoutError:
            self._sock.close()
            raise NoServer(self._silent(_PATIENCE)) from None
        except OSError as error:
            self._sock.close()
            raise NoServer(
                f"{path}: {os.strerror(error.errno or 0)}; only root and the user who started "
                "the server may"
            ) from None
        self._answers = self._sock.makefile("rb")

    def ask(self, request: Request) -> AnyReply:
        """The server's answer. Raises OrderRefused, NoServer where the server ends meanwhile."""
        patience = _OF_RELOADS if isinstance(request, Reload | ChangedUser) else _PATIENCE
        self._sock.settimeout(patience)
        with contextlib.suppress(OSError):  # a refusal may have come already
            self._sock.sendall(msgspec.json.encode(request) + b"\n")
        try:
            line = self._answers.readline()
        except TimeoutError:
            raise NoServer(self._silent(patience)) from None
        except OSError:
            line = b""
        if not line:
            raise NoServer(f"the server at {self._path} has ended")
        reply: AnyReply = _decode(line)
        if isinstance(reply, Refused):
            raise OrderRefused(reply.text)
        return reply

    def _silent(self, seconds: float) -> str:
        return (
            f"the server at {self._path} has not answered for {seconds:.0f} s: "
            "its process is stopped, or stuck (its log may say why)"
        )

    def close(self) -> None:
        self._answers.close()
        self._sock.close()
