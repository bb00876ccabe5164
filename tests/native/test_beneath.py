"""Opening beneath a directory: compiled and in Python alike."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftpcluster.storage import beneath
from tests.support.leaks import assert_leaves_nothing, open_descriptors

compiled = pytest.importorskip("ftpcluster._native.beneath", reason="was not built")
TWINS = [beneath, compiled]
BOTH = pytest.mark.parametrize("twin", TWINS, ids=["Python", "compiled"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with entries of each kind, and a file beside it that is not to be reached."""
    (tmp_path / "outside").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "directory").mkdir(parents=True)
    (root / "file").write_bytes(b"12345")
    (root / "böse").write_bytes(b"1")
    (root / os.fsdecode(b"\xff\xfe")).touch()
    (root / "directory/inside").touch()
    (root / "link").symlink_to("file")
    (root / "out").symlink_to("../outside")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "loop").symlink_to("loop")
    (root / "magic").symlink_to("/proc/self/fd/0")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{root}/socket")
    os.link(root / "file", root / "twice")
    return root


@pytest.fixture
def directory(root: Path) -> Iterator[int]:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def outcome(function: Callable[..., Any], *arguments: object) -> Any:
    """What a call returns or raises; descriptors are closed, since their numbers differ."""
    try:
        found = function(*arguments)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        kind = ValueError if isinstance(error, ValueError) else type(error)
        return kind, error.errno if isinstance(error, OSError) else None
    if isinstance(found, tuple):
        fd, *rest = found
        assert not os.get_inheritable(fd)
        os.close(fd)
        return rest
    return found


PIECES = st.sampled_from(
    ["", ".", "..", "...", "/", "//", "a", "ä", "..a", "a..", "\0", "\udcff", "\ud800", "x" * 300]
)
PATHS = st.one_of(
    st.text(max_size=20),
    st.lists(PIECES, max_size=6).map("/".join),
    st.lists(PIECES, max_size=6).map("".join),
)


@settings(max_examples=500, deadline=None)
@given(PATHS)
def test_paths_are_encoded_and_refused_alike(path: str) -> None:
    assert outcome(compiled.encode, path) == outcome(beneath.encode, path)


NAMES = st.sampled_from(
    [
        *("file", "böse", "\udcff\udcfe", "link", "out", "absolute", "loop", "magic", "twice"),
        *("fifo", "socket", "directory", "directory/inside", "directory/../file", "missing"),
        *("", "/", ".", "file/", "file/x", "directory/", "/file", "//directory//inside", "x" * 256),
        *("\0", "\ud800", "..", "a/" * 3000),
    ]
)
FLAGS = st.sampled_from(
    [
        os.O_RDONLY | os.O_NONBLOCK,
        os.O_WRONLY | os.O_NONBLOCK,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL,
        os.O_PATH,
        os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW,
        1 << 40,
        -1,
    ]
)


def test_files_are_opened_and_refused_alike(directory: int, root: Path) -> None:
    before = open_descriptors()

    @settings(max_examples=300, deadline=None)
    @given(NAMES, FLAGS, st.sampled_from([0, 0o600]))
    def check(name: str, flags: int, mode: int) -> None:
        results = []
        for twin in TWINS:
            results.append(outcome(twin.open_regular, directory, name, flags, mode))
            (root / "missing").unlink(missing_ok=True)
        if -1 in (flags, *results):
            assert all(isinstance(result, tuple) for result in results)  # each is refused
        elif isinstance(results[0], list) and name == "missing":
            assert results[0] == results[1]
        else:
            assert results[0] == results[1]

    check()
    assert open_descriptors() == before


@BOTH
def test_what_is_found_is_said(twin: ModuleType, directory: int, root: Path) -> None:
    fd, device, size, links = twin.open_regular(directory, "/twice", os.O_RDONLY, 0)
    status = os.stat(root / "file")
    assert (device, size, links) == (status.st_dev, 5, 2)
    assert os.pread(fd, 10, 0) == b"12345"
    assert twin.examined(os.dup(fd))[1:] == (device, size, links)
    os.close(fd)
    os.close(twin.openat2(directory, b"directory", os.O_PATH | os.O_CLOEXEC, 0))


@BOTH
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("directory", errno.EISDIR),
        ("fifo", errno.ENXIO),
        ("out", errno.EXDEV),
        ("loop", errno.ELOOP),
    ],
)
def test_what_is_no_file_beneath_is_refused_and_closed(
    twin: ModuleType, directory: int, name: str, code: int
) -> None:
    before = open_descriptors()
    with pytest.raises(OSError, match=os.strerror(code)) as raised:
        twin.open_regular(directory, name, os.O_RDONLY | os.O_NONBLOCK, 0)
    assert (raised.value.errno, raised.value.strerror) == (code, os.strerror(code))
    assert open_descriptors() == before


@BOTH
def test_wrong_descriptors_are_refused(twin: ModuleType) -> None:
    assert outcome(twin.openat2, -7, b"file", os.O_RDONLY, 0) == (OSError, errno.EBADF)
    assert outcome(twin.open_regular, -7, "file", os.O_RDONLY, 0) == (OSError, errno.EBADF)
    assert outcome(twin.examined, -1) == (OSError, errno.EBADF)


def test_wrong_arguments_are_refused(directory: int) -> None:
    for arguments in (
        (None, "file", 0, 0),
        (directory, None, 0, 0),
        (directory, b"file", 0, 0),
        (directory, "file", None, 0),
        (directory, "file", 0, "x"),
        (10**30, "file", 0, 0),
        (directory, "file", 10**30, 0),
    ):
        kind, _ = outcome(compiled.open_regular, *arguments)
        assert kind in (TypeError, OverflowError)
    for path in (None, "file", bytearray(b"file")):
        assert outcome(compiled.openat2, directory, path, 0, 0) == (TypeError, None)
    for path in (None, b"file"):
        assert outcome(compiled.encode, path) == (TypeError, None)


@BOTH
def test_other_threads_go_on_while_the_storage_keeps_a_call_waiting(
    twin: ModuleType, directory: int, root: Path
) -> None:
    """A pipe opens when its other end does."""
    other = threading.Timer(0.05, lambda: os.close(os.open(root / "fifo", os.O_WRONLY)))
    other.start()
    assert outcome(twin.open_regular, directory, "fifo", os.O_RDONLY, 0) == (OSError, errno.ENXIO)
    other.join(20)


class _Handled(Exception):
    pass


@BOTH
def test_a_signal_is_handled_while_a_call_waits(twin: ModuleType, directory: int) -> None:
    calls = 0

    def handle(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise _Handled

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        with pytest.raises(_Handled):
            twin.openat2(directory, b"fifo", os.O_RDONLY, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_calls_leave_nothing_behind(directory: int) -> None:
    path, name = "/böse"[:5], b"file"

    def succeed() -> None:
        os.close(compiled.open_regular(directory, path, os.O_RDONLY, 0)[0])
        os.close(compiled.open_regular(directory, "file", os.O_RDONLY, 0)[0])
        os.close(compiled.openat2(directory, name, os.O_RDONLY, 0))
        compiled.encode(path)

    def fail() -> None:
        for bad in ("directory", "missing", "..", "\0", "\ud800", "fifo", None, path + "/"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                compiled.open_regular(directory, bad, os.O_RDONLY | os.O_NONBLOCK, 0)

    assert_leaves_nothing(succeed, 2000, path, name)
    assert_leaves_nothing(fail, 500, path, None)
