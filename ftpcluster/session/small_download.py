"""A small file that is sent in one call: most downloads of many files are.

It does what a Download does, for one that needs no wait, no limit and no TLS. There is no moment in
which others could look at it, so it is no Transfer while it runs.
"""

from __future__ import annotations

import os

from ftpcluster.descriptors import close_quietly
from ftpcluster.net.passive import PassiveListener
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.download import Download
from ftpcluster.session.hooks import NO_HOOKS
from ftpcluster.session.login import Account
from ftpcluster.session.server_dtp import raise_if_gone
from ftpcluster.session.state import Session
from ftpcluster.storage.base import COPY_REFUSED, File

_SMALL = 64 * 1024
"""Bytes. The socket takes a larger file in parts in any case."""


class SmallDownload:
    """A download that has ended, as logs and counters see it."""

    __slots__ = ("path",)
    direction = "download"
    is_protected = False

    def __init__(self, path: str) -> None:
        self.path = path


def accept_for_small(session: Session, file: File) -> int | None:
    """The data connection for a file that may be sent in one call; None: nothing has been done.

    The connection is the caller's. Raises OSError where no descriptor is left.
    """
    listener, talk, login = session.data, session.conversation, session.login
    if (
        type(listener) is PassiveListener
        and file.size <= _SMALL
        and file.kernel_fd is not None
        and session.parameters.binary
        and type(login) is Account
        and login.speed_limits is None
        and session.hooks is NO_HOOKS
        and talk.proxy is None
        and (not file.size or file.is_resident(0))
        and (fd := listener.accept(talk.peer)) is not None
    ):
        session.data = None
        listener.give_back()
        return fd
    return None


def send_small(session: Session, fd: int, file: File, text: str, path: str) -> Download | None:
    """Say 150 with ``text``, send a file over a connection, and close that.

    Returns a Download where the socket has not taken all: it has begun, and has to go on. Raises
    TransferAborted where the client is gone.
    """
    source, size, sent = file.kernel_fd, file.size, 0
    assert source is not None
    try:
        session.control.announce(Reply(Code.FILE_STATUS_OK, text))
        session.progress = 0
        session.last_transfer = SmallDownload(path)
        session.progress = sent = os.sendfile(fd, source, 0, size) if size else 0
    except BaseException as error:
        if not isinstance(error, BlockingIOError) and not (
            isinstance(error, OSError) and error.errno in COPY_REFUSED
        ):
            close_quietly(fd)
            raise_if_gone(error)
            raise
    if sent < size:
        return Download.begun(session, fd, size, path)
    try:  # as ``close_quietly``, without its call
        os.close(fd)
    except OSError:
        pass
    return None
