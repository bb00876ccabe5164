"""TLS on a stream of ours: an ``ssl.SSLSocket`` on the raw socket, never the loop's own TLS.

The loops' transports lose the end of an upload (uvloop, at a FIN) or obey what a client put behind
AUTH in plain text (both). Here every byte passes through calls that we make.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import traceback
from collections.abc import Callable
from typing import TypeVar

from ftpcluster.descriptors import close_quietly
from ftpcluster.net.certificates import PROTOCOLS
from ftpcluster.net.poller import READ, Poller
from ftpcluster.net.readiness import Readiness
from ftpcluster.net.stream import Stream
from ftpcluster.net.tls_sessions import offer_ticket
from ftpcluster.protocol.client_hello import TooManyRecords, offered_protocols, record_size

A = TypeVar("A")
T = TypeVar("T")

CONTROL_TICKETS = 2
"""Session tickets on a control connection, which data connections resume."""
DATA_TICKETS = 0
"""None on a data connection: a client that uploads and closes without reading would answer them
with a reset, which overtakes the data that it sent."""


_OURS = frozenset(name.encode() for name in PROTOCOLS)
_NO_APPLICATION_PROTOCOL = b"\x15\x03\x01\x00\x02\x02\x78"  # a fatal alert (RFC 7301 section 3.2)


class TLSStream(Stream):
    """A stream that is encrypted once ``handshake`` is done."""

    __slots__ = (
        "_found",
        "_is_ending",
        "_ssl",
        "_wants_write",
        "context",
        "has_begun",
        "strict_eof",
    )
    is_plain = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        poller: Poller,
        fd: int,
        context: ssl.SSLContext,
        tickets: int,
        *,
        strict_eof: bool = False,
    ) -> None:
        """Takes over ``fd``, also when it fails. Raises ConnectionError where the peer is gone."""
        super().__init__(loop, poller, fd)
        self.context = context
        self.strict_eof = strict_eof  # whether an end without close_notify is an error
        self.has_begun = False  # whether something of the handshake has come
        self._wants_write = False
        self._is_ending = False
        self._found: OSError | int | None = None  # what ended ``recv_records``, for its next call
        # read when the connection's SSL object is made: one context serves both kinds
        context.num_tickets = tickets
        plain = None
        try:
            plain = socket.socket(fileno=fd)
            plain.settimeout(0)
            plain.getpeername()  # where that fails, wrap_socket would leave the descriptor open
            self._ssl = context.wrap_socket(
                plain,
                server_side=True,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
            )
        except OSError as error:
            self.fd = -1
            if plain is None:
                close_quietly(fd)
            else:
                plain.close()
            _close_half_made(error)
            raise ConnectionAbortedError(errno.ECONNABORTED, "the peer is gone") from error

    async def handshake(self) -> None:
        """Raises ConnectionError where it fails."""
        await self._check_protocols()
        while True:
            if self._poller.is_late:  # a signature takes a millisecond
                await self._poller.turn()
                if self.closed:
                    raise ConnectionAbortedError(errno.ECONNABORTED, "closed meanwhile")
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                self._acknowledge_at_once()
                await super().readable()
            except ssl.SSLWantWriteError:
                await self.writable()
            except (OSError, ValueError) as error:
                raise ConnectionAbortedError(errno.ECONNABORTED, "TLS handshake failed") from error
            else:
                self._acknowledge_at_once()
                return

    def _acknowledge_at_once(self) -> None:
        """Acknowledge at once: clients end a handshake, and go on, in small segments.

        A client sends no segment before the last one is acknowledged (Nagle's algorithm). The
        kernel would delay that by 40 ms, since the connection looks like a dialogue. Tickets of
        other servers carry the acknowledgement; we send none here.
        """
        with contextlib.suppress(OSError):  # it only takes longer
            self._ssl.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    async def _check_protocols(self) -> None:
        """Look at the ClientHello before OpenSSL does, which would let any protocol pass."""
        try:
            hello = await self._peek_at_hello()
        except TooManyRecords as error:
            raise ConnectionAbortedError(errno.ECONNABORTED, "no ClientHello") from error
        offered = offered_protocols(hello)
        if offered and _OURS.isdisjoint(offered):
            try:
                socket.socket.recv(self._ssl, len(hello))  # else close would reset, not end
                socket.socket.send(self._ssl, _NO_APPLICATION_PROTOCOL)
            except OSError:
                pass  # the client is gone
            raise ConnectionAbortedError(errno.ECONNABORTED, "the client does not speak FTP")

    async def _peek_at_hello(self) -> bytes:
        """The ClientHello, which stays unread; a part of it where the rest does not come."""
        data, waited = b"", False
        while len(data) < (size := record_size(data)):
            try:
                received = socket.socket.recv(self._ssl, size, socket.MSG_PEEK)
            except BlockingIOError:
                await super().readable()
                continue
            except OSError:
                break
            if len(received) == len(data):
                break  # the client has closed: no more will come
            data = received
            self.has_begun = True
            if len(data) < record_size(data):
                # else what is there already would end each wait at once
                waited = True
                self._ssl.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, record_size(data))
                await super().readable()
        if waited:
            self._ssl.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return data

    def offer_ticket(self) -> None:
        """Give the client one more ticket, in front of what is sent next (TLS 1.3).

        None once TLS ends: OpenSSL refuses to end it with a ticket unsent.
        """
        if not self._is_ending:
            offer_ticket(self._ssl)

    @property
    def is_resumed(self) -> bool:
        """Whether the client resumed a session that it had with this context."""
        return bool(self._ssl.session_reused)

    async def finish(self) -> None:
        """Send close_notify, also where the kernel has no room for it yet."""
        while not self.say_end():
            await self.writable()

    def say_end(self) -> bool:
        """Send close_notify; False where the kernel has no room for it.

        The peer's close_notify is not waited for, and the peer may be gone.
        """
        try:
            self._ssl.unwrap()
        except ssl.SSLWantWriteError:
            return False
        except (OSError, ValueError):
            pass
        return True

    def leave_tls(self) -> Stream:
        """The TCP connection beneath, as a stream without TLS; this stream cannot be used any more.

        TCP_NODELAY sends close_notify at once. It is small, and no FIN follows: without the option
        it would wait for the peer's acknowledgement, which comes 40 ms late.
        """
        loop, poller = self._loop, self._poller
        with contextlib.suppress(OSError):
            self._ssl.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.release()
        return Stream(loop, poller, self._ssl.detach())

    async def end_tls(self) -> int:
        """End TLS on both sides, and let go of the descriptor, which stays connected.

        Raises ConnectionError where the peer does not end it properly.
        """
        self._is_ending = True
        while True:
            try:
                self._ssl.unwrap()
            except ssl.SSLWantReadError:
                await super().readable()
            except ssl.SSLWantWriteError:
                await self.writable()
            except (OSError, ValueError) as error:
                raise ConnectionAbortedError(errno.ECONNABORTED, "TLS was not ended") from error
            else:
                self.release()
                return self._ssl.detach()

    def recv(self, count: int) -> bytes:
        return self._received(self._ssl.recv, count, b"")

    def recv_into(self, buffer: memoryview) -> int:
        return self._received(self._ssl.recv_into, buffer, 0)

    def recv_records(self, buffer: memoryview) -> int:
        """As ``recv_into``, but all records that have come: OpenSSL gives one at a time.

        The next call reports an error or the end after them: OpenSSL may not report it again.
        """
        found, self._found = self._found, None
        if isinstance(found, OSError):
            raise found
        if found is not None:
            return found
        held = self.recv_into(buffer)
        while 0 < held < len(buffer):
            try:
                count = self.recv_into(buffer[held:])
            except OSError as error:
                self._found = error
                break
            if not count:
                self._found = 0
                break
            held += count
        return held

    def _received(self, receive: Callable[[A], T], argument: A, nothing: T) -> T:
        """``nothing``: what is received at the end."""
        self._wants_write = False
        try:
            return receive(argument)
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self._wants_write = True
            raise BlockingIOError from None
        except ssl.SSLZeroReturnError:
            return nothing
        except ssl.SSLEOFError as error:
            if self.strict_eof:
                raise ConnectionAbortedError(errno.ECONNABORTED, "no close_notify") from error
            if self._is_reset():
                raise ConnectionResetError(errno.ECONNRESET, "reset by the peer") from error
            return nothing
        except ssl.SSLError as error:
            raise ConnectionAbortedError(errno.ECONNABORTED, "TLS failed") from error

    def _is_reset(self) -> bool:
        """Whether a connection that has no more to read was reset, or not read, and not ended.

        Python before 3.11.9 and 3.12.3 mistakes errors of read(2) for an end (gh-115627). Data on
        the way would be missing from an upload that got 226.
        """
        try:
            self._ssl.getpeername()  # a reset connection has none, and looks ended
            return bool(socket.socket.recv(self._ssl, 1, socket.MSG_PEEK))
        except OSError:  # also where nothing has come: so no FIN has
            return True

    def has_input(self) -> bool:
        return self._ssl.pending() > 0 or super().has_input()

    def send(self, data: bytes | memoryview) -> int:
        """As without TLS. But after BlockingIOError the same bytes have to be sent again, and not
        fewer: OpenSSL has encrypted a part of them already."""
        try:
            return self._ssl.send(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            raise BlockingIOError from None
        except ssl.SSLError as error:
            raise ConnectionAbortedError(errno.ECONNABORTED, "TLS failed") from error

    def send_last(self, data: bytes) -> int:
        return self.send(data)

    def gather_output(self) -> None:
        """Send full segments, until ``leave_tls`` or ``close``.

        OpenSSL sends record by record, and each would leave by itself and wake the client.
        """
        with contextlib.suppress(OSError):  # it only costs more
            self._ssl.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)

    def readable(self) -> Readiness:
        if self._wants_write:
            return self.writable()
        if self._ssl.pending():
            # OpenSSL has read it from the socket already: the poller will not report it
            waiter = Readiness(self._loop)
            waiter.set_result(None)
            return waiter
        return super().readable()

    def watch(self, callback: Callable[[], None]) -> None:
        super().watch(callback)
        self._look_again()

    def on_ready(self, events: int) -> None:
        super().on_ready(events)
        self._look_again()

    def _look_again(self) -> None:
        if self.fd >= 0 and self.is_watched and self._ssl.pending():
            self._loop.call_soon(self._on_pending)

    def _on_pending(self) -> None:
        if self.fd >= 0 and self.is_watched and self._ssl.pending():
            self.on_ready(READ)

    def close(self) -> None:
        if self.release() < 0:
            return
        try:
            self._ssl.unwrap()  # our close_notify; the peer's is not waited for
        except (OSError, ValueError):
            pass  # the connection is broken already, or the peer's close_notify has not come
        with contextlib.suppress(OSError):
            self._ssl.close()
        self._cancel_waits()


def _close_half_made(error: OSError) -> None:
    """Close what ``wrap_socket`` was making when the peer reset the connection.

    It has taken the descriptor by then, and only the garbage collector would close it.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        made = frame.f_locals.get("self")
        if isinstance(made, ssl.SSLSocket):
            made.close()
