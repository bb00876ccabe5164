"""The local file system as a session sees it."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from ftpcluster.storage import contained, local, scanning
from ftpcluster.storage.base import WriteMode
from ftpcluster.storage.contained import Root
from ftpcluster.storage.local import LocalStorage
from ftpcluster.storage.local_files import LocalFiles
from tests.support.awaited import Awaited


async def content(storage: LocalStorage, path: str) -> bytes:
    file = await storage.open_reader(path)
    try:
        return await file.read(1 << 20)
    finally:
        await file.close()


async def store(
    storage: LocalStorage, path: str, mode: WriteMode, data: bytes, at: int = 0
) -> None:
    file = await storage.open_writer(path, mode)
    if mode is WriteMode.TRUNCATE:
        await file.truncate()
    try:
        await file.seek(at)
        await file.write(data)
    finally:
        await file.close()


async def names(storage: LocalStorage, path: str) -> list[str]:
    return sorted([e[0] async for batch in storage.scan(path) for e in batch])


# ---------------------------------------------------------------------- reading and writing


async def test_a_new_file_holds_what_was_written(storage: LocalStorage, root: Path) -> None:
    await store(storage, "/new", WriteMode.TRUNCATE, b"content")
    assert (root / "new").read_bytes() == b"content"
    assert await content(storage, "/new") == b"content"


async def test_truncate_leaves_nothing_of_the_old_file(storage: LocalStorage, root: Path) -> None:
    (root / "file").write_bytes(b"much longer")
    await store(storage, "/file", WriteMode.TRUNCATE, b"new")
    assert (root / "file").read_bytes() == b"new"


async def test_append_writes_at_the_end_wherever_that_is_by_then(
    storage: LocalStorage, root: Path
) -> None:
    (root / "file").write_bytes(b"one ")
    file = await storage.open_writer("/file", WriteMode.APPEND)
    with (root / "file").open("ab") as other:
        other.write(b"two ")
    await file.write(b"three")
    await file.close()
    assert (root / "file").read_bytes() == b"one two three"


async def test_append_creates_a_file(storage: LocalStorage, root: Path) -> None:
    await store(storage, "/file", WriteMode.APPEND, b"x")
    assert (root / "file").read_bytes() == b"x"


async def test_resume_writes_at_an_offset_and_keeps_the_rest(
    storage: LocalStorage, root: Path
) -> None:
    (root / "file").write_bytes(b"0123456789")
    await store(storage, "/file", WriteMode.RESUME, b"abc", at=4)
    assert (root / "file").read_bytes() == b"0123abc789"


async def test_resume_makes_no_file(storage: LocalStorage, root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await storage.open_writer("/file", WriteMode.RESUME)
    assert os.listdir(root) == []


async def test_reading_goes_on_from_an_offset(storage: LocalStorage, root: Path) -> None:
    (root / "file").write_bytes(b"0123456789")
    file = await storage.open_reader("/file")
    assert file.size == 10
    await file.seek(3)
    assert await file.read(4) == b"3456"
    assert await file.read(4) == b"789"
    assert await file.read(4) == b""
    await file.close()


async def test_closing_a_file_twice_closes_nobody_elses(storage: LocalStorage, root: Path) -> None:
    (root / "file").touch()
    file = await storage.open_reader("/file")
    await file.close()
    other = os.open(root, os.O_RDONLY)  # gets the number that has just become free
    await file.close()
    os.close(other)


async def test_file_names_are_bytes(storage: LocalStorage, root: Path) -> None:
    name = b"\xff \xe4\n\x01"
    path = "/" + name.decode("utf-8", "surrogateescape")
    await store(storage, path, WriteMode.TRUNCATE, b"x")
    assert os.listdir(os.fsencode(root)) == [name]
    assert await names(storage, "/") == [path[1:]]
    assert await content(storage, path) == b"x"
    await storage.rename(path, path + "2", replace=False)
    await storage.unlink(path + "2")
    assert os.listdir(root) == []


async def test_a_name_of_255_bytes_will_do_and_one_more_will_not(storage: LocalStorage) -> None:
    await store(storage, "/" + "x" * 255, WriteMode.TRUNCATE, b"")
    with pytest.raises(OSError, match="too long"):
        await storage.open_writer("/" + "x" * 256, WriteMode.TRUNCATE)


# ---------------------------------------------------------------------- only regular files


Open = Callable[[LocalStorage, str], Coroutine[Any, Any, Any]]
OPENERS: dict[str, Open] = {
    "reader": lambda storage, path: storage.open_reader(path),
    **{
        mode.value: lambda storage, path, mode=mode: storage.open_writer(path, mode)
        for mode in WriteMode
        if mode is not WriteMode.CREATE  # which refuses whatever is there
    },
}


@pytest.fixture(params=OPENERS)
def opens(request: pytest.FixtureRequest) -> Open:
    """Each way to open a file."""
    return OPENERS[request.param]


async def test_a_fifo_without_a_peer_is_refused_at_once(
    storage: LocalStorage, root: Path, opens: Open
) -> None:
    os.mkfifo(root / "fifo")
    with pytest.raises(OSError, match="No such device or address"):
        await opens(storage, "/fifo")  # were it to wait for a peer, nothing here would go on


async def test_a_fifo_with_a_peer_is_refused(
    storage: LocalStorage, root: Path, opens: Open
) -> None:
    os.mkfifo(root / "fifo")
    peer = os.open(root / "fifo", os.O_RDWR | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match="No such device or address"):
            await opens(storage, "/fifo")
    finally:
        os.close(peer)


async def test_a_socket_is_refused(
    storage: LocalStorage, root: Path, opens: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
        sock.listen()
        with pytest.raises(OSError, match="No such device or address"):
            await opens(storage, "/socket")


async def test_a_device_is_refused(storage: LocalStorage, root: Path, opens: Open) -> None:
    try:
        os.mknod(root / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")
    with pytest.raises(OSError, match=r"No such device or address|Permission denied"):
        await opens(storage, "/zero")


async def test_a_directory_is_no_file(storage: LocalStorage, root: Path, opens: Open) -> None:
    (root / "directory").mkdir()
    for path in ("/directory", "/"):
        with pytest.raises(IsADirectoryError):
            await opens(storage, path)


# ---------------------------------------------------------------------- status


async def test_the_status_of_a_file_and_of_the_root(storage: LocalStorage, root: Path) -> None:
    (root / "file").write_bytes(b"12345")
    assert (await storage.stat("/file")).st_size == 5
    assert (await storage.lstat("/file")).st_ino == (root / "file").stat().st_ino
    assert (await storage.stat("/")).st_ino == root.stat().st_ino


async def test_what_is_missing_has_no_status(storage: LocalStorage, root: Path) -> None:
    (root / "file").touch()
    for path, error in (
        ("/missing", FileNotFoundError),
        ("/missing/file", FileNotFoundError),
        ("/file/beneath", NotADirectoryError),
    ):
        with pytest.raises(error):
            await storage.stat(path)


# ---------------------------------------------------------------------- directories


async def test_a_large_directory_comes_in_batches_and_whole(
    storage: LocalStorage, root: Path
) -> None:
    expected = {f"file {n}" for n in range(1300)}
    for name in expected:
        (root / name).touch()
    batches = [batch async for batch in storage.scan("/")]
    assert len(batches) > 1
    assert all(0 < len(batch) <= 1000 for batch in batches)
    entries = [name for batch in batches for name, _, _ in batch]
    assert len(entries) == len(expected)
    assert set(entries) == expected


async def test_an_empty_directory_has_no_entries(storage: LocalStorage) -> None:
    assert [batch async for batch in storage.scan("/")] == []


async def test_a_scan_of_what_is_no_directory_fails_at_once(
    storage: LocalStorage, root: Path
) -> None:
    (root / "file").touch()
    for path, error in (("/file", NotADirectoryError), ("/missing", FileNotFoundError)):
        with pytest.raises(error):
            await names(storage, path)


@pytest.mark.parametrize(
    ("code", "is_told"),
    [(errno.EIO, True), (errno.ENOMEM, True), (errno.ENOENT, False), (errno.EACCES, False)],
)
async def test_an_entry_that_cannot_be_read_fails_the_listing_unless_it_is_gone_or_hidden(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch, code: int, is_told: bool
) -> None:
    """Who mirrors a directory would remove what the listing lacks."""
    (root / "bad").touch()
    (root / "good").touch()
    real = os.stat

    def seen(path: Any, *args: Any, **options: Any) -> os.stat_result:
        if path == "bad":
            raise OSError(code, os.strerror(code))
        return real(path, *args, **options)

    monkeypatch.setattr(os, "stat", seen)
    # compiled it is held by tests/faults, which make the system call itself fail
    monkeypatch.setattr(local, "entries_in", scanning.entries_in)
    if is_told:
        with pytest.raises(OSError, match=os.strerror(code)):
            await names(storage, "/")
    else:
        assert await names(storage, "/") == ["good"]


async def test_links_are_listed_as_such(storage: LocalStorage, root: Path) -> None:
    (root / "file").write_bytes(b"12345")
    (root / "link").symlink_to("file")
    (root / "dangling").symlink_to("nowhere")
    (root / "outside").symlink_to("/etc")
    found = {e[0]: e async for batch in storage.scan("/") for e in batch}
    assert {name: entry[2] for name, entry in found.items()} == {
        "file": None,
        "link": "file",
        "dangling": "nowhere",
        "outside": "/etc",
    }
    assert stat.S_ISLNK(found["link"][1].st_mode)
    assert await storage.read_link("/outside") == "/etc"


async def test_mkdir_makes_the_directories_above(storage: LocalStorage, root: Path) -> None:
    await storage.mkdir("/a/b/c")
    assert (root / "a/b/c").is_dir()
    await storage.mkdir("/a/b/d")
    assert sorted(os.listdir(root / "a/b")) == ["c", "d"]


@pytest.mark.parametrize("there", [0, 1, 9, 20, 39])
async def test_mkdir_makes_what_is_missing_below_the_deepest_that_is_there(
    storage: LocalStorage, root: Path, there: int
) -> None:
    (root / ("a/" * there)).mkdir(parents=True, exist_ok=True)
    (root / ("a/" * there) / "file").touch()
    await storage.mkdir("/a" * 40)
    assert (root / ("a/" * 40)).is_dir()
    assert (root / ("a/" * there) / "file").exists()
    with pytest.raises(FileExistsError):
        await storage.mkdir("/a" * 40)
    with pytest.raises(NotADirectoryError):
        await storage.mkdir("/a" * there + "/file" + "/a" * 20)


async def test_mkdir_of_twice_the_depth_is_not_four_times_the_work(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work is in the names that the kernel looks up: those of all paths that it is given."""
    looked_up = 0

    def counted(function: Callable[..., Any], position: int) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal looked_up
            looked_up += os.fsencode(args[position]).count(b"/") + 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(storage.root, "_open", counted(storage.root._open, 1))
    for name in ("open", "mkdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name), 0))
    work = []
    for depth in (150, 300):
        looked_up = 0
        await storage.mkdir(f"/{depth}" + "/a" * depth)
        work.append(looked_up)
    assert work[1] < 3 * work[0], work


async def test_mkdir_of_many_directories_lets_others_go_on(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    mkdir = os.mkdir
    monkeypatch.setattr(os, "mkdir", lambda *args, **kw: made.append(0) or mkdir(*args, **kw))
    at_once = []
    for _ in storage.mkdir("/a" * 200).__await__():
        at_once.append(len(made))
        made.clear()
    assert (root / ("a/" * 200)).is_dir()
    assert sum(at_once) > 150
    assert max(at_once) <= 20


async def test_mkdir_of_a_few_directories_does_not_wait(storage: LocalStorage, root: Path) -> None:
    with pytest.raises(StopIteration):
        storage.mkdir("/a/b/c/d").send(None)
    assert (root / "a/b/c/d").is_dir()


async def test_mkdir_beside_another_one_of_the_same_directories_makes_them_all(
    storage: LocalStorage, root: Path
) -> None:
    making = storage.mkdir("/a" * 40 + "/one").__await__()
    next(making)
    await storage.mkdir("/a" * 40 + "/two")
    for _ in making:
        pass
    assert sorted(os.listdir(root / ("a/" * 40))) == ["one", "two"]


@pytest.mark.parametrize("turns", [1, 2, 5, 10])
async def test_mkdir_that_is_given_up_leaves_nothing_open(
    storage: LocalStorage, root: Path, turns: int
) -> None:
    before = open_descriptors()
    making = storage.mkdir("/a" * 100)
    for _ in range(turns):
        making.send(None)
    with pytest.raises(asyncio.CancelledError):
        making.throw(asyncio.CancelledError())
    assert open_descriptors() == before


async def test_mkdir_refuses_what_exists(storage: LocalStorage, root: Path) -> None:
    (root / "file").touch()
    await storage.mkdir("/directory")
    for path in ("/directory", "/file", "/"):
        with pytest.raises(FileExistsError):
            await storage.mkdir(path)
    with pytest.raises(NotADirectoryError):
        await storage.mkdir("/file/directory")


async def test_rmdir_removes_empty_directories_only(storage: LocalStorage, root: Path) -> None:
    (root / "full").mkdir()
    (root / "full" / "file").touch()
    (root / "empty").mkdir()
    await storage.rmdir("/empty")
    for path in ("/full", "/full/file", "/"):
        with pytest.raises(OSError, match=r"not empty|Not a directory|Invalid|busy"):
            await storage.rmdir(path)
    assert (root / "full" / "file").exists()
    assert os.listdir(root) == ["full"]


async def test_unlink_removes_files_and_links_but_no_directories(
    storage: LocalStorage, root: Path
) -> None:
    (root / "directory").mkdir()
    (root / "file").touch()
    (root / "link").symlink_to("directory")
    await storage.unlink("/file")
    await storage.unlink("/link")
    for path in ("/directory", "/"):
        with pytest.raises(OSError, match=r"directory|Operation not permitted"):
            await storage.unlink(path)
    assert os.listdir(root) == ["directory"]


# ---------------------------------------------------------------------- rename


@pytest.mark.parametrize("replace", [True, False])
async def test_files_and_directories_are_moved(
    storage: LocalStorage, root: Path, replace: bool
) -> None:
    (root / "directory").mkdir()
    (root / "file").write_bytes(b"x")
    await storage.rename("/file", "/directory/moved", replace=replace)
    await storage.rename("/directory", "/renamed", replace=replace)
    assert os.listdir(root) == ["renamed"]
    assert (root / "renamed/moved").read_bytes() == b"x"


async def test_a_file_gives_way_where_it_may_be_replaced(storage: LocalStorage, root: Path) -> None:
    (root / "new").write_bytes(b"new")
    (root / "old").write_bytes(b"old")
    await storage.rename("/new", "/old", replace=True)
    assert os.listdir(root) == ["old"]
    assert (root / "old").read_bytes() == b"new"


@pytest.mark.parametrize("source", ["file", "directory"])
@pytest.mark.parametrize("target", ["old file", "old directory", "old link"])
async def test_nothing_gives_way_where_it_may_not(
    storage: LocalStorage, root: Path, source: str, target: str
) -> None:
    furnish(root)
    before = sorted(os.listdir(root))
    with pytest.raises(FileExistsError):
        await storage.rename(f"/{source}", f"/{target}", replace=False)
    assert sorted(os.listdir(root)) == before
    assert (root / "old file").read_bytes() == b"old"


@pytest.mark.parametrize("source", ["file", "directory"])
@pytest.mark.parametrize("target", ["old directory", ""])
async def test_a_directory_never_gives_way(
    storage: LocalStorage, root: Path, source: str, target: str
) -> None:
    furnish(root)
    inode = (root / "old directory").stat().st_ino
    with pytest.raises(OSError, match=r"exists|Is a directory|busy"):
        await storage.rename(f"/{source}", f"/{target}", replace=True)
    assert (root / source).exists()
    assert (root / "old directory").stat().st_ino == inode


async def test_a_directory_does_not_replace_a_file(storage: LocalStorage, root: Path) -> None:
    furnish(root)
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        await storage.rename("/directory", "/old file", replace=True)
    assert (root / "old file").read_bytes() == b"old"


async def test_a_link_gives_way_and_not_what_it_names(storage: LocalStorage, root: Path) -> None:
    furnish(root)
    await storage.rename("/file", "/old link", replace=True)
    assert (root / "old file").read_bytes() == b"old"
    assert not (root / "old link").is_symlink()


@pytest.mark.parametrize("replace", [True, False])
async def test_a_directory_cannot_be_moved_into_itself(
    storage: LocalStorage, root: Path, replace: bool
) -> None:
    furnish(root)
    with pytest.raises(OSError, match="Invalid argument"):
        await storage.rename("/directory", "/directory/inner", replace=replace)
    assert (root / "directory").is_dir()


@pytest.mark.parametrize("replace", [True, False])
async def test_what_is_missing_cannot_be_renamed(storage: LocalStorage, replace: bool) -> None:
    with pytest.raises(FileNotFoundError):
        await storage.rename("/missing", "/new", replace=replace)


async def test_without_renameat2_nothing_gives_way_either(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contained, "_SYS_RENAMEAT2", {})
    furnish(root)
    with pytest.raises(FileExistsError):
        await storage.rename("/file", "/old file", replace=False)
    await storage.rename("/file", "/new name", replace=False)
    assert (root / "old file").read_bytes() == b"old"
    assert (root / "new name").read_bytes() == b"new"


def furnish(root: Path) -> None:
    """A file and a directory to move, and others that are in the way."""
    (root / "file").write_bytes(b"new")
    (root / "directory").mkdir()
    (root / "old file").write_bytes(b"old")
    (root / "old directory").mkdir()
    (root / "old link").symlink_to("old file")


# ---------------------------------------------------------------------- shared roots


async def test_a_root_that_was_replaced_is_opened_again(root: Path) -> None:
    files = LocalFiles()
    before = Awaited(files.open(root))
    root.rename(root.with_name("moved"))
    root.mkdir()
    (root / "new").touch()
    assert await names(Awaited(files.open(root)), "/") == ["new"]
    assert await names(before, "/") == [], "a session stays in the directory in which it began"


def test_sessions_of_one_directory_share_its_descriptor(root: Path) -> None:
    files = LocalFiles()
    assert files.open(root).root is files.open(str(root)).root


def test_a_root_that_is_gone_is_an_error(root: Path) -> None:
    files = LocalFiles()
    files.open(root)
    root.rmdir()
    with pytest.raises(FileNotFoundError):
        files.open(root)
    root.touch()
    with pytest.raises(NotADirectoryError):
        files.open(root)


def test_many_roots_do_not_use_up_the_descriptors(tmp_path: Path) -> None:
    files = LocalFiles()
    before = open_descriptors()
    kept = files.open(tmp_path)
    for n in range(400):
        directory = tmp_path / str(n)
        directory.mkdir()
        files.open(directory)
    gc.collect()
    assert len(open_descriptors()) - len(before) <= 300
    assert os.fstat(kept.root.fd).st_ino == tmp_path.stat().st_ino, "it is still in use"


# ---------------------------------------------------------------------- descriptors


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def attempt(work: Coroutine[Any, Any, Any]) -> None:
    """Do something that may well fail; close what it opened."""
    try:
        file = await work
    except OSError:
        return
    if hasattr(file, "close"):
        await file.close()


def test_nothing_leaves_a_descriptor_open(storage: LocalStorage, root: Path) -> None:
    furnish(root)
    os.mkfifo(root / "fifo")
    (root / "directory/file").touch()
    (root / "outside").symlink_to("/etc/passwd")
    (root / "dangling").symlink_to("nowhere")
    paths = ["/", "/file", "/directory", "/directory/file", "/missing/x", "/file/x", "/fifo"]
    paths += ["/outside", "/dangling", "/old link", "/outside/x"]

    async def everything() -> None:
        for path in paths:
            await attempt(storage.stat(path))
            await attempt(storage.lstat(path))
            await attempt(storage.open_reader(path))
            await attempt(storage.open_writer(path, WriteMode.RESUME))
            await attempt(names(storage, path))
            await attempt(storage.mkdir(path))
            for replace in (True, False):
                await attempt(storage.rename(path, "/old directory", replace=replace))
                await attempt(storage.rename("/directory/file", path + "/a/b", replace=replace))
            await attempt(storage.rmdir(path))
            await attempt(storage.unlink(path + "/x"))

    async def scan_in_part() -> None:
        batches = storage.scan("/")
        await anext(batches)
        await batches.aclose()

    before = open_descriptors()
    with asyncio.Runner() as runner:
        loop_only = open_descriptors() if runner.get_loop() else set()
        runner.run(everything())
        runner.run(scan_in_part())
        assert open_descriptors() == loop_only
    assert open_descriptors() == before


def test_a_root_is_closed_with_the_last_storage_that_uses_it(root: Path) -> None:
    before = open_descriptors()
    storage: Any = Awaited(LocalStorage(Root(root)))
    assert len(open_descriptors()) == len(before) + 1
    assert storage is not None
    storage = None
    gc.collect()
    assert open_descriptors() == before


def test_a_seccomp_filter_that_refuses_openat2_is_noticed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (errno.ENOSYS, errno.EPERM):

        def refuse(*_: object, number: int = number) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(contained, "openat2", refuse)
        opened = Root(root)
        (root / "file").touch()
        os.close(opened.open("/file", os.O_RDONLY))
        opened.close()
