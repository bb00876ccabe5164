"""Security extensions: PBSZ, PROT (RFC 2228, RFC 4217)."""

from __future__ import annotations

from ftpcluster.protocol.errors import NotImplementedVerb, ParameterNotImplemented
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.state import Session

_BUFFER = Reply(Code.OK, "PBSZ=0")
_LEVELS = {"P": True, "C": False}


def after_tls(session: Session) -> str | None:
    """Where there is TLS, the control connection has to be protected first."""
    if session.services.tls is not None and session.stream.is_plain:
        return "Protect the control connection first."
    return None


def pbsz(_: Session, __: str) -> Reply:
    """PBSZ: the buffer size is always 0 over TLS, which is a stream (RFC 4217 section 9)."""
    return _BUFFER


def prot(session: Session, argument: str) -> Reply:
    """PROT: whether data connections are protected."""
    protected = _LEVELS.get(argument.upper())
    if session.services.tls is None:
        if not protected:
            raise NotImplementedVerb("There is no TLS here.")
    elif protected is None:
        raise ParameterNotImplemented("The levels are P and C.")
    else:
        session.protected = protected
    return Reply(Code.OK, f"Protection level is {argument.upper()}.")
