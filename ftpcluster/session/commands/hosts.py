"""HOST (RFC 7151)."""

from __future__ import annotations

import re

from ftpcluster.protocol.errors import ArgumentProblem
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.state import Session

_HOST = re.compile(r"[A-Za-z0-9_.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]")
_HOST_ACCEPTED = Reply(Code.SERVICE_READY, "Host accepted.")


def before_login(session: Session) -> str | None:
    return "HOST comes before USER." if session.login else None


def host(_: Session, name: str) -> Reply:
    """HOST: all names lead to the same files (RFC 7151 section 3)."""
    if not _HOST.fullmatch(name):
        raise ArgumentProblem("Expected a host name, or an address in brackets.")
    return _HOST_ACCEPTED
