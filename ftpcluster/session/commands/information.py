"""Information: SYST, STAT, FEAT, HELP, OPTS, CLNT, NOOP (RFC 959 section 4.1.3, RFC 2389)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ftpcluster.answers import Answer
from ftpcluster.protocol.errors import ArgumentProblem, NotImplementedVerb, NotLoggedIn
from ftpcluster.protocol.listing import FACTS, printable
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.commands import digests
from ftpcluster.session.commands.listings import mlst_feature, stat_path
from ftpcluster.session.login import Account
from ftpcluster.session.state import Session

_FIRST_FEATURES = ("UTF8", "TVFS")  # RFC 2640, RFC 3659 section 6: not tied to a verb
_UTF8_ON = Reply(Code.OK, "UTF-8 is always on.")
_NOTED = Reply(Code.OK, "Noted.")
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
    plain = [line for row in rows for line in row.feature.splitlines()]
    plain.sort(key=lambda line: not line.startswith("MLST"))
    tls = [line for row in rows for line in row.tls_feature.splitlines()]
    for has_tls, lines in ((False, plain), (True, plain + tls)):
        everything = (*_FIRST_FEATURES, *lines)
        _features[has_tls] = Reply(Code.SYSTEM_STATUS, "Extensions supported:", everything)
    _help.update((row.verb, row.help) for row in rows)


def syst(session: Session, _: str) -> Reply:
    return Reply(Code.SYSTEM_TYPE, session.settings.system_type)


def feat(session: Session, _: str) -> Reply:
    """FEAT: with the facts and the digest that OPTS has chosen (RFC 3659 section 7.8).

    EPRT is left out where the server makes no connections.
    """
    reply = _features[session.has_tls]
    active, parameters = session.settings.active, session.parameters
    if active and parameters.facts is FACTS and parameters.hash_algorithm == digests.DEFAULT:
        return reply
    chosen = {
        mlst_feature(): mlst_feature(parameters.facts),
        digests.hash_feature(): digests.hash_feature(parameters.hash_algorithm),
    }
    lines = [chosen.get(line, line) for line in reply.lines if active or line != "EPRT"]
    return Reply(reply.code, reply.text, lines)


def status(session: Session, argument: str) -> Answer[Reply]:
    """STAT: of this session, with the transfer that runs; or of a path, as LIST shows it."""
    if argument:
        return stat_path(session, argument)
    return Reply(Code.SYSTEM_STATUS, "Status of this session:", _describe_session(session))


def _describe_session(session: Session) -> Iterable[str]:
    login = session.login
    yield f"Connected from {session.conversation.peer}"
    if isinstance(login, Account):
        yield f"Logged in as {printable(login.user.login or 'anonymous')}"
    else:
        yield "Not logged in"
    parameters = session.parameters
    yield f"TYPE {'I' if parameters.binary else 'A'}, STRU F, MODE S"
    control = "plain" if session.stream.is_plain else "protected"
    yield f"Control connection {control}, data {'protected' if parameters.protected else 'plain'}"
    if session.pending.restart:
        yield f"The next transfer begins at {session.pending.restart}"
    if session.transfer is None:
        yield "No transfer in progress"
    else:
        total = session.transfer.total
        of_total = "" if total is None else f" of {total}"
        yield f"Transfer in progress: {session.progress}{of_total} bytes"


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
    value = value.lstrip(" ")
    if option.upper() == "UTF8" and value.upper() in ("", "ON"):
        return _UTF8_ON
    if type(session.login) is not Account:
        raise NotLoggedIn
    if option.upper() == "HASH":
        return digests.options(session, value)
    if option.upper() != "MLST" or " " in value or (value and not value.endswith(";")):
        raise ArgumentProblem("The options are UTF8 ON, MLST fact;fact;… and HASH algorithm.")
    wanted = value.lower().split(";")
    session.parameters.facts = tuple(fact for fact in FACTS if fact in wanted)
    return Reply(Code.OK, "MLST OPTS " + "".join(f"{fact};" for fact in session.parameters.facts))


def clnt(_: Session, __: str) -> Reply:
    """CLNT: what program the client is, which changes nothing here."""
    return _NOTED


def noop(_: Session, __: str) -> Reply:
    return _OK
