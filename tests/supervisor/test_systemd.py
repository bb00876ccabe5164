"""What a service manager is told, and the sockets that it hands over."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ftpcluster.supervisor.systemd import Notifier, inherited_sockets

DEADLINE = 30.0

SHOW_SOCKETS = """
import fcntl, os, socket
from ftpcluster.net.listeners import CannotListen
from ftpcluster.supervisor.systemd import inherited_sockets
try:
    found = inherited_sockets()
except CannotListen as error:
    print("error:", error)
    found = []
for sock, name in found:
    options = [
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE),
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
        fcntl.fcntl(sock, fcntl.F_GETFD) & fcntl.FD_CLOEXEC,
        not sock.getblocking(),
    ]
    print(name, sock.fileno(), sock.getsockname()[1], all(options))
print([name for name in os.environ if name.startswith("LISTEN_")])
"""

AS_SYSTEMD = """
import fcntl, os, sys
code, *numbers = sys.argv[1:]
# first out of the way of the numbers that they are to have
files = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 3 + len(numbers)) for number in numbers]
for number, file in enumerate(files, 3):
    os.dup2(file, number)
os.closerange(3 + len(files), max([0, *files, *map(int, numbers)]) + 1)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-c", code])
"""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A service manager's socket, which NOTIFY_SOCKET names."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(DEADLINE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


@pytest.fixture
def notifier(manager: socket.socket) -> Iterator[Notifier]:
    with contextlib.closing(Notifier()) as notifier:
        yield notifier


def heard(manager: socket.socket) -> list[str]:
    """The assignments of the next message."""
    return manager.recv(4096).decode().split("\n")


# ---------------------------------------------------------------------- sd_notify(3)


def test_a_manager_is_told_what_the_service_does(
    manager: socket.socket, notifier: Notifier
) -> None:
    notifier.ready("2 workers")
    assert heard(manager) == ["READY=1", "STATUS=2 workers"]
    notifier.status("3 sessions")
    assert heard(manager) == ["STATUS=3 sessions"]
    notifier.watchdog()
    assert heard(manager) == ["WATCHDOG=1"]
    notifier.stopping()
    assert heard(manager) == ["STOPPING=1"]


def test_a_reload_tells_when_it_began(manager: socket.socket, notifier: Notifier) -> None:
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    notifier.reloading()
    after = time.clock_gettime(time.CLOCK_MONOTONIC)
    reloading, moment = heard(manager)
    assert reloading == "RELOADING=1"
    name, microseconds = moment.split("=")
    assert name == "MONOTONIC_USEC"
    assert int(before * 1e6) <= int(microseconds) <= after * 1e6


def test_a_manager_with_an_abstract_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # the kernel chooses an abstract one
        manager.settimeout(DEADLINE)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + manager.getsockname()[1:].decode())
        with contextlib.closing(Notifier()) as notifier:
            notifier.stopping()
        assert heard(manager) == ["STOPPING=1"]


def test_a_status_of_several_lines_is_one_assignment(
    manager: socket.socket, notifier: Notifier
) -> None:
    notifier.status("serving\nMAINPID=1\udcff")
    assert heard(manager) == ["STATUS=serving MAINPID=1?"]


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_without_a_managers_socket_nothing_happens(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    with contextlib.closing(Notifier()) as notifier:
        notifier.ready("2 workers")
        notifier.watchdog()
    assert notifier.watchdog_interval is None


def test_a_manager_that_is_gone_and_comes_back_is_told_what_is_new(
    manager: socket.socket, notifier: Notifier
) -> None:
    path = manager.getsockname()
    manager.close()
    os.unlink(path)
    notifier.status("nobody hears this")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as later:
        later.bind(path)
        later.settimeout(DEADLINE)
        notifier.watchdog()
        assert heard(later) == ["WATCHDOG=1"]


def test_a_manager_that_reads_nothing_is_not_waited_for_and_loses_nothing(
    manager: socket.socket, notifier: Notifier
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"FILL=1", manager.getsockname())
    notifier.ready("2 workers")
    for _ in range(100):
        notifier.watchdog()
    manager.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            assert heard(manager) == ["FILL=1"]
    notifier.watchdog()
    assert heard(manager) == ["READY=1", "STATUS=2 workers"]
    assert heard(manager) == ["WATCHDOG=1"]


@pytest.mark.usefixtures("manager")
@pytest.mark.parametrize(
    ("patience", "whose", "interval"),
    [
        ("30000000", "ours", 15.0),
        ("30000000", None, 15.0),
        ("30000000", "another's", None),
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_a_watchdog_is_fed_at_half_of_its_patience(
    patience: str | None,
    whose: str | None,
    interval: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = {"ours": str(os.getpid()), "another's": str(os.getppid()), None: None}[whose]
    for name, value in (("WATCHDOG_USEC", patience), ("WATCHDOG_PID", process)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with contextlib.closing(Notifier()) as notifier:
        assert notifier.watchdog_interval == interval


@pytest.mark.usefixtures("manager")
def test_children_do_not_inherit_the_managers_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    Notifier().close()
    done = subprocess.run(["env"], capture_output=True, text=True, check=True)
    names = {line.split("=")[0] for line in done.stdout.splitlines()}
    assert names.isdisjoint({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


# ---------------------------------------------------------------------- sd_listen_fds(3)


def started_with(
    files: Sequence[socket.socket | int], count: str, names: str | None = None
) -> list[str]:
    """What a process prints that gets these as descriptors 3, 4 and so on."""
    numbers = [file if isinstance(file, int) else file.fileno() for file in files]
    environment = {**os.environ, "LISTEN_FDS": count, "LISTEN_PIDFDID": "1"}
    if names is not None:
        environment["LISTEN_FDNAMES"] = names
    done = subprocess.run(
        [sys.executable, "-c", AS_SYSTEMD, SHOW_SOCKETS, *map(str, numbers)],
        pass_fds=numbers,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_listening_sockets_are_taken_over_with_their_names_and_our_options(
    listener: socket.socket,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as second:
        ports = [listener.getsockname()[1], second.getsockname()[1]]
        said = started_with([listener, second], "2", "ftpcluster.socket:implicit")
    assert said == [
        f"ftpcluster.socket 3 {ports[0]} True",
        f"implicit 4 {ports[1]} True",
        "[]",
    ]


def test_sockets_need_no_names(listener: socket.socket) -> None:
    assert started_with([listener], "1")[0] == f"unknown 3 {listener.getsockname()[1]} True"


def test_what_is_no_listening_tcp_socket_is_refused(
    listener: socket.socket, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        wrong: list[socket.socket | int] = [
            stack.enter_context(socket.socket()),  # does not listen
            stack.enter_context(socket.create_connection(listener.getsockname())),
            stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)),
            stack.enter_context(socket.socket(socket.AF_UNIX)),
        ]
        path = stack.enter_context(socket.socket(socket.AF_UNIX))
        path.bind(str(tmp_path / "socket"))
        path.listen()
        for file in (*wrong, path):
            assert started_with([listener, file], "2", "ftp:other") == [
                'error: descriptor 4 ("other") from the service manager is no listening TCP '
                "socket; give it a ListenStream= of an address and a port, without Accept=yes",
                "[]",
            ]


def test_what_is_no_socket_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        said = started_with([file.fileno()], "1", "ftp")
    assert said[0].startswith('error: descriptor 3 ("ftp") from the service manager is no socket;')


@pytest.mark.parametrize(("count", "names"), [("2", "one"), ("two", None)])
def test_variables_that_do_not_fit_are_an_error(
    listener: socket.socket, count: str, names: str | None
) -> None:
    error, left = started_with([listener, listener], count, names)
    assert error.startswith("error: LISTEN_FD")
    assert left == "[]"


def test_sockets_of_another_process_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    assert inherited_sockets() == []
    assert "LISTEN_FDS" not in os.environ


def test_without_a_manager_there_are_no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LISTEN_FDS", "LISTEN_PID"):
        monkeypatch.delenv(name, raising=False)
    assert inherited_sockets() == []
