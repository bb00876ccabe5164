"""The sockets of one configuration after another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ftpcluster.cli.binding import Binder, listeners_of
from ftpcluster.config import Config
from ftpcluster.net.listeners import listen


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
