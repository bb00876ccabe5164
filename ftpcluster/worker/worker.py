"""A worker: adopts the sockets that the supervisor accepted, and runs their sessions.

It is crash-only: it holds nothing that has to be put in order when it dies. When the supervisor
is gone (end of the channel) it drains and ends.
"""

from __future__ import annotations

import asyncio
import logging
import socket

from ftpcluster.config import WorkerConfig
from ftpcluster.ipc.channel import worker_end
from ftpcluster.ipc.messages import (
    Adopt,
    Adopted,
    EndSession,
    Grants,
    Ready,
    ReloadCertificates,
    SetLimits,
    SlotAnswer,
    ToWorker,
)
from ftpcluster.net.certificates import BadCertificate
from ftpcluster.quota.leases import Rates
from ftpcluster.session.reception import Arrived, Reception
from ftpcluster.worker.entry import ORPHAN_GRACE
from ftpcluster.worker.quotas import RemoteQuotas
from ftpcluster.worker.services import make_services

log = logging.getLogger(__name__)

_END_OF_TASKS = 5.0


class Worker:
    """The sessions of one process."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, settings: WorkerConfig
    ) -> None:
        """Takes over ``sock``. Raises ConfigError where a class of the user's cannot be used."""
        self._loop = loop
        config = settings.config
        rates = Rates(config.limits.upload, config.limits.download)
        self._quotas = RemoteQuotas(
            loop,
            config.workers,
            rates,
            tells_logins=config.limits.connections_not_logged_in is not None,
        )
        self._services = make_services(loop, settings, self._quotas)
        self._reception = Reception(self._services, self._look_whether_drained)
        self._arrived: list[Arrived] = []
        self._draining = False
        self._drained: asyncio.Future[None] = loop.create_future()
        self._channel = worker_end(
            loop, sock, self._on_message, self._on_supervisor_gone, self._adopt
        )
        self._quotas.channel = self._channel

    async def serve(self) -> None:
        """Serve until told to stop, or until the supervisor is gone."""
        self._channel.send(Ready())
        await self._drained
        if self._services.tasks:  # user managers that are told of logouts
            await asyncio.wait(self._services.tasks, timeout=_END_OF_TASKS)
        self._quotas.report()
        self._channel.close()
        await self._services.masquerade.close()
        self._services.close()

    def drain(self, grace: float) -> None:
        """End idle sessions now, transfers when they are done, and all after ``grace`` seconds."""
        if self._draining:
            return
        self._draining = True
        self._reception.drain()
        self._loop.call_later(grace, self._end_all)
        self._look_whether_drained()

    def _end_all(self) -> None:
        self._reception.end_all()
        self._look_whether_drained()

    def _look_whether_drained(self) -> None:
        if self._draining and self._reception.is_empty and not self._drained.done():
            self._drained.set_result(None)

    def _on_message(self, message: ToWorker, fd: int | None) -> None:
        if isinstance(message, Adopt):
            if fd is None:
                log.warning("a connection was lost: too many open files in this worker")
                self._quotas.end(message.session)
            else:
                self._arrived.append(
                    Arrived(
                        message.session,
                        fd,
                        message.peer,
                        message.peer_port,
                        message.implicit_tls,
                        message.is_proxied,
                    )
                )
        elif isinstance(message, SlotAnswer):
            self._quotas.on_answer(message)
        elif isinstance(message, ReloadCertificates):
            self._reload_certificates()
        elif isinstance(message, Grants):
            self._quotas.leases.on_grants(message)
        elif isinstance(message, SetLimits):
            self._quotas.leases.order(message.login, message.rates)
            self._reception.limits_changed(message.login)
        elif isinstance(message, EndSession):
            self._reception.end(message.session, message.reason)
        else:
            self.drain(message.grace)

    def _reload_certificates(self) -> None:
        if self._services.tls is not None:
            try:
                self._services.tls.reload()
            except BadCertificate as error:
                # the supervisor has looked at them; they have changed once more
                log.error("certificates not reloaded: %s", error)

    def _adopt(self) -> None:
        """Confirm what has arrived, all at once, and only then talk to the clients.

        A client that was greeted by a worker that dies before it confirmed would be handed to
        another one, and greeted twice.
        """
        if not self._arrived:
            return
        arrived, self._arrived = self._arrived, []
        self._channel.send(Adopted(tuple(each.session for each in arrived)))
        for each in arrived:
            self._reception.receive(each)

    def _on_supervisor_gone(self, error: Exception | None) -> None:
        if not self._draining:
            log.error("the supervisor is gone%s; ending", f" ({error})" if error else "")
        self.drain(ORPHAN_GRACE)
