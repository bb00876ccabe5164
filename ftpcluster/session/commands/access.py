"""Access control: USER, PASS, REIN, ACCT, QUIT (RFC 959 section 4.1.1)."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Awaitable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeGuard, TypeVar

from ftpcluster.answers import Answer, Steps, settled, stepwise
from ftpcluster.net.stream import pause
from ftpcluster.passwords import BadHash, TooManyLogins
from ftpcluster.protocol.errors import LocalProblem, NotLoggedIn, SessionEnded
from ftpcluster.protocol.reply import Code, Reply, Then
from ftpcluster.quota.ledger import Refusal
from ftpcluster.refused_users import why_refused
from ftpcluster.session.command_run import wait_out
from ftpcluster.session.login import Account, Claim
from ftpcluster.session.state import Session, shown
from ftpcluster.users import (
    PASSWORD_CHECKS,
    AbstractUserManager,
    MemoryUserManager,
    User,
    overrides,
)

T = TypeVar("T")
_Response = AbstractUserManager.GetUserResponse
_Found = tuple[_Response, User | None, str]

_GOODBYE = Reply(Code.CLOSING_CONTROL_CONNECTION, "Goodbye.", then=Then.CLOSE)
_NEED_PASSWORD = Reply(Code.NEED_PASSWORD, "Please specify the password.")
_NO_ACCOUNTS = Reply(Code.SUPERFLUOUS, "No account is needed.")
_PATIENCE = 3.0
"""Seconds that a user manager has to judge a password after its client has hung up. A directory
service takes less, and so does PAM, which delays a refusal by about two."""
_LOGGED_IN = Reply(Code.LOGGED_IN, "Login successful.")


def over_tls(session: Session) -> None:
    """The gate of USER. An override of USER has to pass it, too.

    Raises NotLoggedIn where TLS is required and missing.
    """
    if session.settings.require_tls and session.stream.is_plain:
        session.log_out()
        raise NotLoggedIn("TLS is required; use AUTH TLS first.")


@stepwise
def user(session: Session, login: str) -> Steps[Reply]:
    """USER: who it is. Every name gets the same answer, whether anybody has it or not."""
    session.log_out()
    manager = session.services.users
    found: Answer[_Found]
    if manager.needs_task:
        found = _asked(session, _find_user(session, manager, login))
    elif isinstance(manager, MemoryUserManager):
        found = manager.find(login)
    else:
        found = manager.get_user(login)
    response, account, _ = yield found
    if response is _Response.ERROR:
        account = None  # no login, even where a user comes with it
    refused = None if account is None else _why_refused(session, account)
    if account is not None and refused is not None:
        # from here on it is as if nobody had that name, in text and in time
        session.services.notify_logout(account)
        session.login = Claim(login, None, needs_password=True, refused=refused)
        return _NEED_PASSWORD
    needs_password = response is not _Response.OK
    session.login = Claim(login, account, needs_password, is_handed_out=account is not None)
    return _NEED_PASSWORD


def _why_refused(session: Session, account: User) -> str | None:
    return why_refused(account, session.conversation.peer, datetime.date.today())


async def _find_user(session: Session, manager: AbstractUserManager, login: str) -> _Found:
    """What a custom user manager says of a name."""
    answer = session.services.ask(manager.get_user(login))
    try:
        found = await answer
        if not isinstance(found[0], _Response):
            # another library's ERROR is not ours, so it would let somebody in
            raise TypeError(f"get_user: expected a GetUserResponse, got {found[0]!r}")
        return found
    except asyncio.CancelledError:
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            response, account, _ = answer.result()
            if account is not None and response is not _Response.ERROR:
                session.services.notify_logout(account)  # the client left in this very step
        raise


def after_user(session: Session) -> str | None:
    if isinstance(session.login, Account):
        return "You are logged in already."
    return None if session.login else "Log in with USER first."


class _Attempt:
    """A password that is being checked. ``is_right`` is None as long as the answer is not known."""

    __slots__ = ("_is_counted", "claim", "is_right", "secret", "session")

    def __init__(
        self, session: Session, claim: Claim, secret: str, *, is_right: bool | None
    ) -> None:
        self.session = session
        self.claim = claim
        self.secret = secret
        self.is_right = is_right
        self._is_counted = False

    def abandon(self) -> None:
        """The client has left. A password that is known to be wrong still counts as a failed login.
        A right one does not log in any more."""
        session, quotas = self.session, self.session.services.quotas
        if self.is_right is False and not self._is_counted:
            self._is_counted = True
            _note_failure(session, self.claim.login, self.claim.refused)
            quotas.login_failed_unheard(session.conversation.session, self.claim.login)


@stepwise
def password(session: Session, secret: str) -> Steps[Reply]:
    """PASS takes the user's slot. If USER took it, strangers could lock a user out."""
    claim = session.login
    assert isinstance(claim, Claim)
    is_right = _judge_at_once(session.services.users, claim, secret)
    counts = session.services.quotas.counts(session.conversation.peer)
    try:
        if is_right and claim.user and not counts:
            return (yield from _let_in(session, claim.login, claim.user))
        reply: Reply = yield _settle(_Attempt(session, claim, secret, is_right=is_right))
        return reply
    finally:
        # a session that ended meanwhile has logged out already
        if session.login is claim:
            session.log_out()


async def _settle(attempt: _Attempt) -> Reply:
    """Find out whether a password is right, and reply."""
    session, claim = attempt.session, attempt.claim
    try:
        attempt.is_right = await _judge(attempt)
    except TooManyLogins:
        return await _postpone(attempt)
    except BadHash as error:
        # the client gets the reply to a wrong password: it must not learn which users exist
        session.note(
            logging.ERROR,
            f"nobody can log in as {shown(claim.login)!r}: the stored password is {error}; "
            "`ftpcluster hash` makes one",
        )
        return await _fail(session, claim.login)
    except SessionEnded:
        raise  # the address is banned: the password was not checked
    except BaseException:
        attempt.abandon()
        session.services.quotas.end_try(session.conversation.session)
        raise
    if not attempt.is_right or claim.user is None:
        return await _fail(session, claim.login, claim.refused)
    return await settled(stepwise(_let_in)(session, claim.login, claim.user))


def _let_in(session: Session, login: str, account: User) -> Steps[Reply]:
    quotas, number = session.services.quotas, session.conversation.session
    refused: Refusal | None
    refused = yield quotas.login(number, account.login or "", account.maximum_connections)
    if refused is not None:
        raise NotLoggedIn(refused.explanation)
    try:
        storage = session.open_storage(account)
        if (opening := storage.opened()) is not None:
            yield opening
        outdated = _why_refused(session, account)  # the account may have changed since USER came
        if outdated is None:
            session.begin_login(account, login, storage)
    except BaseException as error:
        quotas.logout(number)
        if not isinstance(error, OSError):
            raise  # a hook failed
        name, why = shown(login), error.strerror or error
        session.note(logging.ERROR, f"the directory of user {name} cannot be opened: {why}")
        raise NotLoggedIn(
            "Your directory is not available; please tell the administrator."
        ) from None
    if outdated is not None:
        quotas.logout(number)
        reply: Reply = yield _fail(session, login, outdated)
        return reply
    session.services.counts.logins += 1
    session.note(logging.INFO, "logged in" if session.stream.is_plain else "logged in with TLS")
    return _LOGGED_IN


# ---------------------------------------------------------------------- whether it is right


def _judge_at_once(manager: AbstractUserManager, claim: Claim, secret: str) -> bool | None:
    """Whether a password is right; None where that takes a hash, or a custom user manager."""
    user = claim.user
    if user is None:
        return False
    if not claim.needs_password:
        return True
    if not _is_ours(manager):
        return None
    if manager.recognizes(user, secret):
        return True
    return None if manager.has_hash(user) else False


def _is_ours(manager: AbstractUserManager) -> TypeGuard[MemoryUserManager]:
    """Whether our code alone checks passwords, whatever else a subclass overrides."""
    return isinstance(manager, MemoryUserManager) and not overrides(
        manager, MemoryUserManager, *PASSWORD_CHECKS
    )


async def _judge(attempt: _Attempt) -> bool:
    """Whether a password is right. The session waits for its try first.

    Raises SessionEnded where its address is banned, TooManyLogins, BadHash.
    """
    talk, services = attempt.session.conversation, attempt.session.services
    refused = await services.quotas.begin_try(talk.session, talk.peer)
    if refused is not None:
        raise SessionEnded(refused.explanation)
    if attempt.is_right:
        return True
    manager = services.users
    if _is_ours(manager):
        return await _compare_hashes(attempt, manager)
    return await _ask_manager(attempt, manager)


async def _compare_hashes(attempt: _Attempt, manager: MemoryUserManager) -> bool:
    """Compare in a thread. A password that is known to be wrong must take as long as others."""
    turns = attempt.session.services.turns
    turn = await turns.take(attempt.session.conversation.peer)
    try:
        comparison = manager.begin_comparing(attempt.claim.user, attempt.secret)
        if comparison is None:
            return False
        is_right = await _outlast_thread(attempt, comparison)
    finally:
        turns.give(turn)
    if is_right:
        turns.trust(attempt.session.conversation.peer)
    return is_right


async def _outlast_thread(attempt: _Attempt, comparison: Future[bool]) -> bool:
    """A thread's answer. After a hang-up the check keeps its turn, and a wrong password counts.
    Otherwise clients that hang up would have many hashes computed at once, and never be banned."""
    answer = asyncio.wrap_future(comparison)
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        attempt.abandon()
        if not comparison.cancel():  # cancelled: no thread had begun, and it has cost nothing
            await wait_out(answer)
            if attempt.is_right is None:
                attempt.is_right = _late_answer(answer)
        raise


async def _ask_manager(attempt: _Attempt, manager: AbstractUserManager) -> bool:
    claim, secret = attempt.claim, attempt.secret
    if claim.user is not None:
        asked = _outlast_task(attempt, manager.authenticate(claim.user, secret))
        return await _asked(attempt.session, asked)
    if isinstance(manager, MemoryUserManager):
        return await _outlast_task(attempt, manager.compare_hash(None, secret))
    return False


async def _outlast_task(attempt: _Attempt, authenticating: Coroutine[Any, Any, bool]) -> bool:
    """The answer of a custom user manager. After a hang-up it has ``_PATIENCE`` seconds left."""
    answer = attempt.session.services.ask(authenticating)
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        attempt.abandon()
        await asyncio.wait((answer,), timeout=_PATIENCE)
        # without an answer it stays unknown whether the password was right
        if not answer.cancel() and attempt.is_right is None:
            attempt.is_right = _late_answer(answer)
        raise


def _late_answer(answer: asyncio.Future[bool]) -> bool | None:
    """Whether a password was right; None where that is unknown.

    Other errors of the user manager are raised; after them it is unknown, too.
    """
    try:
        return answer.result()
    except TooManyLogins:
        return None
    except BadHash:
        return False


async def _asked(session: Session, answer: Awaitable[T]) -> T:
    """What a custom user manager says. Raises LocalProblem where it fails.

    An OSError is its database's, and says nothing of files or data connections.
    """
    try:
        return await answer
    except (BadHash, TooManyLogins):
        raise
    except OSError as error:
        session.note(logging.ERROR, f"the user manager does not answer: {error!r}")
    except Exception as error:
        session.note_bug(error)
    raise LocalProblem("Nobody can log in at this moment; try again later.")


# ---------------------------------------------------------------------- what comes of it


async def _postpone(attempt: _Attempt) -> Reply:
    """Reply 421 after the delay of a failed login. 530 would tell an honest client that its
    password is wrong. Without the delay the clients that cause the storm would return at once.

    A password that is known to be wrong counts as a failed login, and gets the same reply.
    """
    session = attempt.session
    session.log_out()
    quotas, number = session.services.quotas, session.conversation.session
    if attempt.is_right is False:
        _note_failure(session, attempt.claim.login, attempt.claim.refused)
        await quotas.login_failed(number, attempt.claim.login)
    quotas.end_try(number)
    await pause(session.services.loop, session.settings.login_delay)
    raise SessionEnded("Too many logins at this moment; try again later.")


async def _fail(session: Session, login: str, why: str = "") -> Reply:
    """530 after a delay, which slows guessing down; the last attempt ends the session.

    ``why``: for the log, where it is not that the name or the password is wrong.
    """
    session.log_out()  # before the delay, so that no slot is held meanwhile
    _note_failure(session, login, why)
    settings, services = session.settings, session.services
    # counted before the delay: a client that hangs up during it has still used up a try
    delay = await services.quotas.login_failed(session.conversation.session, login)
    delay = max(delay, settings.login_delay)
    if delay:
        await pause(services.loop, delay)
    if session.unauthenticated.failed_logins >= settings.login_attempts:
        raise SessionEnded("Too many failed logins.")
    raise NotLoggedIn("Login incorrect.")


def _note_failure(session: Session, login: str, why: str = "") -> None:
    """Count a failed login in this process; the quotas decide about bans."""
    session.unauthenticated.failed_logins += 1
    session.services.counts.failed_logins += 1
    peer = session.conversation.peer
    session.note(
        logging.WARNING, f"failed login of {shown(login)!r} from {peer}{f': {why}' * bool(why)}"
    )
    session.services.turns.suspect(peer)


def rein(session: Session, _: str) -> Reply:
    """REIN: everything as after the greeting."""
    session.reinitialize()
    return session.services.greeting


def acct(_: Session, __: str) -> Reply:
    return _NO_ACCOUNTS


def quit_(_: Session, __: str) -> Reply:
    return _GOODBYE
