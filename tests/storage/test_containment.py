"""Nothing outside the root is ever read, listed, written or removed."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from ftpcluster.storage import contained
from ftpcluster.storage.base import WriteMode
from ftpcluster.storage.contained import Root
from ftpcluster.storage.local import LocalStorage
from tests.support.awaited import Awaited
from tests.support.outside import SECRET, Swapping, picture


@pytest.fixture
def outside(root: Path) -> Iterator[Path]:
    """A directory beside the root, which must be the same afterwards."""
    directory = root.with_name("outside")
    (directory / "directory").mkdir(parents=True)
    for name in ("file", "victim"):
        (directory / name).write_bytes(SECRET)
    before = picture(directory)
    yield directory
    assert picture(directory) == before


async def entries(storage: LocalStorage, path: str) -> list[str]:
    return [e[0] async for batch in storage.scan(path) for e in batch]


async def read(storage: LocalStorage, path: str) -> bytes:
    file = await storage.open_reader(path)
    try:
        return await file.read(1000)
    finally:
        await file.close()


async def write(storage: LocalStorage, path: str, mode: WriteMode) -> None:
    file = await storage.open_writer(path, mode)
    try:
        await file.write(b"inside")
    finally:
        await file.close()


EXISTING = tuple(mode for mode in WriteMode if mode is not WriteMode.CREATE)
"""The modes that open what is there already; CREATE refuses it, whatever it is."""

Verb = Callable[[LocalStorage, str], Coroutine[Any, Any, Any]]
FOLLOWING: dict[str, Verb] = {
    "stat": lambda storage, path: storage.stat(path),
    "scan": entries,
    "read": read,
    **{
        mode.value: lambda storage, path, mode=mode: write(storage, path, mode) for mode in EXISTING
    },
    "available": lambda storage, path: storage.available(path),
    "set_modified": lambda storage, path: storage.set_modified(path, 0),
    "chmod": lambda storage, path: storage.chmod(path, 0o777),
}
BENEATH: dict[str, Verb] = {  # what can only reach out through a directory above its last name
    "lstat": lambda storage, path: storage.lstat(path),
    "create": lambda storage, path: write(storage, path, WriteMode.CREATE),
    "symlink": lambda storage, path: storage.symlink("/file", path),
    "mkdir": lambda storage, path: storage.mkdir(path),
    "rmdir": lambda storage, path: storage.rmdir(path),
    "unlink": lambda storage, path: storage.unlink(path),
    "rename from": lambda storage, path: storage.rename(path, "/taken", replace=True),
    "rename to": lambda storage, path: storage.rename("/file", path, replace=True),
    "rename to, without replacing": lambda s, path: s.rename("/file", path, replace=False),
}


@pytest.fixture(params=["absolute", "relative", "chain", "magic"])
def link(request: pytest.FixtureRequest, root: Path, outside: Path) -> Path:
    """A link in the root that leads out of it."""
    (root / "file").write_bytes(b"inside")
    link = root / "link"
    if request.param == "absolute":
        link.symlink_to(outside)
    elif request.param == "relative":
        link.symlink_to("../outside")
    elif request.param == "chain":
        (root / "hop").symlink_to("..")
        link.symlink_to("hop/outside")
    else:
        link.symlink_to(f"/proc/self/root{outside}")
    assert link.is_dir()
    return link


@pytest.mark.parametrize("verb", FOLLOWING.values(), ids=FOLLOWING)
@pytest.mark.parametrize("path", ["/link", "/link/file", "/link/new", "/link/directory"])
async def test_no_link_leads_out_of_the_root(
    storage: LocalStorage, link: Path, verb: Verb, path: str
) -> None:
    with pytest.raises(OSError, match=r"cross-device|symbolic links|Not a directory"):
        await verb(storage, path)


@pytest.mark.parametrize("verb", BENEATH.values(), ids=BENEATH)
@pytest.mark.parametrize("path", ["/link/file", "/link/new", "/link/directory", "/link/a/b/c"])
async def test_no_directory_above_leads_out_of_the_root(
    storage: LocalStorage, link: Path, verb: Verb, path: str
) -> None:
    with pytest.raises(OSError, match=r"cross-device|symbolic links|Not a directory"):
        await verb(storage, path)


async def test_a_link_that_leads_out_can_itself_be_moved_and_removed(
    storage: LocalStorage, link: Path, root: Path, outside: Path
) -> None:
    await storage.rename("/link", "/moved", replace=True)
    await storage.unlink("/moved")
    assert not os.path.lexists(root / "moved")


async def test_a_link_that_leads_out_is_listed_as_what_it_is(
    storage: LocalStorage, link: Path
) -> None:
    """Nothing of what it leads to is told, and whoever removes the directory sees it."""
    found = {e[0]: e async for batch in storage.scan("/") for e in batch}
    assert found["link"][1].st_ino == os.lstat(link).st_ino
    assert found["link"][2] == os.readlink(link)


@pytest.mark.parametrize("verb", (FOLLOWING | BENEATH).values(), ids=FOLLOWING | BENEATH)
@pytest.mark.parametrize("path", ["/..", "/../outside/file", "/directory/../../outside/new"])
async def test_dots_do_not_lead_out_of_the_root_even_where_nobody_resolved_them(
    storage: LocalStorage, root: Path, outside: Path, verb: Verb, path: str
) -> None:
    (root / "directory").mkdir()
    (root / "file").write_bytes(b"inside")
    with pytest.raises(OSError):  # noqa: PT011 - which one is the kernel's choice
        await verb(storage, path)


@pytest.mark.parametrize("verb", (FOLLOWING | BENEATH).values(), ids=FOLLOWING | BENEATH)
async def test_a_nul_does_not_cut_a_path_short(
    storage: LocalStorage, root: Path, verb: Verb
) -> None:
    (root / "victim").write_bytes(SECRET)
    (root / "file").write_bytes(b"inside")
    with pytest.raises((OSError, ValueError)):
        await verb(storage, "/victim\0tail")
    assert (root / "victim").read_bytes() == SECRET
    assert sorted(os.listdir(root)) == ["file", "victim"]


@pytest.mark.parametrize("target", ["/proc/self/root", "/proc/self/cwd", "/proc/self/fd/0"])
async def test_no_magic_link_is_followed(storage: LocalStorage, root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    for path in ("/link", "/link/etc"):
        with pytest.raises(OSError, match=r"cross-device|symbolic links|Not a directory"):
            await storage.stat(path)


async def test_a_root_in_proc_does_not_let_magic_links_out() -> None:
    storage: Any = Awaited(LocalStorage(Root("/proc/self")))
    for path in ("/root", "/cwd", "/root/etc", "/fd/0"):
        with pytest.raises(OSError, match=r"cross-device|symbolic links|Not a directory"):
            await storage.stat(path)


# ---------------------------------------------------------------------- links within the root


@pytest.fixture
def linked(root: Path) -> Path:
    """A root with links that stay within it."""
    (root / "directory").mkdir()
    (root / "directory/file").write_bytes(b"inside")
    (root / "to directory").symlink_to("directory")
    (root / "directory/to file").symlink_to("../directory/file")
    return root


async def test_links_within_the_root_are_followed(linked: Path) -> None:
    storage: Any = Awaited(LocalStorage(Root(linked)))
    if not contained.has_openat2(storage.root.fd):
        pytest.skip("this kernel, or a seccomp filter, refuses openat2")
    assert await read(storage, "/to directory/to file") == b"inside"
    assert (await storage.stat("/directory/to file")).st_size == 6
    await write(storage, "/to directory/new", WriteMode.TRUNCATE)
    assert sorted(await entries(storage, "/to directory")) == ["file", "new", "to file"]


async def test_directories_are_made_where_a_link_within_the_root_leads(linked: Path) -> None:
    """Also where it leads up again from the directory that it is in."""
    storage: Any = Awaited(LocalStorage(Root(linked)))
    if not contained.has_openat2(storage.root.fd):
        pytest.skip("this kernel, or a seccomp filter, refuses openat2")
    (linked / "directory/up").symlink_to("..")
    await storage.mkdir("/to directory/up/a/b")
    await storage.mkdir("/directory/up/to directory/c/d")
    assert (linked / "a/b").is_dir()
    assert (linked / "directory/c/d").is_dir()


@pytest.mark.parametrize("verb", FOLLOWING.values(), ids=FOLLOWING)
@pytest.mark.parametrize("path", ["/to directory", "/to directory/file", "/directory/to file"])
async def test_without_openat2_links_are_refused_altogether(
    linked: Path, monkeypatch: pytest.MonkeyPatch, verb: Verb, path: str
) -> None:
    monkeypatch.setattr(contained, "has_openat2", lambda directory: False)
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        await verb(Awaited(LocalStorage(Root(linked))), path)
    assert (linked / "directory/file").read_bytes() == b"inside"


async def test_links_are_followed_while_directories_elsewhere_are_renamed(linked: Path) -> None:
    # any rename on the machine lets the kernel answer EAGAIN where it resolves ".."
    storage: Any = Awaited(LocalStorage(Root(linked)))
    if not contained.has_openat2(storage.root.fd):
        pytest.skip("this kernel, or a seccomp filter, refuses openat2")
    (linked / "a").mkdir()
    (linked / "b").mkdir()
    with Swapping(linked / "a", linked / "b"):
        for _ in range(3000):
            assert (await storage.stat("/directory/to file")).st_size == 6


# ---------------------------------------------------------------------- races


class Outcomes:
    """How often each kind of call went well, and how often it was refused."""

    def __init__(self, *kinds: str) -> None:
        self._well = dict.fromkeys(kinds, 0)
        self._refused = dict.fromkeys(kinds, 0)
        self._begin = monotonic()

    async def of(self, kind: str, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            result = await work
        except OSError:
            self._refused[kind] += 1
            return None
        self._well[kind] += 1
        return result

    def want_more(self, seconds: float) -> bool:
        """For some seconds, and until every kind of call has met both sides of the swap."""
        passed = monotonic() - self._begin
        incomplete = not all((*self._well.values(), *self._refused.values()))
        assert not (incomplete and passed > 20), (self._well, self._refused)
        return incomplete or passed < seconds


@pytest.mark.parametrize("depth", [1, 5, 20])
async def test_a_link_in_the_place_of_a_directory_that_was_just_made_lets_nothing_out(
    storage: LocalStorage,
    root: Path,
    outside: Path,
    monkeypatch: pytest.MonkeyPatch,
    depth: int,
) -> None:
    """MKD makes the directories above one in the other: nobody may lead it away in between."""
    mkdir = os.mkdir
    made = 0

    def swapping(name: bytes, *, dir_fd: int) -> None:
        nonlocal made
        mkdir(name, dir_fd=dir_fd)
        made += 1
        if made == depth:
            os.rmdir(name, dir_fd=dir_fd)
            os.symlink(outside, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", swapping)
    with pytest.raises(OSError, match=r"cross-device|symbolic links|Not a directory"):
        await storage.mkdir("/a" * 30)
    assert made == depth


async def test_a_directory_moved_while_others_are_made_beneath_it_leaves_nothing_to_its_link(
    storage: LocalStorage, root: Path, outside: Path
) -> None:
    making = storage.mkdir("/a" * 60).__await__()
    while not (root / "a/a").exists():
        next(making)
    (root / "a").rename(root / "moved")
    (root / "a").symlink_to(outside)
    for _ in making:
        pass
    assert (root / "moved" / ("a/" * 59)).is_dir()


@pytest.mark.parametrize("target", ["absolute", "relative"])
async def test_a_directory_swapped_for_a_link_lets_nothing_out(
    storage: LocalStorage, root: Path, outside: Path, target: str
) -> None:
    (root / "x").mkdir()
    (root / "link").symlink_to(outside if target == "absolute" else "../outside")
    secret = (outside / "file").stat().st_ino
    outcomes = Outcomes("write", "read", "stat", "scan", "rename", "unlink", "mkdir", "rmdir")
    with Swapping(root / "x", root / "link"):
        while outcomes.want_more(0.8):
            await every_verb(storage, outcomes, secret)


async def every_verb(storage: LocalStorage, outcomes: Outcomes, secret: int) -> None:
    """Each verb once, on what may lie beneath a link by the time the kernel looks."""
    await outcomes.of("write", write(storage, "/x/file", WriteMode.TRUNCATE))
    assert await outcomes.of("read", read(storage, "/x/file")) != SECRET
    for status in (storage.stat, storage.lstat):
        seen = await outcomes.of("stat", status("/x/file"))
        assert seen is None or seen.st_ino != secret
    assert "directory" not in (await outcomes.of("scan", entries(storage, "/x")) or ())
    await outcomes.of("write", write(storage, "/x/victim", WriteMode.APPEND))
    await outcomes.of("rename", storage.rename("/x/victim", "/taken", replace=True))
    await outcomes.of("rename", storage.rename("/taken", "/x/given", replace=False))
    await outcomes.of("unlink", storage.unlink("/x/given"))
    await outcomes.of("unlink", storage.unlink("/x/victim"))
    await outcomes.of("mkdir", storage.mkdir("/x/new/new"))
    await outcomes.of("rmdir", storage.rmdir("/x/new/new"))
    await outcomes.of("rmdir", storage.rmdir("/x/new"))


async def test_a_file_swapped_for_a_link_lets_nothing_out(
    storage: LocalStorage, root: Path, outside: Path
) -> None:
    (root / "x").write_bytes(b"inside")
    (root / "link").symlink_to("../outside/file")
    secret = (outside / "file").stat().st_ino
    outcomes = Outcomes("stat", "read", *(mode.value for mode in EXISTING))
    with Swapping(root / "x", root / "link"):
        while outcomes.want_more(0.5):
            assert await outcomes.of("read", read(storage, "/x")) != SECRET
            seen = await outcomes.of("stat", storage.stat("/x"))
            assert seen is None or seen.st_ino != secret
            for mode in EXISTING:
                await outcomes.of(mode.value, write(storage, "/x", mode))
