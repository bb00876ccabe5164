"""Transfer parameters: TYPE, MODE, STRU, PASV, EPSV (RFC 959 section 4.1.2, RFC 2428)."""

from __future__ import annotations

from ftpcluster.answers import Answer, then
from ftpcluster.net.active import ActiveTarget
from ftpcluster.net.passive import PassiveListener
from ftpcluster.protocol.address import is_ipv6, parse_eprt, parse_port, without_zone
from ftpcluster.protocol.errors import (
    ArgumentProblem,
    BadSequence,
    NetworkProtocolNotSupported,
    NotImplementedVerb,
    ParameterNotImplemented,
)
from ftpcluster.protocol.reply import Code, Reply, extended_passive_mode, passive_mode
from ftpcluster.session.hooks import NO_HOOKS
from ftpcluster.session.state import Session

_TYPES = {"A": False, "AN": False, "AT": False, "I": True, "L8": True, "L7": True}
"""Whether a type is binary, by its name without blanks: some clients send L8."""
_TYPE_SET = {
    True: Reply(Code.OK, "Type is binary."),
    False: Reply(Code.OK, "Type is ASCII; lines end in CRLF."),
}
_EPSV_ALL = Reply(Code.OK, "Only EPSV from now on.")
_WILL_CONNECT = Reply(Code.OK, "The data connection will be made to you.")
_FIRST_UNPRIVILEGED_PORT = 1024
_STREAM = Reply(Code.OK, "Mode is stream.")
_FILE = Reply(Code.OK, "Structure is file.")


def type_(session: Session, argument: str) -> Reply:
    binary = _TYPES.get(argument.upper().replace(" ", ""))
    if binary is None:
        raise ParameterNotImplemented("Types are A, I and L 8.")
    session.parameters.binary = binary
    return _TYPE_SET[binary]


def mode(_: Session, argument: str) -> Reply:
    if argument.upper() != "S":
        raise ParameterNotImplemented("The only mode is S.")
    return _STREAM


def structure(_: Session, argument: str) -> Reply:
    if argument.upper() != "F":
        raise ParameterNotImplemented("The only structure is F.")
    return _FILE


def pasv(session: Session, _: str) -> Answer[Reply]:
    """PASV: listen for a data connection, on the address by which the client reaches us."""
    _refuse_after_epsv_all(session)
    session.drop_data()
    host = session.server_address
    if is_ipv6(_reached(session)):
        raise BadSequence("PASV is for IPv4; use EPSV.")
    masquerade = session.services.masquerade
    peer = session.conversation.peer
    if masquerade.is_empty:
        return _listen_at(None, session, host)
    reached = session.conversation.reached or host
    return then(masquerade.address_for(peer, reached), _listen_at, session, host)


def _listen_at(announced: str | None, session: Session, host: str) -> Answer[Reply]:
    """``announced``: the address that PASV's reply names in place of ``host``, if any.

    Behind a proxy it is the proxy's address, which the client knows, unless ``masquerade`` names
    another one.
    """
    announced = announced or session.conversation.reached
    if announced is None and is_ipv6(host):
        raise BadSequence("There is no IPv4 address here; use EPSV.")
    ports = session.services.ports
    return then(
        ports.acquire_at_once(host) or ports.acquire(host),
        _enter_passive_mode,
        session,
        announced or host,
    )


def _enter_passive_mode(listener: PassiveListener, session: Session, host: str) -> Reply:
    session.listen_for_data(listener)
    return passive_mode(host, listener.port)


def epsv(session: Session, argument: str) -> Answer[Reply]:
    """EPSV: listen for a data connection; the reply names only the port."""
    if argument:
        if argument.upper() == "ALL":
            session.parameters.epsv_only = True
            return _EPSV_ALL
        family = "2" if is_ipv6(_reached(session)) else "1"
        if argument != family:
            raise NetworkProtocolNotSupported(f"Network protocol not supported, use ({family}).")
    if session.data is not None or session.hooks is not NO_HOOKS:
        session.drop_data()
    ports, host = session.services.ports, session.server_address
    listener = ports.acquire_at_once(host)
    if listener is None:
        return then(ports.acquire(host), _enter_extended_passive_mode, session)
    session.listen_for_data(listener)  # as ``_enter_extended_passive_mode``, without its call
    return extended_passive_mode(listener.port)


def _enter_extended_passive_mode(listener: PassiveListener, session: Session) -> Reply:
    session.listen_for_data(listener)
    return extended_passive_mode(listener.port)


def _reached(session: Session) -> str:
    """An address of the family that the client uses. Through a proxy it is the client's own: the
    connection between the proxy and us may be of the other family."""
    talk = session.conversation
    return session.server_address if talk.proxy is None else talk.peer


def port(session: Session, argument: str) -> Reply:
    """PORT: an IPv4 address where the client listens."""
    _refuse_active(session)
    return _aim(session, *parse_port(argument))


def eprt(session: Session, argument: str) -> Reply:
    """EPRT: an address of either family where the client listens."""
    _refuse_active(session)
    return _aim(session, *parse_eprt(argument))


def _aim(session: Session, host: str, port: int) -> Reply:
    """Only the client itself is connected to, and no port where a service could be (RFC 2577)."""
    if without_zone(host) != without_zone(session.conversation.peer):
        raise ArgumentProblem("Data connections go to your own address only.")
    if port < _FIRST_UNPRIVILEGED_PORT:
        raise ArgumentProblem("Data connections do not go to ports below 1024.")
    session.drop_data()
    session.data = ActiveTarget(session.conversation.peer, port)
    return _WILL_CONNECT


def _refuse_active(session: Session) -> None:
    if not session.settings.active:
        raise NotImplementedVerb("This server makes no connections; use EPSV or PASV.")
    _refuse_after_epsv_all(session)


def _refuse_after_epsv_all(session: Session) -> None:
    if session.parameters.epsv_only:
        raise BadSequence("You said EPSV ALL.")
