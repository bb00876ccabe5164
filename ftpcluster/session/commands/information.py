"""Information about the server: SYST, FEAT, HELP, NOOP (RFC 959 section 4.1.3, RFC 2389)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ftpcluster.protocol.errors import ArgumentProblem, NotImplementedVerb
from ftpcluster.protocol.listing import FACTS
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.state import Session

_FIRST_FEATURES = ("UTF8", "TVFS")  # RFC 2640, RFC 3659 section 6: not tied to a verb
_UTF8_ON = Reply(Code.OK, "UTF-8 is always on.")
_OK = Reply(Code.OK, "OK.")


class _Described(Protocol):
    @property
    def verb(self) -> str: ...
    @property
    def feature(self) -> str: ...
    @property
    def tls_feature(self) -> str: ...
    @property
    def help(self) -> str: ...


_features: dict[bool, Reply] = {}
"""FEAT's reply, by whether there is TLS."""
_help: dict[str, str] = {}


def describe(rows: Iterable[_Described]) -> None:
    """Take what FEAT and HELP say from the command table."""
    rows = tuple(rows)
    plain = sorted((row.feature for row in rows if row.feature), key=lambda f: f[:4] != "MLST")
    tls = [line for row in rows for line in row.tls_feature.splitlines()]
    for has_tls, lines in ((False, plain), (True, plain + tls)):
        everything = (*_FIRST_FEATURES, *lines)
        _features[has_tls] = Reply(Code.SYSTEM_STATUS, "Extensions supported:", everything)
    _help.update((row.verb, row.help) for row in rows)


def syst(session: Session, _: str) -> Reply:
    return Reply(Code.SYSTEM_TYPE, session.settings.system_type)


def feat(session: Session, _: str) -> Reply:
    return _features[session.services.tls is not None]


def help_(_: Session, argument: str) -> Reply:
    if argument:
        text = _help.get(argument.upper())
        if text is None:
            raise NotImplementedVerb(f"Unknown command {argument[:20]!r}.")
        return Reply(Code.HELP_MESSAGE, text)
    verbs = list(_help)
    lines = [" ".join(f"{verb:5}" for verb in verbs[i : i + 10]) for i in range(0, len(verbs), 10)]
    return Reply(
        Code.HELP_MESSAGE, "These commands are recognized:", lines, "HELP verb tells more."
    )


def opts(session: Session, argument: str) -> Reply:
    """OPTS UTF8 (always on), OPTS MLST (the facts of MLSD and MLST, RFC 3659 section 7.9)."""
    option, _, value = argument.partition(" ")
    if option.upper() == "UTF8" and value.upper() in ("", "ON"):
        return _UTF8_ON
    if option.upper() != "MLST" or " " in value or (value and not value.endswith(";")):
        raise ArgumentProblem("The options are UTF8 ON and MLST fact;fact;…")
    wanted = value.lower().split(";")
    session.facts = tuple(fact for fact in FACTS if fact in wanted)
    return Reply(Code.OK, "MLST OPTS " + "".join(f"{fact};" for fact in session.facts))


def noop(_: Session, __: str) -> Reply:
    return _OK
