"""The admin socket: an administrator's orders and questions to the running server.

Only root and the user who started the server may use it: only they may open the socket, and the
kernel names the caller's user. With ``run_as`` workers run as another user. Without it, workers are
told from administrators by their processes (``peers``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable

import msgspec

from ftpcluster.admin.requests import (
    MOST_SECONDS,
    MOST_SPEED,
    AnyReply,
    AnyRequest,
    BanList,
    BanNetwork,
    BanView,
    ChangedUser,
    Done,
    DrainWorker,
    Kick,
    Limit,
    ListBans,
    Overview,
    Refused,
    Reload,
    SessionView,
    Stop,
    Unban,
    WhoRequest,
    WorkerView,
)
from ftpcluster.ipc.messages import SessionReport
from ftpcluster.protocol.text import visible
from ftpcluster.quota.rates import Rates
from ftpcluster.supervisor.peers import why_not
from ftpcluster.supervisor.supervisor import Supervisor
from ftpcluster.supervisor.worker_handle import WorkerHandle

log = logging.getLogger(__name__)

_LONGEST = 64 * 1024
_LONGEST_REASON = 200
_KICKED = "Closed by the administrator."
_decode = msgspec.json.Decoder(AnyRequest).decode


class ReloadRefused(Exception):
    """A reload failed, and nothing has changed; the message says why."""


class CannotBind(Exception):
    """The admin socket cannot be made; the message says why."""


def bind(path: str) -> socket.socket:
    """A listening socket that its owner and root may connect to. Raises CannotBind.

    The socket that a killed server has left there is replaced. A socket that a process listens on
    is not replaced, and no other file is.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen()
        sock.settimeout(0)
    except OSError as error:
        raise CannotBind(f"{path}: {error.strerror or error}") from error
    return sock


def _remove_stale(path: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise CannotBind(f"{path}: there is something else; remove it, or name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # the queue of a server that hangs may be full: to wait for it would hang this one, too
        probe.settimeout(0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise CannotBind(f"{path}: another server has it; give this one its own: [admin] socket")


def _file_at(path: str) -> tuple[int, int] | None:
    """Device and inode of the file at a path; None where they cannot be had."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class AdminServer:
    """Answers administrators for as long as the server runs."""

    def __init__(
        self,
        sock: socket.socket,
        supervisor: Supervisor,
        reload: Callable[[], Awaitable[str]],
        change_user: Callable[[str], Awaitable[str]],
        operator: int,
    ) -> None:
        """``reload`` returns a description of what is served then; it raises ReloadRefused.
        ``change_user`` returns what has changed; it raises ReloadRefused, too.

        ``operator``: the user that, like root, may give orders.
        """
        self._operator = operator
        self._sock = sock
        self._path = sock.getsockname()
        self._made = _file_at(self._path)
        self._supervisor = supervisor
        self._reload = reload
        self._change_user = change_user
        self._began = asyncio.get_running_loop().time()
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_unix_server(
            self._on_client, sock=self._sock, limit=_LONGEST
        )

    def close(self) -> None:
        """Take no more connections, and leave nothing behind."""
        # if our socket was removed, another server may have put its own there; as long as ours is
        # open, no other file has its inode
        if self._made is not None and self._made == _file_at(self._path):
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        if self._server is not None:
            self._server.close()
        for conversation in self._conversations:
            conversation.cancel()
        self._sock.close()

    def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # a task of our own: if Python 3.11 makes the task, it reports the task's end as an error
        conversation = asyncio.ensure_future(self._converse(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            refusal = why_not(writer.get_extra_info("socket"), self._operator)
            if refusal is not None:
                log.warning("an order was refused: %s", refusal)
                writer.write(_line(Refused(refusal)))
                return
            while line := await reader.readline():
                writer.write(_line(await self._answer(line)))
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the peer left, or sent a line without end
        except OSError as error:
            log.debug("the connection of an administrator has failed: %s", error)
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> AnyReply:
        try:
            request = _decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return Refused(f"not understood: {error}")
        if isinstance(request, WhoRequest):
            return await self._overview()
        if isinstance(request, Kick):
            return await self._kick(request)
        if isinstance(request, Limit):
            return await self._limit(request)
        if isinstance(request, BanNetwork):
            return self._ban(request)
        if isinstance(request, Unban):
            return self._unban(request.network)
        if isinstance(request, ListBans):
            return self._bans()
        if isinstance(request, DrainWorker):
            return self._drain(request.worker)
        if isinstance(request, Reload):
            try:
                return Done(f"reloaded: {await self._reload()}")
            except ReloadRefused as error:
                return Refused(f"not reloaded: {error}")
        if isinstance(request, ChangedUser):
            try:
                return Done(await self._change_user(request.login))
            except ReloadRefused as error:
                return Refused(f"not in force: {error}")
        return self._stop(request)

    # ------------------------------------------------------------------ orders

    async def _kick(self, request: Kick) -> AnyReply:
        if request.session is not None:
            numbers = [request.session]
        elif request.address is not None:
            # also sessions that no worker reports, since none has begun them
            numbers = [
                number for _, number in self._supervisor.ledger.sessions_of({request.address})
            ]
        else:
            numbers = await self._sessions_of(request.login or "")
        count = sum(self._supervisor.end_session(number, _KICKED) for number in numbers)
        if not count:
            return Refused(f"there is no such session{await self._hint(request.session)}")
        whom = next(filter(None, (request.session, request.login, request.address)), "")
        log.info("an administrator ended %d session%s (%s)", count, "s" * (count > 1), whom)
        return Done("1 session ended" if count == 1 else f"{count} sessions ended")

    async def _sessions_of(self, name: str) -> list[int]:
        account = self._supervisor.account_of(name)
        return [
            report.session
            for _, reports in await self._supervisor.session_reports.ask()
            for report in reports
            if report.login == account
        ]

    async def _hint(self, word: object) -> str:
        """A hint where a word is not read as a user's name, but a user has that name."""
        if await self._sessions_of(str(word)):
            return f"; the user of that name is user:{word}"
        return ""

    async def _limit(self, request: Limit) -> AnyReply:
        for speed in (request.download, request.upload):
            if speed is not None and not 1 <= speed <= MOST_SPEED:
                return Refused(f"a speed has to be from 1 to {MOST_SPEED} bytes per second")
        login = None if request.login is None else self._supervisor.account_of(request.login)
        self._supervisor.set_limits(login, Rates(upload=request.upload, download=request.download))
        whose = "the server" if login is None else f"user {login}"
        log.info(
            "an administrator set the speed limits of %s: download %s, upload %s",
            whose, request.download or "none", request.upload or "none",
        )  # fmt: skip
        if login is None:
            note = await self._hint("server")
        else:
            is_there = await self._sessions_of(login)
            note = "" if is_there else "; nobody of that name is logged in"
        return Done(f"the limits of {whose} hold from now on, until the next reload{note}")

    def _ban(self, request: BanNetwork) -> AnyReply:
        seconds, reason = request.seconds, request.reason
        if seconds is not None and not 1 <= seconds <= MOST_SECONDS:
            return Refused(f"a ban has to last from 1 to {MOST_SECONDS} seconds, or without end")
        if not reason.isprintable() or len(reason) > _LONGEST_REASON:
            return Refused(f"a reason is one line of at most {_LONGEST_REASON} characters")
        try:
            ban = self._supervisor.ban(request.network, seconds, reason)
        except ValueError as error:
            return Refused(str(error))
        how_long = "until that is lifted" if seconds is None else f"for {seconds} s"
        return Done(f"{ban.network} is banned {how_long}")

    def _unban(self, network: str) -> AnyReply:
        try:
            lifted = self._supervisor.unban(network)
            rest = None if "/" in network else self._supervisor.find_ban(network)
            denied = None if "/" in network else self._supervisor.denied(network)
        except ValueError as error:
            return Refused(str(error))
        if rest is not None:
            return Refused(f"{network} is still banned, with {rest.network}")
        if denied is not None:
            return Refused(f"{network} is denied, with {denied}: change [ban] deny, and reload")
        if not lifted:
            return Refused(f"{network} is not banned")
        return Done(f"{' and '.join({ban.network for ban in lifted})} is no longer banned")

    def _bans(self) -> BanList:
        now = asyncio.get_running_loop().time()
        return BanList(
            tuple(
                BanView(
                    ban.network,
                    None if ban.until is None else max(0.0, ban.until - now),
                    ban.is_manual,
                    ban.reason,
                )
                for ban in self._supervisor.bans()
            )
        )

    def _drain(self, worker: int) -> AnyReply:
        if self._supervisor.drain(worker - 1, "an administrator wants it"):
            return Done(
                f"another worker {worker} starts; the sessions of this one have timeouts.drain, "
                "and are ended then"
            )
        return Refused(f"there is no worker {worker}, or it is being replaced already")

    def _stop(self, request: Stop) -> AnyReply:
        log.info("an administrator stops the server")
        loop = asyncio.get_running_loop()
        # after the answer
        loop.call_soon(self._supervisor.stop_now if request.now else self._supervisor.stop)
        grace = "when its transfers have, or timeouts.shutdown is over"
        how = "now" if request.now else grace
        return Done(f"the server ends {how}")

    # ------------------------------------------------------------------ views

    async def _overview(self) -> Overview:
        from importlib.metadata import version  # which a start need not load

        supervisor = self._supervisor
        now = asyncio.get_running_loop().time()
        sessions = await self._sessions()
        rates = supervisor.speed.server_rates
        return Overview(
            version=version("ftpcluster"),
            age=now - self._began,
            listening=supervisor.listening,
            connections=supervisor.ledger.connections,
            most_connections=supervisor.ledger.limits.server,
            download=sum(each.speed for each in sessions if each.direction == "download"),
            upload=sum(each.speed for each in sessions if each.direction == "upload"),
            download_limit=rates.download,
            upload_limit=rates.upload,
            workers=tuple(self._worker(worker, now) for worker in supervisor.workers),
            sessions=tuple(sessions),
        )

    async def _sessions(self) -> list[SessionView]:
        return [
            self._session(worker, report)
            for worker, reports in await self._supervisor.session_reports.ask()
            for report in reports
        ]

    def _worker(self, worker: WorkerHandle, now: float) -> WorkerView:
        return WorkerView(
            worker=worker.place.index + 1,
            pid=worker.process.pid,
            state="suspect" if worker.is_suspect else worker.phase.value,
            sessions=self._supervisor.ledger.held_by(worker.epoch),
            load=worker.load,
            lag=worker.lag,
            memory=worker.memory,
            age=now - worker.started,
        )

    def _session(self, worker: WorkerHandle, report: SessionReport) -> SessionView:
        supervisor = self._supervisor
        held_by: str = report.held_by
        if held_by == "shared limit":
            held_by = supervisor.speed.held_by(report.login, report.direction)
        return SessionView(
            session=report.session,
            worker=worker.place.index + 1,
            user=visible(report.login),
            address=supervisor.ledger.address_of(worker.epoch, report.session) or "",
            tls=report.is_protected,
            age=report.age,
            idle=report.idle,
            command=visible(report.command),
            direction=report.direction,
            size=report.size,
            moved=report.moved,
            speed=report.speed,
            held_by=held_by,
        )


def _line(reply: AnyReply) -> bytes:
    return msgspec.json.encode(reply) + b"\n"
