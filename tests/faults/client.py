"""A client that accepts any reply code, but just one final reply to each command."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
from types import TracebackType
from typing import Self

from tests.support.dialogue import Dialogue

PATIENCE = 30.0
"""Seconds for a reply. The server's own deadlines are shorter, see ``bench``."""


class Wrong(AssertionError):
    """The server did something that no fault excuses."""


class Ended(Exception):
    """The control connection has ended."""


class Client:
    """One session. ``replies`` has the commands and the codes of their replies."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self.replies: list[tuple[str, int]] = []
        self.has_ended = False
        try:
            self._dialogue = Dialogue(port, greeting=None)
        except OSError as error:
            raise Wrong(f"the server does not accept: {error}") from error
        self._dialogue.sock.settimeout(PATIENCE)
        self.local = self._dialogue.sock.getsockname()
        self._protected = False
        try:
            self._next("greeting")
        except BaseException:
            self._dialogue.sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._leave()
        finally:
            self._dialogue.sock.close()

    def _leave(self) -> None:
        """End the session. A reply that is left over would be taken for that of NOOP or QUIT."""
        if self.says("NOOP") not in (200, 530):
            raise Wrong(f"NOOP was told {self.replies[-1][1]}: {self.replies}")
        if self.says("QUIT") != 221:
            raise Wrong(f"QUIT was told {self.replies[-1][1]}: {self.replies}")
        try:
            if not self._dialogue.is_closed():
                raise Wrong("something follows the reply to QUIT")
        except TimeoutError:
            raise Wrong("the connection stays open after QUIT") from None
        except OSError:
            pass  # TLS may be cut

    def _next(self, command: str) -> tuple[int, str]:
        try:
            code, text = self._dialogue.reply()
        except TimeoutError:
            raise Wrong(f"no reply to {command}: {self.replies}") from None
        except (EOFError, OSError) as error:
            if isinstance(error, EOFError) and error.args[0]:
                raise Wrong(f"half a reply to {command}: {error}") from error
            raise Ended(command) from error
        self.replies.append((command, code))
        if code == 421:
            with contextlib.suppress(OSError):
                if self._dialogue.is_closed():
                    raise Ended(f"{command}: {text}")
            raise Wrong(f"the connection goes on after {text}")
        return code, text

    def asks(self, command: str) -> tuple[int, str]:
        try:
            self._dialogue.send(command)
        except OSError as error:
            raise Ended(command) from error
        return self._next(command)

    def says(self, command: str) -> int:
        return self.asks(command)[0]

    def protects(self) -> bool:
        """AUTH TLS and the handshake. Returns whether the server has agreed."""
        assert self._context is not None
        if self.says("AUTH TLS") != 234:
            return False
        try:
            wrapped = self._context.wrap_socket(self._dialogue.sock)
        except TimeoutError:
            raise Wrong("no answer to a ClientHello") from None
        except OSError as error:
            raise Ended("handshake") from error
        self._dialogue.sock = wrapped
        return True

    def logs_in(self) -> bool:
        self.says("USER user")
        is_in = self.says("PASS 12345") == 230
        if is_in:
            self.says("TYPE I")
        return is_in

    def asks_protection(self) -> None:
        self.says("PBSZ 0")
        self._protected = self.says("PROT P") == 200

    # ------------------------------------------------------------------ transfers

    def opens(self, how: str) -> socket.socket | None:
        """Open a data connection, or, for PORT and EPRT, a listener; None where that is refused."""
        if how in ("PORT", "EPRT"):
            listener = socket.create_server(("127.0.0.1", 0))
            listener.settimeout(PATIENCE)
            port = listener.getsockname()[1]
            told = f"|1|127.0.0.1|{port}|"
            if how == "PORT":
                told = f"127,0,0,1,{port >> 8},{port & 255}"
            if self.says(f"{how} {told}") == 200:
                return listener
            listener.close()
            return None
        code, text = self.asks(how)
        if code not in (227, 229):
            return None
        if code == 229:
            port = int(text.split("|||")[1].split("|")[0])
        else:
            found = re.search(r"\((\d+,){4}(\d+),(\d+)\)", text)
            assert found is not None
            port = int(found[2]) * 256 + int(found[3])
        try:
            return socket.create_connection(("127.0.0.1", port), PATIENCE)
        except OSError as error:
            raise Wrong(f"nobody listens where {how} says: {error}") from error

    def begins(self, command: str, how: str = "EPSV") -> tuple[int, socket.socket | None]:
        """Send a transfer command. Returns its first reply, and the data connection."""
        data = self.opens(how)
        if data is None:
            return 0, None
        try:
            code = self.says(command)
            if how in ("PORT", "EPRT") and code < 200:
                listener, data = data, None
                with listener:
                    if not self._is_connected_to(listener):
                        return self._next(command)[0], None
                    data = listener.accept()[0]
                    data.settimeout(PATIENCE)
            if code < 200 and self._protected:
                data = self._wrapped(data)
        except BaseException:
            if data is not None:
                data.close()
            raise
        if code >= 200:
            data.close()
            return code, None
        return code, data

    def _is_connected_to(self, listener: socket.socket) -> bool:
        """Whether the server connects. One that cannot says so, and nothing is waited for."""
        if not self._dialogue.has_more():
            select.select([listener, self._dialogue.sock], [], [], PATIENCE)
        return bool(select.select([listener], [], [], 0)[0])

    def _wrapped(self, data: socket.socket) -> socket.socket:
        assert self._context is not None
        session = self._dialogue.sock.session  # type: ignore[attr-defined]
        try:
            return self._context.wrap_socket(data, session=session)
        except TimeoutError:
            raise Wrong("no answer to a ClientHello on a data connection") from None
        except OSError:
            return data  # the reply says what was wrong

    def downloads(self, command: str, how: str = "EPSV") -> tuple[int, bytes]:
        """The code of the final reply, and the data."""
        code, data = self.begins(command, how)
        if data is None:
            return code, b""
        received = bytearray()
        with data:
            try:
                while block := data.recv(1 << 18):
                    received += block
            except TimeoutError:
                raise Wrong(f"the data connection of {command} neither moves nor ends") from None
            except OSError:
                pass
        return self._next(command)[0], bytes(received)

    def uploads(self, command: str, content: bytes, how: str = "EPSV") -> int:
        """The code of the final reply."""
        code, data = self.begins(command, how)
        if data is None:
            return code
        with data:
            try:
                data.sendall(content)
                if isinstance(data, ssl.SSLSocket):
                    data.unwrap().close()
            except TimeoutError:
                raise Wrong(f"the data connection of {command} neither moves nor ends") from None
            except (OSError, ValueError):
                pass
        return self._next(command)[0]
