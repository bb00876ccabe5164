"""The sockets of one configuration after another."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from ftpcluster.cli.binding import Binder, listeners_of
from ftpcluster.config import Config, Listen
from ftpcluster.net.listeners import CannotListen, listen


@pytest.fixture
def binder() -> Iterator[Binder]:
    binder = Binder()
    yield binder
    binder.close()


def test_a_socket_that_both_configurations_have_goes_on(binder: Binder) -> None:
    where = binder.listen("127.0.0.1", 0).getsockname()
    after = Binder(binder)
    with after.listen("127.0.0.1", 0) as sock:
        assert sock.getsockname() == where


def test_a_configuration_that_is_given_up_leaves_the_service_manager_s_sockets_alone() -> None:
    with listen("127.0.0.1", 0) as sock:
        binder = Binder(inherited=[(sock, "name")])
        (listener,) = listeners_of(Config(), binder)
        assert listener.sock.getsockname() == sock.getsockname()
        binder.close()
        assert listener.sock.fileno() == -1
        assert sock.fileno() >= 0


def test_a_socket_that_was_given_up_at_once_is_bound_anew(binder: Binder) -> None:
    """As one of two families is with port 0, where the other one has its port taken."""
    binder.listen("127.0.0.1", 0).close()
    kept = binder.listen("127.0.0.1", 0).getsockname()
    after = Binder(binder)
    with after.listen("127.0.0.1", 0) as sock:
        assert sock.getsockname() == kept


class Mute(socket.socket):
    """A socket whose address the kernel does not tell."""

    def getsockname(self) -> tuple[str, int]:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))


def test_a_socket_that_does_not_tell_its_address_is_an_error(
    binder: Binder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Mute() as sock:
        monkeypatch.setattr(binder, "listen", lambda *_, **__: sock)
        config = Config(listen=(Listen(address="127.0.0.1", port=2121),))
        with pytest.raises(CannotListen, match="No buffer space available"):
            listeners_of(config, binder)
