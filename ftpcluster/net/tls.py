"""TLS on a stream of ours: an ``ssl.SSLSocket`` on the raw socket, never the loop's own TLS.

The loops' transports lose the end of an upload (uvloop, at a FIN) or obey what a client put behind
AUTH in plain text (both). Here every byte passes through calls that we make.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable

from ftpcluster.net.poller import READ, Poller
from ftpcluster.net.stream import Stream
from ftpcluster.protocol.client_hello import TooManyRecords, offered_protocols, record_size

log = logging.getLogger(__name__)

CONTROL_TICKETS = 2
"""Session tickets on a control connection, which data connections resume."""
DATA_TICKETS = 0
"""None on a data connection: a client that uploads and closes without reading would answer them
with a reset, which overtakes the data that it sent."""


_ALPN = ("ftp", "ftp-data")
_OURS = frozenset(name.encode() for name in _ALPN)
_NO_APPLICATION_PROTOCOL = b"\x15\x03\x01\x00\x02\x02\x78"  # a fatal alert (RFC 7301 section 3.2)

_IGNORE_UNEXPECTED_EOF = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # since OpenSSL 3

Source = ssl.SSLContext | Callable[[], ssl.SSLContext]
"""A context, or what makes one."""


class BadCertificate(Exception):
    """Certificate or key cannot be used; the message says which and why."""


class Contexts:
    """The contexts of a server: one for all connections, or one for each control connection.

    Only the latter ties sessions of data connections to their control connection: whoever has a
    session of a context may resume it wherever that context is used.
    """

    def __init__(self, source: Source, *, one_each: bool = False, strict_eof: bool = False) -> None:
        """``strict_eof``: an end without close_notify is an error.

        Raises BadCertificate, or ValueError where ``one_each`` has nothing to make them.
        """
        if one_each and isinstance(source, ssl.SSLContext):
            raise ValueError(
                "require_session_reuse needs a context for each control connection: "
                "give a function that makes one"
            )
        self._source = source
        self._one_each = one_each
        self._strict_eof = strict_eof
        self.reload()

    def take(self) -> ssl.SSLContext:
        """The context of a new control connection, and of its data connections.

        Raises ConnectionError where none can be made, which is logged.
        """
        if self._one_each and not isinstance(self._source, ssl.SSLContext):
            try:
                return self._prepared(self._source())
            except Exception as error:
                log.error("a connection ends, since no TLS context can be made: %s", error)
                raise ConnectionAbortedError(errno.ECONNABORTED, "no TLS context") from error
        return self._current

    def reload(self) -> None:
        """Make the context anew, for connections from now on. Raises BadCertificate."""
        source = self._source
        if isinstance(source, CertificateFiles):
            source.reload()
        self._current = self._prepared(source if isinstance(source, ssl.SSLContext) else source())

    def _prepared(self, context: ssl.SSLContext) -> ssl.SSLContext:
        if not self._strict_eof:
            # else OpenSSL answers a bare FIN with a fatal alert, which clients take for a failure
            context.options |= _IGNORE_UNEXPECTED_EOF
        return context


def make_context(
    certificate: str, key: str, *, minimum_version: str = "1.2", client_ca: str | None = None
) -> ssl.SSLContext:
    """A server's context. ``client_ca``: whose certificates clients may show, else they are none.

    Raises BadCertificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion[f"TLSv{minimum_version.replace('.', '_')}"]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(_ALPN)
    if client_ca is not None:
        _trust(context, client_ca)
    for path in (certificate, key):
        try:
            with open(path, "rb"):
                pass  # load_cert_chain would not say which of the two it cannot read
        except OSError as error:
            raise BadCertificate(f"{path}: {error.strerror}") from error
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        files = certificate if certificate == key else f"{certificate}, {key}"
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadCertificate(f"{files}: the key is not that of the certificate") from error
        raise BadCertificate(f"{files}: expected a certificate and its key in PEM form") from error
    return context


def _trust(context: ssl.SSLContext, client_ca: str) -> None:
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError as error:
        raise BadCertificate(f"{client_ca}: expected certificates in PEM form") from error
    except OSError as error:
        raise BadCertificate(f"{client_ca}: {error.strerror}") from error
    context.verify_mode = ssl.CERT_OPTIONAL


def _no_password() -> str:
    raise BadCertificate("the key is protected by a password; give one that is not")


class CertificateFiles:
    """Makes contexts of certificate and key as they were when last (re)read.

    Not as they are now: a context is made for each control connection where sessions have to be
    reused, and files that are just being replaced, or broken, must not end those.
    """

    def __init__(
        self,
        certificate: str,
        key: str,
        *,
        minimum_version: str = "1.2",
        client_ca: str | None = None,
    ) -> None:
        self._paths = [certificate, key] + ([client_ca] if client_ca is not None else [])
        self._minimum_version = minimum_version
        self._copies: list[int] = []

    def reload(self) -> None:
        """Read the files. Raises BadCertificate; then nothing has changed."""
        self._make(*self._paths)  # for messages that name the files
        copies = [_copy(path) for path in self._paths]
        try:
            self._make(*(f"/proc/self/fd/{copy}" for copy in copies))
        except BadCertificate:
            _close(copies)
            raise
        _close(self._copies)
        self._copies = copies

    def __call__(self) -> ssl.SSLContext:
        return self._make(*(f"/proc/self/fd/{copy}" for copy in self._copies))

    def _make(self, certificate: str, key: str, client_ca: str | None = None) -> ssl.SSLContext:
        return make_context(
            certificate, key, minimum_version=self._minimum_version, client_ca=client_ca
        )

    def __del__(self) -> None:
        _close(self._copies)


def _copy(path: str) -> int:
    """A descriptor of an anonymous file with what is in ``path`` now."""
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with open(path, "rb") as source:
            os.write(fd, source.read())
    except OSError as error:
        os.close(fd)
        raise BadCertificate(f"{path}: {error.strerror}") from error
    return fd


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


class TLSStream(Stream):
    """A stream that is encrypted once ``handshake`` is done."""

    __slots__ = ("_ssl", "_wants_write", "context", "has_begun", "strict_eof")
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
        # read when the connection's SSL object is made: one context serves both kinds
        context.num_tickets = tickets
        plain = socket.socket(fileno=fd)
        plain.settimeout(0)
        try:
            plain.getpeername()  # where that fails, wrap_socket would leave the descriptor open
            self._ssl = context.wrap_socket(
                plain,
                server_side=True,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
            )
        except OSError as error:
            plain.close()
            self.fd = -1
            raise ConnectionAbortedError(errno.ECONNABORTED, "the peer is gone") from error

    async def handshake(self) -> None:
        """Raises ConnectionError where it fails."""
        await self._check_protocols()
        while True:
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
        """Clients send their last messages of a handshake, and what follows, in small segments.

        The next is not sent before the one before is acknowledged (Nagle), which the kernel
        would delay by 40 ms, since the connection looks like a dialogue; and no ticket of ours
        carries the acknowledgement, as those of other servers do.
        """
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
        """The ClientHello, which stays unread; what there is of it where it does not come."""
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

    @property
    def is_resumed(self) -> bool:
        """Whether the client resumed a session that it had with this context."""
        return bool(self._ssl.session_reused)

    async def finish(self) -> None:
        """Send close_notify, also where the kernel has no room for it yet."""
        while True:
            try:
                self._ssl.unwrap()
            except ssl.SSLWantWriteError:
                await self.writable()
            except (OSError, ValueError):
                return  # it is sent, and the peer's is not waited for; or the peer is gone
            else:
                return

    def half_close(self) -> int:
        """Say that no more will come (FIN) and let go of the descriptor. Raises OSError."""
        socket.socket.shutdown(self._ssl, socket.SHUT_WR)
        self.release()
        return self._ssl.detach()

    async def end_tls(self) -> int:
        """End TLS on both sides, and let go of the descriptor, which stays connected.

        Raises ConnectionError where the peer does not end it properly.
        """
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
        buffer = bytearray(count)
        return bytes(buffer[: self.recv_into(memoryview(buffer))])

    def recv_into(self, buffer: memoryview) -> int:
        self._wants_write = False
        try:
            return self._ssl.recv_into(buffer)
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self._wants_write = True
            raise BlockingIOError from None
        except ssl.SSLZeroReturnError:
            return 0
        except ssl.SSLEOFError as error:
            if self.strict_eof:
                raise ConnectionAbortedError(errno.ECONNABORTED, "no close_notify") from error
            return 0
        except ssl.SSLError as error:
            raise ConnectionAbortedError(errno.ECONNABORTED, "TLS failed") from error

    def has_input(self) -> bool:
        return self._ssl.pending() > 0 or super().has_input()

    def send(self, data: bytes | memoryview) -> int:
        try:
            return self._ssl.send(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            raise BlockingIOError from None
        except ssl.SSLError as error:
            raise ConnectionAbortedError(errno.ECONNABORTED, "TLS failed") from error

    def readable(self) -> asyncio.Future[None]:
        if self._wants_write:
            return self.writable()
        if self._ssl.pending():
            # it was read from the socket with what came before: nobody will report it
            waiter = self._loop.create_future()
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

    def _close_descriptor(self, fd: int) -> None:
        try:
            self._ssl.unwrap()  # our close_notify; the peer's is not waited for
        except (OSError, ValueError):
            pass  # the connection is broken already, or the peer's close_notify has not come
        self._ssl.close()
