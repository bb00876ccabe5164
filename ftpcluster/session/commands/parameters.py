"""Transfer parameters: TYPE, MODE, STRU, PASV, EPSV (RFC 959 section 4.1.2, RFC 2428)."""

from __future__ import annotations

from ftpcluster.net.passive import PassiveListener
from ftpcluster.protocol.address import is_ipv6
from ftpcluster.protocol.errors import (
    BadSequence,
    NetworkProtocolNotSupported,
    ParameterNotImplemented,
)
from ftpcluster.protocol.reply import Code, Reply, extended_passive_mode, passive_mode
from ftpcluster.session.state import Session

_TYPES = {"A": False, "A N": False, "I": True, "L 8": True, "L 7": True}
_TYPE_SET = {
    True: Reply(Code.OK, "Type is binary."),
    False: Reply(Code.OK, "Type is ASCII; lines end in CRLF."),
}
_STREAM = Reply(Code.OK, "Mode is stream.")
_FILE = Reply(Code.OK, "Structure is file.")


def type_(session: Session, argument: str) -> Reply:
    binary = _TYPES.get(argument.upper())
    if binary is None:
        raise ParameterNotImplemented("Types are A, I and L 8.")
    session.binary = binary
    return _TYPE_SET[binary]


def mode(_: Session, argument: str) -> Reply:
    if argument.upper() != "S":
        raise ParameterNotImplemented("The only mode is S.")
    return _STREAM


def structure(_: Session, argument: str) -> Reply:
    if argument.upper() != "F":
        raise ParameterNotImplemented("The only structure is F.")
    return _FILE


async def pasv(session: Session, _: str) -> Reply:
    session.drop_data()
    host = session.server_address
    if is_ipv6(host):
        raise BadSequence("PASV is for IPv4; use EPSV.")
    listener = await _listen(session, host)
    return passive_mode(session.settings.masquerade or host, listener.port)


async def epsv(session: Session, argument: str) -> Reply:
    host = session.server_address
    family = "2" if is_ipv6(host) else "1"
    if argument and argument != family:
        raise NetworkProtocolNotSupported(f"Network protocol not supported, use ({family}).")
    session.drop_data()
    listener = await _listen(session, host)
    return extended_passive_mode(listener.port)


async def _listen(session: Session, host: str) -> PassiveListener:
    listener = await session.services.ports.acquire(host)
    session.listen_for_data(listener)
    return listener
