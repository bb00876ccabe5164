"""Accepting data connections: compiled and in Python alike."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import signal
import socket
import struct
from collections.abc import Iterator
from types import ModuleType

import pytest

from ftpcluster.net import sockets
from tests.support.leaks import assert_leaves_nothing, open_descriptors

compiled = pytest.importorskip("ftpcluster._native.sockets", reason="was not built")
BOTH = pytest.mark.parametrize("twin", [sockets, compiled], ids=["python", "compiled"])


@pytest.fixture(params=["127.0.0.1", "::1", "::"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """``::`` takes clients of IPv4 as well."""
    host = request.param
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::") as listener:
        listener.settimeout(0)
        yield listener


def client(listener: socket.socket) -> socket.socket:
    host, port, *_ = listener.getsockname()
    return socket.create_connection(("127.0.0.1" if host == "::" else host, port))


@BOTH
def test_a_connection_is_accepted_with_its_address(
    twin: ModuleType, listener: socket.socket
) -> None:
    assert twin.is_queued(listener) is False
    assert twin.accept_at_once(listener) is None
    with client(listener) as first, client(listener):
        assert twin.is_queued(listener) is True
        fd, host = twin.accept_at_once(listener)
        second, (expected, *_) = listener.accept()
        second.close()
        assert host == expected
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        first.send(b"x")
        os.set_blocking(fd, True)
        assert os.read(fd, 10) == b"x"
        os.close(fd)
    assert twin.is_queued(listener) is False
    assert twin.accept_at_once(listener) is None


@BOTH
def test_what_was_reset_in_the_queue_is_no_crash(twin: ModuleType, listener: socket.socket) -> None:
    made = client(listener)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made.close()
    fd, _ = twin.accept_at_once(listener)
    with pytest.raises(ConnectionResetError):
        os.read(fd, 1)
    os.close(fd)


@BOTH
def test_errors_are_those_of_the_kernel(twin: ModuleType, listener: socket.socket) -> None:
    with socket.socket() as unbound:
        unbound.settimeout(0)
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)) as raised:
            twin.accept_at_once(unbound)
        assert raised.value.errno == errno.EINVAL
    for function in (twin.accept_at_once, twin.is_queued):
        with pytest.raises((TypeError, AttributeError)):
            function(None)
        with pytest.raises((OSError, ValueError)):
            function(unbound)  # closed
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError, match="not supported"):
        twin.is_queued(ours)


@BOTH
def test_where_no_descriptor_is_left_the_connection_stays_in_the_queue(twin: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, client(listener):
        listener.settimeout(0)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 1, hard))
        taken = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)) as raised:
                twin.accept_at_once(listener)
            assert raised.value.errno == errno.EMFILE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in taken:
                os.close(fd)
        os.close(twin.accept_at_once(listener)[0])


@BOTH
def test_a_signal_is_handled_and_no_error(twin: ModuleType) -> None:
    calls = 0

    def handle(*_: object) -> None:
        nonlocal calls
        calls += 1

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0)
            while calls < 20:
                assert twin.accept_at_once(listener) is None
                assert not twin.is_queued(listener)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_calls_leave_nothing_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as unbound:
        listener.settimeout(0)
        unbound.settimeout(0)

        def accept() -> None:
            with client(listener):
                os.close(compiled.accept_at_once(listener)[0])

        def fail() -> None:
            for source in (unbound, None):
                with contextlib.suppress(OSError, TypeError):
                    compiled.accept_at_once(source)
                with contextlib.suppress(OSError, TypeError):
                    compiled.is_queued(source)

        assert_leaves_nothing(accept, 300, listener)
        assert_leaves_nothing(fail, 2000, unbound, None)
        assert_leaves_nothing(lambda: compiled.accept_at_once(listener), 2000, listener, None)
        assert_leaves_nothing(lambda: compiled.is_queued(listener), 2000, listener)


def test_connections_of_other_families_are_closed() -> None:
    path = b"\0ftpcluster-%d" % os.getpid()
    before = open_descriptors()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as made:
        listener.bind(path)
        listener.listen()
        listener.settimeout(0)
        made.connect(path)
        with pytest.raises(OSError, match="no address of the internet"):
            compiled.accept_at_once(listener)
        assert made.recv(1) == b""
    assert open_descriptors() == before
