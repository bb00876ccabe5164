"""The logins of workers' sessions: slots of users, tries of passwords, addresses behind proxies.

A session that has ended meanwhile, or never belonged to that worker, gets no answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from ftpcluster.ipc.channel import BadMessage
from ftpcluster.ipc.messages import (
    BeginTry,
    EndTry,
    GiveSlot,
    Identified,
    LoggedIn,
    LoginDelay,
    LoginFailed,
    SlotAnswer,
    TakeSlot,
)
from ftpcluster.protocol.address import without_zone
from ftpcluster.quota.admission import Admission
from ftpcluster.quota.ledger import Ledger, Refusal
from ftpcluster.supervisor.worker_handle import WorkerHandle

LoginMessage = Identified | BeginTry | EndTry | LoginFailed | TakeSlot | GiveSlot | LoggedIn

_MOST_FAILURES = 100
"""Failed logins of a session, which usually has three tries. A worker that reports more tries to
push real guessers out of the counts."""


class WorkerLogins:
    """Passes workers' requests for sessions that log in on to the ledger and the admission."""

    def __init__(self, ledger: Ledger, admission: Admission, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._admission = admission
        self._clock = clock

    def on_message(self, worker: WorkerHandle, message: LoginMessage) -> None:
        """Raises BadMessage."""
        try:
            self._answer(worker, message)
        except KeyError:
            # the session has ended meanwhile, or never belonged to this worker; or its address is
            # not known yet, or is known already
            pass

    def _answer(self, worker: WorkerHandle, message: LoginMessage) -> None:
        if isinstance(message, LoggedIn):
            self._on_logged_in(worker, message)
        elif isinstance(message, TakeSlot):
            self._on_take_slot(worker, message)
        elif isinstance(message, GiveSlot):
            self._ledger.logout(worker.epoch, message.session)
        elif isinstance(message, BeginTry):
            answer = functools.partial(_send, worker, message.session)
            self._admission.begin_try(worker.epoch, message.session, answer, self._clock())
        elif isinstance(message, EndTry):
            self._admission.end_try(worker.epoch, message.session, self._clock())
        elif isinstance(message, LoginFailed):
            self._on_login_failed(worker, message)
        else:
            self._on_identified(worker, message)

    def forget(self, worker: WorkerHandle, session: int) -> None:
        """A session does not belong to this worker any more: forget its failed logins and its try.
        Otherwise a worker that declines a session after it has reported a try would keep that try
        for as long as it lives."""
        worker.failures.pop(session, None)
        if self._admission.has_tries:
            self._admission.end_try(worker.epoch, session, self._clock())

    def _on_take_slot(self, worker: WorkerHandle, message: TakeSlot) -> None:
        self._admission.end_try(worker.epoch, message.session, self._clock())
        refused = self._admission.login(worker.epoch, message.session, message.login, message.limit)
        _send(worker, message.session, refused)

    def _on_identified(self, worker: WorkerHandle, message: Identified) -> None:
        address = message.address
        try:
            without_zone(address)
            if not address.isprintable():  # its zone may be any text
                raise ValueError(f"{address!r} is no address")
        except ValueError as error:
            raise BadMessage(str(error)) from error
        refused = self._admission.identify(worker.epoch, message.session, address, self._clock())
        _send(worker, message.session, refused)

    def _on_login_failed(self, worker: WorkerHandle, message: LoginFailed) -> None:
        seconds = self._admission.login_failed(
            worker.epoch, message.session, message.login, self._clock()
        )
        worker.failures[message.session] += 1
        if worker.failures[message.session] > _MOST_FAILURES:
            raise BadMessage(f"session {message.session} failed to log in again and again")
        worker.channel.send(LoginDelay(message.session, seconds))

    def _on_logged_in(self, worker: WorkerHandle, message: LoggedIn) -> None:
        """Count sessions that have logged in already; the limits of today do not refuse them."""
        for session, login in message.logins:
            if self._ledger.holds(worker.epoch, session):
                self._ledger.login(worker.epoch, session, login, None)


def _send(worker: WorkerHandle, session: int, refused: Refusal | None) -> None:
    answer = None if refused is None else refused.value
    worker.channel.send(SlotAnswer(session, answer))
