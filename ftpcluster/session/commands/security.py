"""Security extensions: AUTH, PBSZ, PROT, CCC (RFC 2228, RFC 4217)."""

from __future__ import annotations

from ftpcluster.protocol.errors import (
    CommandProtectionDenied,
    NotImplementedVerb,
    ParameterNotImplemented,
    RequestDenied,
)
from ftpcluster.protocol.reply import Code, Reply, Then
from ftpcluster.session.state import Session

_BUFFER = Reply(Code.OK, "PBSZ=0")
_CLEAR = Reply(Code.OK, "The control connection is plain from now on.", then=Then.END_TLS)
_LEVELS = {"P": True, "C": False}


_MECHANISMS = ("TLS", "TLS-C", "SSL", "TLS-P")
_PROCEED = Reply(Code.SECURITY_EXCHANGE, "Proceed with the handshake.", then=Then.START_TLS)


def before_tls(session: Session) -> str | None:
    if not session.stream.is_plain:
        return "The control connection is protected already."
    return None


def auth(session: Session, argument: str) -> Reply:
    """AUTH: TLS begins after the reply, and the session is reset (RFC 2228 section 3).

    Commands in the clear may have come from an attacker in between.
    """
    if not session.has_tls:
        raise NotImplementedVerb("There is no TLS here.")
    mechanism = argument.upper()
    if mechanism not in _MECHANISMS:
        raise ParameterNotImplemented("The mechanism is TLS.")
    session.reinitialize()
    # SSL and TLS-P imply protected data connections (RFC 4217 section 4, and its drafts)
    session.parameters.protected = mechanism in ("SSL", "TLS-P")
    return _PROCEED


def after_tls(session: Session) -> str | None:
    """Where there is TLS, the control connection has to be protected first."""
    if session.has_tls and session.stream.is_plain:
        return "Protect the control connection first."
    return None


def pbsz(_: Session, __: str) -> Reply:
    """PBSZ: the buffer size is always 0 over TLS, which is a stream (RFC 4217 section 9)."""
    return _BUFFER


def while_tls(session: Session) -> str | None:
    return "The control connection is not protected." if session.stream.is_plain else None


def ccc(session: Session, _: str) -> Reply:
    """CCC: behind the reply, the control connection goes on as plain text."""
    if session.settings.require_tls:
        raise CommandProtectionDenied
    return _CLEAR


def prot(session: Session, argument: str) -> Reply:
    """PROT: whether data connections are protected."""
    protected = _LEVELS.get(argument.upper())
    if not session.has_tls:
        if not protected:
            raise NotImplementedVerb("There is no TLS here.")
    elif protected is None:
        raise ParameterNotImplemented("The levels are P and C.")
    elif not protected and session.settings.require_tls_data:
        raise RequestDenied("Data connections have to be protected; use PROT P.")
    else:
        session.protect_data(protected)
    return Reply(Code.OK, f"Protection level is {argument.upper()}.")
