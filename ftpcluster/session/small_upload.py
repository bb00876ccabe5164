"""An upload to an empty file, made cheap for small files: where clients send many, most are small.

It is an Upload and does the same, with one coroutine in place of four. Where more than 64 KiB come,
it goes on as every upload does.
"""

from __future__ import annotations

from ftpcluster.net.passive import PassiveListener
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.hooks import NO_HOOKS
from ftpcluster.session.login import Account
from ftpcluster.session.server_dtp import BLOCK
from ftpcluster.session.state import Session
from ftpcluster.session.transfer_waits import Cause, TransferWaits
from ftpcluster.session.upload import SCRATCH, Upload, finish
from ftpcluster.storage.base import File

_SMALL = 64 * 1024
"""Bytes."""
_COMPLETE = Reply(Code.TRANSFER_COMPLETE, "Transfer complete.")


class SmallUpload(Upload):
    """An upload whose record of waits is made only when somebody asks for it: until then it has
    waited for its client only."""

    __slots__ = ("_began", "_has_waited")
    is_protected = False
    _began: float
    _has_waited: bool

    @classmethod
    def beginning(cls, session: Session, file: File, text: str, path: str) -> SmallUpload | None:
        """Say 150 with ``text`` over the data connection, and begin to wait for its client.

        None where no connection is there, or a limit, TLS or a hook needs another way: then nothing
        has been done.
        """
        listener, talk, login = session.data, session.conversation, session.login
        if (
            type(listener) is not PassiveListener
            or not file.is_synchronous
            or not session.parameters.binary
            or type(login) is not Account
            or login.speed_limits is not None
            or session.hooks is not NO_HOOKS
            or talk.proxy is not None
            or (fd := listener.accept(talk.peer)) is None
        ):
            return None
        session.control.announce(Reply(Code.FILE_STATUS_OK, text))
        listener.give_back()
        session.data = None
        session.progress = session.pending.restart = 0
        upload = cls.begun(session, fd, None, path)
        upload._began, upload._has_waited = session.services.loop.time(), False
        return upload

    @property
    def waits(self) -> TransferWaits:
        waits = self._waits
        if waits is None:
            waits = self._waits = TransferWaits(self._session.services.loop.time)
            waits.began_to_wait(Cause.CLIENT, self._began)
            if self._has_waited:
                waits.end()
        return waits

    def wait_again(self) -> None:
        """The client has not sent all yet: as ``readable``, without its coroutine."""
        self._turn = 0
        self._has_waited = False
        if self._waits is not None:
            self._waits.begin(Cause.CLIENT)

    def has_waited(self) -> None:
        """Something has come."""
        self._has_waited = True
        if self._waits is not None:
            self._waits.end()
        if self._pace is not None:
            self._look_at_pace()


async def receive_new(session: Session, file: File, text: str, path: str) -> Reply:
    """Say 150 with ``text``, receive what a file has from now on, and close both.

    A coroutine in any case: clients send nothing before they have read 150.
    """
    upload = None
    try:
        upload = SmallUpload.beginning(session, file, text, path)
        if upload is None:
            await Upload(session, text, path=path).receive_all(file, truncates=True)
        else:
            file.truncate()
            await upload.stream.readable()
            upload.has_waited()
            receive, received = upload.stream.recv_into, 0
            while True:
                try:
                    count = receive(SCRATCH if upload.most >= BLOCK else SCRATCH[: upload.most])
                except BlockingIOError:
                    upload.wait_again()
                    await upload.stream.readable()
                    upload.has_waited()
                    continue
                if not count:
                    break
                file.write(SCRATCH[:count])
                received += count
                if (pause := upload.moved(count)) is not None:
                    await pause
                if received > _SMALL:
                    await upload.receive_rest(file, received)
                    break
            upload.close_at_once()
        # a storage may say only here that it cannot keep the file: 226 after it
        if (finishing := finish(session, file)) is not None:
            await finishing
    except BaseException as error:
        if upload is not None and upload.has_begun:
            upload.close_at_once(error)
        raise
    finally:
        if (closing := file.close()) is not None:
            await closing
    return _COMPLETE
