"""Access control: USER, PASS, QUIT (RFC 959 section 4.1.1)."""

from __future__ import annotations

import logging

from ftpcluster.net.stream import pause
from ftpcluster.protocol.errors import NotLoggedIn, SessionEnded
from ftpcluster.protocol.listing import printable
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.quota.bucket import Throttle
from ftpcluster.session.run import in_task
from ftpcluster.session.state import Account, Claim, Session
from ftpcluster.users import AbstractUserManager, MemoryUserManager, User

log = logging.getLogger(__name__)

_GOODBYE = Reply(Code.CLOSING_CONTROL_CONNECTION, "Goodbye.")
_NEED_PASSWORD = Reply(Code.NEED_PASSWORD, "Please specify the password.")
_LOGGED_IN = Reply(Code.LOGGED_IN, "Login successful.")


async def user(session: Session, login: str) -> Reply:
    """USER: who it is. Every name gets the same answer, whether anybody has it or not."""
    end_login(session)
    manager = session.services.users
    found = manager.get_user(login)
    response, account, _ = await (found if _is_ours(manager) else in_task(found))
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
    if claim.user is None or not await _is_authentic(session, claim, secret):
        return await _fail(session, claim.login)
    account = claim.user
    try:
        storage = session.services.files.open(account.base_path)
    except OSError as error:
        log.error(
            "session %d: the folder of user %s cannot be opened: %s", *_who(session, claim), error
        )
        raise NotLoggedIn("Your folder is not available; please tell the administrator.") from None
    slot = session.services.quotas.login(
        session.conversation.session, account.login or "", account.maximum_connections
    )
    if await slot is not None:
        raise NotLoggedIn("Too many connections of this user.")
    session.login = Account(account, storage, _throttles(session, account))
    session.current_folder = str(account.home_path)
    if log.isEnabledFor(logging.DEBUG):
        log.debug("session %d: %s logged in", *_who(session, claim))
    return _LOGGED_IN


def _throttles(session: Session, account: User) -> tuple[Throttle, ...]:
    """All that limits this login's speed: the server, the user, and the connection for both."""
    services = session.services
    each = services.throttle_per_connection
    throttles = (
        *services.quotas.throttles(account),
        Throttle(each.read.limit, each.write.limit),
        Throttle(account.read_speed_limit_per_connection, account.write_speed_limit_per_connection),
    )
    return tuple(throttle for throttle in throttles if throttle.is_limited)


async def _is_authentic(session: Session, claim: Claim, secret: str) -> bool:
    if not claim.needs_password:
        return True
    assert claim.user is not None
    manager = session.services.users
    checked = manager.authenticate(claim.user, secret)
    return await (checked if _is_ours(manager) else in_task(checked))


async def _fail(session: Session, login: str) -> Reply:
    """530 after a delay, which slows guessing down; the last attempt ends the session."""
    session.failed_logins += 1
    name = printable(login)[:64]
    log.warning(
        "session %d: failed login of %r from %s",
        session.conversation.session,
        name,
        session.conversation.peer,
    )
    settings = session.settings
    if settings.login_delay:
        await pause(session.services.loop, settings.login_delay)
    if session.failed_logins >= settings.login_attempts:
        raise SessionEnded("Too many failed logins.")
    raise NotLoggedIn("Login incorrect.")


def quit_(session: Session, _: str) -> Reply:
    session.ending = True
    return _GOODBYE


def end_login(session: Session) -> None:
    """Log out, if somebody is logged in, and forget what belonged to that login."""
    account = session.login
    session.login = None
    session.current_folder = "/"
    session.rename_from = None
    if isinstance(account, Account):
        session.stranger_since = session.services.loop.time()
        session.services.quotas.logout(session.conversation.session)
        _notify_logout(session, account.user)


def _notify_logout(session: Session, account: User) -> None:
    manager = session.services.users
    if not _is_ours(manager):
        session.services.background(manager.notify_logout(account))


def _is_ours(manager: AbstractUserManager) -> bool:
    """Whether its coroutines run without a task (see ``session.run``)."""
    return type(manager) is MemoryUserManager


def _who(session: Session, claim: Claim) -> tuple[int, str]:
    return session.conversation.session, printable(claim.login)[:64]
