"""Access control: USER, PASS, REIN, ACCT, QUIT (RFC 959 section 4.1.1), HOST (RFC 7151)."""

from __future__ import annotations

import logging
import re

from ftpcluster.net.stream import pause
from ftpcluster.passwords import BadHash, TooManyLogins
from ftpcluster.protocol.address import site
from ftpcluster.protocol.errors import ArgumentProblem, NotLoggedIn, SessionEnded
from ftpcluster.protocol.listing import printable
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.run import in_task
from ftpcluster.session.state import Account, Claim, Session
from ftpcluster.users import AbstractUserManager, MemoryUserManager

_GOODBYE = Reply(Code.CLOSING_CONTROL_CONNECTION, "Goodbye.")
_NEED_PASSWORD = Reply(Code.NEED_PASSWORD, "Please specify the password.")
_NO_ACCOUNTS = Reply(Code.SUPERFLUOUS, "No account is needed.")
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]")
_HOST_ACCEPTED = Reply(Code.SERVICE_READY, "Host accepted.")
_LOGGED_IN = Reply(Code.LOGGED_IN, "Login successful.")


async def user(session: Session, login: str) -> Reply:
    """USER: who it is. Every name gets the same answer, whether anybody has it or not."""
    session.log_out()
    if session.settings.require_tls and session.stream.is_plain:
        raise NotLoggedIn("TLS is required; use AUTH TLS first.")
    manager = session.services.users
    found = manager.get_user(login)
    response, account, _ = await (found if manager.needs_no_task else in_task(found))
    needs_password = response is not AbstractUserManager.GetUserResponse.OK
    session.login = Claim(login, account, needs_password)
    return _NEED_PASSWORD


def after_user(session: Session) -> str | None:
    if isinstance(session.login, Account):
        return "You are logged in already."
    return None if session.login else "Log in with USER first."


async def password(session: Session, secret: str) -> Reply:
    """PASS: the user's slot is taken only now, so that strangers cannot lock a user out."""
    claim = session.login
    assert isinstance(claim, Claim)
    session.login = None
    account = claim.user
    try:
        is_authentic = await _is_authentic(session, claim, secret)
    except TooManyLogins:
        return await _postpone(session)
    except BadHash as error:
        # the client is told nothing of it: who may log in is nobody's business
        name = printable(claim.login)[:64]
        session.note(
            logging.ERROR,
            f"nobody can log in as {name!r}: the stored password is {error}; "
            "`ftpcluster hash` makes one",
        )
        return await _fail(session, claim.login)
    if not is_authentic or account is None:
        return await _fail(session, claim.login)
    quotas, number = session.services.quotas, session.conversation.session
    refused = await quotas.login(number, account.login or "", account.maximum_connections)
    if refused is not None:
        raise NotLoggedIn(refused.explanation)
    try:
        session.begin_login(account, claim.login)
    except OSError as error:
        quotas.logout(number)
        why = error.strerror or error
        name = printable(claim.login)[:64]
        session.note(logging.ERROR, f"the folder of user {name} cannot be opened: {why}")
        raise NotLoggedIn("Your folder is not available; please tell the administrator.") from None
    except BaseException:
        quotas.logout(number)  # a path layer of somebody else's cannot be made
        raise
    session.services.counts.logins += 1
    session.note(logging.INFO, "logged in" if session.stream.is_plain else "logged in with TLS")
    return _LOGGED_IN


async def _is_authentic(session: Session, claim: Claim, secret: str) -> bool:
    manager = session.services.users
    if type(manager) is not MemoryUserManager:
        return await _is_authentic_elsewhere(manager, claim, secret)
    if claim.user is not None and (
        not claim.needs_password or manager.recognizes(claim.user, secret)
    ):
        return True
    turns = session.services.turns
    turn = await turns.take(site(session.conversation.peer))
    try:
        return await manager.compare_hash(claim.user, secret)
    finally:
        turns.give(turn)


async def _is_authentic_elsewhere(manager: AbstractUserManager, claim: Claim, secret: str) -> bool:
    if claim.user is None:
        return isinstance(manager, MemoryUserManager) and await manager.compare_hash(None, secret)
    if not claim.needs_password:
        return True
    return await in_task(manager.authenticate(claim.user, secret))


async def _postpone(session: Session) -> Reply:
    """421 after the delay of a failed login: 530 would tell an honest client that its password is
    wrong, and an answer at once would have the storm that is to blame come back at once."""
    await pause(session.services.loop, session.settings.login_delay)
    raise SessionEnded("Too many logins at this moment; try again later.")


async def _fail(session: Session, login: str) -> Reply:
    """530 after a delay, which slows guessing down; the last attempt ends the session."""
    session.failed_logins += 1
    session.services.counts.failed_logins += 1
    name = printable(login)[:64]
    peer = session.conversation.peer
    session.note(logging.WARNING, f"failed login of {name!r} from {peer}")
    settings, services = session.settings, session.services
    services.turns.suspect(site(peer))
    # counted before the delay: who hangs up on it has used up a try all the same
    delay = await services.quotas.login_failed(session.conversation.session, login)
    delay = max(delay, settings.login_delay)
    if delay:
        await pause(services.loop, delay)
    if session.failed_logins >= settings.login_attempts:
        raise SessionEnded("Too many failed logins.")
    raise NotLoggedIn("Login incorrect.")


def rein(session: Session, _: str) -> Reply:
    """REIN: everything as after the greeting."""
    session.reinitialize()
    return session.services.greeting


def before_login(session: Session) -> str | None:
    return "HOST comes before USER." if session.login else None


def host(_: Session, name: str) -> Reply:
    """HOST: all names lead to the same files (RFC 7151 section 3)."""
    if not _HOST.fullmatch(name):
        raise ArgumentProblem("Expected a host name, or an address in brackets.")
    return _HOST_ACCEPTED


def acct(_: Session, __: str) -> Reply:
    return _NO_ACCOUNTS


def quit_(session: Session, _: str) -> Reply:
    session.ending = True
    return _GOODBYE
