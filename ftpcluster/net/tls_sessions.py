"""How long clients can resume a TLS session, and tickets for clients that use each once.

OpenSSL has calls for both that the ``ssl`` module does not offer. They need pointers that the
module's C objects hold. ``can_renew`` checks, once in a process, that the pointers are where
CPython 3.11 to 3.14 have them, and that the calls belong to the library that the module uses.
"""

from __future__ import annotations

import ctypes
import functools
import ssl
from typing import Any

_HEAD = object.__basicsize__
"""Bytes of an object's head. After it, a connection holds pointers to its socket, its SSL and its
context, and a context holds one to its SSL_CTX."""
_WORD = ctypes.sizeof(ctypes.c_void_p)
_WEEK = 7 * 24 * 3600
"""The longest life that a ticket of TLS 1.3 may have (RFC 8446 section 4.6.1): clients made with
Go break the connection where it is longer."""
_BOUNDS_TICKETS = ssl.OPENSSL_VERSION_NUMBER >= 0x3000_0030
"""Since 3.0.3 OpenSSL bounds the life in tickets of TLS 1.3, whatever a context allows (its issue
17948)."""
_LIFE = 2**31 - 1 if _BOUNDS_TICKETS else _WEEK


NO_RENEWAL = (
    "require_session_reuse: this Python cannot send TLS 1.3 tickets when they are needed, "
    "so TLS 1.2 is spoken, and two hours after the login data connections are refused"
)
NO_RENEWAL_OF_1_3 = (
    "require_session_reuse: this Python cannot send TLS 1.3 tickets when they are needed: clients "
    "that use each once (curl, Java) are refused after two transfers, others after two hours"
)


@functools.cache
def can_renew() -> bool:
    """Whether sessions can be made to last, and tickets be sent when they are needed."""
    return _openssl() is not None


def make_last(context: ssl.SSLContext) -> None:
    """Let the context's sessions be resumed as long as a control connection may last.

    OpenSSL gives them two hours. With TLS 1.2 a control connection has only the session of its
    handshake. OpenSSL counts by the wall clock, which a device may set from 1970 to now: no session
    may expire by that.
    """
    if (library := _openssl()) is not None:
        library.SSL_CTX_set_timeout(_word(context, 0), _LIFE)


def offer_ticket(connection: ssl.SSLSocket) -> None:
    """Send another ticket in front of what is sent next, where the connection is of TLS 1.3."""
    made: Any = connection._sslobj  # type: ignore[attr-defined]
    if made is not None and (library := _openssl()) is not None:
        library.SSL_new_session_ticket(_word(made, 1))


@functools.cache
def _openssl() -> ctypes.PyDLL | None:
    """The library that the ``ssl`` module uses; None where it cannot be had, or is too old."""
    try:
        import _ssl

        # a module that is linked statically has no file, or hides the calls
        library = ctypes.PyDLL(_ssl.__file__)
        pointer = ctypes.c_void_p
        library.OpenSSL_version_num.restype = ctypes.c_ulong
        library.SSL_get_SSL_CTX.argtypes, library.SSL_get_SSL_CTX.restype = [pointer], pointer
        library.SSL_new_session_ticket.argtypes = [pointer]  # since OpenSSL 3.0
        library.SSL_CTX_set_timeout.argtypes = [pointer, ctypes.c_long]
    except (ImportError, AttributeError, OSError):
        return None
    is_same = library.OpenSSL_version_num() == ssl.OPENSSL_VERSION_NUMBER
    return library if is_same and _stand_where_expected(library) else None


def _stand_where_expected(library: ctypes.PyDLL) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    connection = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    made: Any = connection._sslobj  # type: ignore[attr-defined]
    if type(made).__basicsize__ < _HEAD + 3 * _WORD or _word(made, 2) != id(context):
        return False
    found, expected = _word(made, 1), _word(context, 0)
    return None not in (found, expected) and library.SSL_get_SSL_CTX(found) == expected


def _word(thing: object, index: int) -> int | None:
    """A pointer in an object of C."""
    return ctypes.c_void_p.from_address(id(thing) + _HEAD + index * _WORD).value
