"""Certificates, and the TLS contexts that are made of them."""

from __future__ import annotations

import errno
import functools
import logging
import os
import ssl
from collections.abc import Callable

from ftpcluster.net.tls_sessions import can_renew, make_last

log = logging.getLogger(__name__)

PROTOCOLS = ("ftp", "ftp-data")
"""What clients may offer by ALPN, on control and data connections."""
_IGNORE_UNEXPECTED_EOF = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # since OpenSSL 3

Source = ssl.SSLContext | Callable[[], ssl.SSLContext]
"""A context, or a function that makes one."""


class BadCertificate(Exception):
    """Certificate or key cannot be used; the message says which and why."""


class NoKey(BadCertificate):
    """A file that should hold a certificate and its key holds only the certificate."""


class Contexts:
    """The contexts of a server: one for all connections, or one for each control connection.

    Only the latter ties the TLS sessions of data connections to their control connection: a client
    may resume a session on any connection that has the same context.
    """

    def __init__(self, source: Source, *, one_each: bool = False, strict_eof: bool = False) -> None:
        """``strict_eof``: an end without close_notify is an error.

        Raises BadCertificate, or ValueError where ``one_each`` comes without a function.
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
        self._current = self._prepared(source if isinstance(source, ssl.SSLContext) else source())

    def _prepared(self, context: ssl.SSLContext) -> ssl.SSLContext:
        # some versions of Python (3.11.2 is one) set the option in every context
        if self._strict_eof:
            context.options &= ~_IGNORE_UNEXPECTED_EOF
        else:
            # else OpenSSL answers a bare FIN with a fatal alert, which clients take for a failure
            context.options |= _IGNORE_UNEXPECTED_EOF
        if self._one_each:
            _let_sessions_last(context)
        return context


def _let_sessions_last(context: ssl.SSLContext) -> None:
    """Let all data connections of a control connection resume its session.

    With TLS 1.3 some clients use each ticket once (Java, curl), and would run out of tickets. Where
    none can be sent later, TLS 1.2 is used.
    """
    if can_renew():
        make_last(context)
    elif context.minimum_version != ssl.TLSVersion.TLSv1_3:
        context.maximum_version = ssl.TLSVersion.TLSv1_2


def make_context(
    certificate: str, key: str, *, minimum_version: str = "1.2", client_ca: str | None = None
) -> ssl.SSLContext:
    """A server's context. ``client_ca``: the authorities that may have signed a client's
    certificate. None: clients present none.

    Raises BadCertificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion[f"TLSv{minimum_version.replace('.', '_')}"]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(PROTOCOLS)
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
        if certificate == key and _has(_CERTIFICATE, certificate) and not _has(_KEY, key):
            raise NoKey(f"{certificate}: no key in it") from error
        if certificate != key:
            for mark, path, what in (_CERTIFICATE, certificate, "certificate"), (_KEY, key, "key"):
                if not _has(mark, path):
                    raise BadCertificate(f"{path}: expected a {what} in PEM form") from error
        files = certificate if certificate == key else f"{certificate}, {key}"
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadCertificate(f"{files}: the key is not that of the certificate") from error
        raise BadCertificate(f"{files}: expected a certificate and its key in PEM form") from error
    except OSError as error:  # the disk
        raise BadCertificate(f"{certificate}, {key}: {error.strerror}") from error
    return context


_CERTIFICATE, _KEY = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"


def _has(mark: bytes, path: str) -> bool:
    return mark in _read(path)


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


def read_certificates(
    certificate: str, key: str, *, minimum_version: str = "1.2", client_ca: str | None = None
) -> tuple[bytes, ...]:
    """The contents of the files; a context can be made of them. Raises BadCertificate."""
    # first, for messages that name the files
    make_context(certificate, key, minimum_version=minimum_version, client_ca=client_ca)
    paths = (certificate, key) if client_ca is None else (certificate, key, client_ca)
    return tuple(map(_read, paths))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise BadCertificate(f"{path}: {error.strerror}") from error


class ContextMaker:
    """Makes contexts of certificate and key (and client CA), as they were read once.

    The files are not read again. Where sessions have to be reused, each control connection gets a
    context: files that are being replaced, or are broken, must not end connections. And a process
    that has given up its privileges may not be able to read the files.
    """

    def __init__(
        self,
        contents: tuple[bytes, ...],
        *,
        minimum_version: str = "1.2",
        shares_authorities: bool = False,
    ) -> None:
        """``contents``: what ``read_certificates`` returned. ``shares_authorities``: all contexts
        share one store of the client CA. Raises BadCertificate."""
        self._minimum_version = minimum_version
        self._copies = tuple(map(_anonymous_file, contents))  # OpenSSL reads files only
        self._common = self._make() if shares_authorities and len(contents) == 3 else None

    def __call__(self) -> ssl.SSLContext:
        """A new context. Raises BadCertificate."""
        if self._common is None:
            return self._make()
        certificate, key, _ = self._paths()
        context = make_context(certificate, key, minimum_version=self._minimum_version)
        context.verify_mode = self._common.verify_mode
        context.sni_callback = functools.partial(_continue_with, self._common)
        return context

    def _make(self) -> ssl.SSLContext:
        certificate, key, *ca = self._paths()
        return make_context(
            certificate,
            key,
            minimum_version=self._minimum_version,
            client_ca=ca[0] if ca else None,
        )

    def _paths(self) -> list[str]:
        return [f"/proc/self/fd/{copy}" for copy in self._copies]

    def __del__(self) -> None:
        for fd in self._copies:
            os.close(fd)


def _continue_with(
    context: ssl.SSLContext, connection: ssl.SSLObject | ssl.SSLSocket, *_: object
) -> None:
    """Verify the client's certificate with another context's authorities.

    To read the system's bundle takes 25 ms, and 0.8 MB of memory: too much for a client that has
    not logged in. OpenSSL calls this for each ClientHello, with or without a server name in it. TLS
    sessions stay those of the context that the connection began with (``session_ctx``): only that
    one can read its tickets.
    """
    connection.context = context


def _anonymous_file(content: bytes) -> int:
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd
