"""Sockets are closed in a thread; where none is to be had, later, and in the end all the same."""

from __future__ import annotations

import socket
import threading

import pytest

from ftpcluster.ipc.closing import Closer

DEADLINE = 20.0


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def fails(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fails)
    return monkeypatch


def is_closed(peer: socket.socket) -> bool:
    peer.settimeout(DEADLINE)
    with peer:
        return peer.recv(1) == b""


def test_without_a_thread_all_are_closed_at_the_end(no_threads: pytest.MonkeyPatch) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    closer = Closer()
    closer.close(ours.detach() for ours, _ in pairs)
    closer.end()
    assert all(is_closed(theirs) for _, theirs in pairs)


def test_what_waits_for_a_thread_is_closed_with_the_next(no_threads: pytest.MonkeyPatch) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    closer = Closer()
    closer.close((pairs[0][0].detach(),))
    no_threads.undo()
    closer.close((pairs[1][0].detach(),))
    assert all(is_closed(theirs) for _, theirs in pairs)
    closer.end()
