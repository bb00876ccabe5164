"""Rows 12 and 13: path layers, as they are and behind a server."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

import ftpcluster
from tests.library.client import Client
from tests.library.examples.shop import UpperCase
from tests.library.loops import on_both_loops

Layer = Callable[..., ftpcluster.AbstractPathIO]


async def with_base(layer: Layer, base: Path) -> ftpcluster.AbstractPathIO:
    """An instance in which ``base`` is a directory."""
    path_io = layer()
    await path_io.mkdir(base, parents=True, exist_ok=True)
    return path_io


async def put(path_io: ftpcluster.AbstractPathIO, path: Path, content: bytes) -> None:
    async with path_io.open(path, mode="wb") as file:
        await file.write(content)


async def get(path_io: ftpcluster.AbstractPathIO, path: Path) -> bytes:
    async with path_io.open(path, mode="rb") as file:
        return b"".join([block async for block in file.iter_by_block(7)])


# ---------------------------------------------------------------------- row 12


@on_both_loops
async def test_the_constructor_takes_timeout_connection_and_state(layer: Layer) -> None:
    bare = layer()
    assert (bare.timeout, bare.connection) == (None, None)
    first = layer(timeout=3, connection="a connection")
    assert (first.timeout, first.connection) == (3, "a connection")
    second = layer(4, "another", first.state)
    assert (second.timeout, second.connection) == (4, "another")
    assert second.state is first.state


@on_both_loops
async def test_async_path_io_runs_in_the_pool_that_it_is_given(root: Path) -> None:
    with ThreadPoolExecutor(1, "of-ones-own") as pool:
        path_io = ftpcluster.AsyncPathIO(executor=pool)
        before = {thread.name for thread in threading.enumerate()}
        assert await path_io.exists(root)
        new = {thread.name for thread in threading.enumerate()} - before
        assert [name.partition("_")[0] for name in new] == ["of-ones-own"]


@on_both_loops
async def test_relative_paths_of_memory_path_io_begin_at_its_cwd() -> None:
    path_io = ftpcluster.MemoryPathIO(cwd="/home")
    await path_io.mkdir(PurePosixPath("/home/own"), parents=True)
    await path_io.mkdir(PurePosixPath("own/inner"))
    await put(path_io, Path("file"), b"content")
    assert await get(path_io, Path("/home/file")) == b"content"
    assert await path_io.is_dir(PurePosixPath("/home/own/inner"))
    await path_io.rename(PurePosixPath("file"), PurePosixPath("/file"))
    assert await path_io.is_file(PurePosixPath("/file"))
    assert sorted(map(str, await path_io.list(PurePosixPath("own")))) == ["own/inner"]


@on_both_loops
async def test_instances_with_one_state_have_the_same_files(layer: Layer, root: Path) -> None:
    first = await with_base(layer, root)
    await put(first, root / "file", b"content")
    assert await get(layer(state=first.state), root / "file") == b"content"


@on_both_loops
async def test_questions_about_paths(layer: Layer, root: Path) -> None:
    path_io = await with_base(layer, root)
    await put(path_io, root / "file", b"")
    await path_io.mkdir(root / "directory")
    found = {
        name: [
            await path_io.exists(root / name),
            await path_io.is_file(root / name),
            await path_io.is_dir(root / name),
        ]
        for name in ("file", "directory", "missing", "file/below")
    }
    assert found == {
        "file": [True, True, False],
        "directory": [True, False, True],
        "missing": [False, False, False],
        "file/below": [False, False, False],
    }


async def test_directories_in_memory_are_as_deep_as_a_line_can_say() -> None:
    path_io = ftpcluster.MemoryPathIO()
    await path_io.mkdir(Path("/a" * 2000), parents=True)
    assert await path_io.is_dir(Path("/a" * 2000))


@on_both_loops
async def test_mkdir_makes_parents_and_accepts_what_exists_only_when_told(
    layer: Layer, root: Path
) -> None:
    path_io = await with_base(layer, root)
    with pytest.raises(ftpcluster.PathIOError):
        await path_io.mkdir(root / "a" / "b")
    await path_io.mkdir(root / "a" / "b", parents=True)
    assert await path_io.is_dir(root / "a" / "b")
    with pytest.raises(ftpcluster.PathIOError):
        await path_io.mkdir(root / "a")
    await path_io.mkdir(root / "a", exist_ok=True)
    await put(path_io, root / "file", b"")
    with pytest.raises(ftpcluster.PathIOError):
        await path_io.mkdir(root / "file", exist_ok=True)


@on_both_loops
async def test_rmdir_and_unlink_remove_each_its_own(layer: Layer, root: Path) -> None:
    path_io = await with_base(layer, root)
    await path_io.mkdir(root / "directory")
    await put(path_io, root / "directory" / "file", b"")
    for call in (path_io.rmdir(root / "directory"), path_io.unlink(root / "directory")):
        with pytest.raises(ftpcluster.PathIOError):
            await call
    await path_io.unlink(root / "directory" / "file")
    await path_io.rmdir(root / "directory")
    assert not await path_io.exists(root / "directory")
    for call in (path_io.rmdir(root / "directory"), path_io.unlink(root / "directory")):
        with pytest.raises(ftpcluster.PathIOError):
            await call


@on_both_loops
async def test_list_is_awaitable_and_async_iterable(layer: Layer, root: Path) -> None:
    path_io = await with_base(layer, root)
    names = [f"file {number}" for number in range(5)]
    for name in names:
        await put(path_io, root / name, b"")
    awaited = await path_io.list(root)
    iterated = [path async for path in path_io.list(root)]
    assert isinstance(path_io.list(root), ftpcluster.AbstractAsyncLister)
    assert sorted(map(str, awaited)) == sorted(map(str, iterated))
    assert sorted(map(str, awaited)) == [str(root / name) for name in names]
    assert all([await path_io.is_file(path) for path in awaited])


@on_both_loops
async def test_a_missing_path_lists_nothing(layer: Layer, root: Path) -> None:
    path_io = await with_base(layer, root)
    assert await path_io.list(root / "missing") == []
    assert [path async for path in path_io.list(root / "missing")] == []
    assert await path_io.list(root) == []


@on_both_loops
async def test_stat_has_size_and_times(layer: Layer, root: Path) -> None:
    path_io = await with_base(layer, root)
    await put(path_io, root / "file", b"12345")
    status = await path_io.stat(root / "file")
    assert status.st_size == 5
    assert status.st_mtime > 0
    assert status.st_ctime > 0
    assert stat.S_ISREG(status.st_mode)
    assert stat.S_ISDIR((await path_io.stat(root)).st_mode)
    with pytest.raises(ftpcluster.PathIOError):
        await path_io.stat(root / "missing")


@on_both_loops
async def test_rename_moves_files_and_directories(layer: Layer, root: Path) -> None:
    path_io = await with_base(layer, root)
    await path_io.mkdir(root / "directory")
    await put(path_io, root / "directory" / "file", b"content")
    await path_io.rename(root / "directory", root / "other")
    await path_io.rename(root / "other" / "file", root / "file")
    assert await get(path_io, root / "file") == b"content"
    assert await path_io.list(root / "other") == []
    with pytest.raises(ftpcluster.PathIOError):
        await path_io.rename(root / "missing", root / "x")


@on_both_loops
async def test_open_has_four_modes(layer: Layer, root: Path) -> None:
    path_io = await with_base(layer, root)
    path = root / "file"
    for mode in ("rb", "r+b"):
        with pytest.raises(ftpcluster.PathIOError):
            await path_io.open(path, mode=mode)
    await put(path_io, path, b"0123456789")
    async with path_io.open(path, mode="ab") as file:
        await file.write(b"ab")
    assert await get(path_io, path) == b"0123456789ab"
    async with path_io.open(path, mode="r+b") as file:
        await file.seek(2)
        await file.write(b"XX")
        assert await file.read(2) == b"45"
    assert await get(path_io, path) == b"01XX456789ab"
    await put(path_io, path, b"short")
    assert await get(path_io, path) == b"short"
    async with path_io.open(path) as file:  # rb, where nothing is said
        assert await file.read() == b"short"


@on_both_loops
async def test_open_with_another_mode_is_a_value_error(layer: Layer, root: Path) -> None:
    path_io = await with_base(layer, root)
    await put(path_io, root / "file", b"")
    for mode in ("r", "w", "x", "rb+", "wt", "", "w+b"):
        with pytest.raises(ValueError, match=r".+"):
            await path_io.open(root / "file", mode=mode)
        with pytest.raises(ValueError, match=r".+"):
            async with path_io.open(root / "file", mode=mode):
                pass


@on_both_loops
async def test_open_may_be_awaited_and_its_methods_are_the_layers(layer: Layer, root: Path) -> None:
    path_io = await with_base(layer, root)
    file = await path_io.open(root / "file", mode="wb")
    await file.write(b"0123456789")
    await file.close()
    file = await path_io.open(root / "file", mode="rb")
    assert await file.seek(-3, io.SEEK_END) == 7
    assert await file.read(2) == b"78"
    assert await file.seek(1, io.SEEK_CUR) == 10
    assert await file.read() == b""
    await file.seek(4)
    assert [block async for block in file.iter_by_block(4)] == [b"4567", b"89"]
    await file.close()


@on_both_loops
async def test_files_are_read_and_written_by_the_layers_own_methods(
    layer: Layer, root: Path
) -> None:
    path_io = await with_base(layer, root)
    await put(path_io, root / "file", b"")
    raw = await path_io._open(root / "file", "r+b")
    await path_io.write(raw, b"content")
    await path_io.seek(raw, 3)
    assert await path_io.read(raw, 100) == b"tent"
    await path_io.close(raw)


# ---------------------------------------------------------------------- row 13: errors


@on_both_loops
async def test_errors_are_path_io_errors_around_the_os_error(layer: Layer, root: Path) -> None:
    path_io = await with_base(layer, root)
    with pytest.raises(ftpcluster.PathIOError) as caught:
        await path_io.stat(root / "missing")
    kind, value, _ = caught.value.reason  # type: ignore[misc]
    assert kind is FileNotFoundError
    assert isinstance(value, FileNotFoundError)
    assert caught.value.__cause__ is value


@on_both_loops
async def test_universal_exception_lets_through_what_is_no_error_of_the_layer() -> None:
    @ftpcluster.universal_exception
    async def raises(error: BaseException) -> None:
        raise error

    for error in (
        asyncio.CancelledError(),
        NotImplementedError(),
        StopAsyncIteration(),
        ftpcluster.PathIOError(reason=(None, None, None)),
    ):
        with pytest.raises(type(error)) as caught:
            await raises(error)
        assert caught.value is error
    with pytest.raises(ftpcluster.PathIOError) as wrapped:
        await raises(KeyError("x"))
    assert wrapped.value.reason[0] is KeyError  # type: ignore[index]


# ---------------------------------------------------------------------- through a server


class OwnPathIO(ftpcluster.PathIO):
    """Somebody's own, which changes nothing."""


class OwnAsyncPathIO(ftpcluster.AsyncPathIO):
    """Somebody's own, which changes nothing."""


class OwnMemoryPathIO(ftpcluster.MemoryPathIO):
    """Somebody's own, which changes nothing."""


@pytest.fixture(
    params=[
        ftpcluster.PathIO,
        ftpcluster.AsyncPathIO,
        ftpcluster.MemoryPathIO,
        OwnPathIO,
        OwnAsyncPathIO,
        OwnMemoryPathIO,
    ]
)
def served(request: pytest.FixtureRequest, root: Path) -> ftpcluster.Server:
    """A server over each layer, and over somebody's own subclass of it."""
    return ftpcluster.Server([ftpcluster.User(base_path=root)], path_io_factory=request.param)


@on_both_loops
async def test_transfers_work_on_each_layer(served: ftpcluster.Server) -> None:
    content = os.urandom(700_000)
    async with served as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.uploads("STOR file", content)
        assert await client.downloads("RETR file") == content
        assert await client.says("SIZE file", 213) == f"213 {len(content)}"
        await client.says("MDTM file", 213)
        await client.uploads("APPE file", b"and more")
        await client.says(f"REST {len(content) + 4}", 350)
        assert await client.downloads("RETR file") == b"more"
        await client.says("REST 3", 350)
        await client.uploads("STOR file", b"xyz")
        content = content[:3] + b"xyz" + content[6:] + b"and more"
        assert await client.downloads("RETR file") == content
        await client.uploads("STOR file", b"short")
        assert await client.downloads("RETR file") == b"short"
        await client.uploads("STOR empty", b"")
        assert await client.downloads("RETR empty") == b""


@on_both_loops
async def test_offsets_past_the_end_and_missing_files_are_refused_on_each_layer(
    served: ftpcluster.Server,
) -> None:
    async with served as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.uploads("STOR file", b"12345")
        for command in ("RETR file", "STOR file"):
            await client.epsv()
            await client.says("REST 6", 350)
            await client.says(command, 554)
        await client.epsv()
        await client.says("REST 1", 350)
        await client.says("STOR missing", 550)
        await client.says("RETR missing", 550)
        assert await client.downloads("RETR file") == b"12345"


@on_both_loops
async def test_ascii_is_converted_both_ways_on_each_layer(served: ftpcluster.Server) -> None:
    async with served as server, Client(server.server_port) as client:
        await client.logs_in(binary=False)
        await client.uploads("STOR text", b"one\r\ntwo\r\n")
        assert await client.downloads("RETR text") == b"one\r\ntwo\r\n"
        await client.says("TYPE I", 200)
        assert await client.downloads("RETR text") == b"one\ntwo\n"


@on_both_loops
async def test_listings_work_on_each_layer(served: ftpcluster.Server) -> None:
    async with served as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("MKD directory", 257)
        await client.uploads("STOR a file", b"12345")
        assert sorted(await client.lines("NLST")) == ["a file", "directory"]
        file, directory = sorted(await client.lines("LIST"))
        assert file.startswith("-rw")
        assert file.endswith(" a file")
        assert " 5 " in file
        assert directory.startswith("d")
        facts = {line.partition(" ")[2]: line for line in await client.lines("MLSD")}
        assert set(facts) == {"a file", "directory"}
        assert facts["a file"].startswith("type=file;")
        assert "size=5;" in facts["a file"]
        assert "modify=" in facts["directory"]
        assert facts["directory"].startswith("type=dir;")
        assert " type=file;" in await client.says("MLST a file", 250)
        assert await client.lines("LIST directory") == []
        (line,) = await client.lines("LIST a file")
        assert line.endswith(" a file")
        await client.epsv()
        await client.says("LIST missing", 550)
        await client.says("MLSD missing", 550)
        await client.says("MLSD a file", 501)


@on_both_loops
async def test_names_are_changed_and_removed_on_each_layer(served: ftpcluster.Server) -> None:
    async with served as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("MKD a/b/c", 257)
        await client.says("MKD a", 550)
        await client.uploads("STOR a/file", b"content")
        await client.uploads("STOR there", b"already")
        await client.says("RNFR missing", 550)
        await client.says("RNFR a/file", 350)
        await client.says("RNTO there", 550)  # the library never replaces
        await client.says("RNFR a/file", 350)
        await client.says("RNTO a/b/moved", 250)
        await client.says("RNFR a/b", 350)
        await client.says("RNTO b", 250)
        assert await client.downloads("RETR b/moved") == b"content"
        assert await client.downloads("RETR there") == b"already"
        await client.says("RMD b", 550)
        await client.says("DELE b", 550)
        await client.says("RMD there", 550)
        await client.says("DELE b/moved", 250)
        await client.says("RMD b/c", 250)
        await client.says("RMD b", 250)
        await client.says("DELE b", 550)
        await client.says("DELE there", 250)
        await client.says("RMD a", 250)
        await client.says("RMD /", 550)  # nor when nothing is in it
        await client.uploads("STOR there", b"again")
        await client.says("MKD a", 257)
        await client.says("CWD there", 550)
        await client.says("CWD a", 250)
        await client.says("CWD /missing", 550)


@on_both_loops
async def test_abor_ends_a_transfer_on_each_layer(served: ftpcluster.Server) -> None:
    async with served as server, Client(server.server_port) as client:
        await client.logs_in()
        async with client.passive() as data:
            await client.says("STOR file", 150)
            await data.send(b"begin")
            await client.says("NOOP", 200)
            await client.says("ABOR", 426)
            await client.expects(226)
        await client.uploads("STOR file", b"whole")
        assert await client.downloads("RETR file") == b"whole"


# ---------------------------------------------------------------------- row 13: overrides


@on_both_loops
async def test_an_overridden_read_is_what_clients_get(root: Path) -> None:
    (root / "file").write_bytes(b"content")
    server = ftpcluster.Server([ftpcluster.User(base_path=root)], path_io_factory=UpperCase)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        assert await client.downloads("RETR file") == b"CONTENT"
        await client.says("REST 3", 350)
        assert await client.downloads("RETR file") == b"TENT"


def overriding(base: type[ftpcluster.AbstractPathIO]) -> type[ftpcluster.AbstractPathIO]:
    """A layer that overrides everything that a session may ask for, in a way that shows."""

    class Overriding(base):  # type: ignore[misc, valid-type]
        @ftpcluster.universal_exception
        async def read(self, file: Any, block_size: int = 8192) -> bytes:
            return bytes(byte ^ 1 for byte in await super().read(file, block_size))

        @ftpcluster.universal_exception
        async def write(self, file: Any, data: bytes) -> Any:
            return await super().write(file, bytes(byte ^ 2 for byte in data))

        def list(self, path: Any) -> ftpcluster.AbstractAsyncLister:
            return Visible(super().list(path))

        @ftpcluster.universal_exception
        async def stat(self, path: Any) -> Any:
            status = await super().stat(path)
            return SimpleNamespace(
                st_size=status.st_size + 1000, st_mtime=981173106, st_ctime=981173106
            )

        @ftpcluster.universal_exception
        async def is_file(self, path: Any) -> bool:
            return path.name != "odd" and bool(await super().is_file(path))

        @ftpcluster.universal_exception
        async def is_dir(self, path: Any) -> bool:
            return path.name != "odd" and bool(await super().is_dir(path))

        @ftpcluster.universal_exception
        async def unlink(self, path: Any) -> None:
            raise PermissionError(13, "no")

    return Overriding


class Visible(ftpcluster.AbstractAsyncLister):
    """Leaves some entries out."""

    def __init__(self, lister: ftpcluster.AbstractAsyncLister) -> None:
        super().__init__()
        self.lister = aiter(lister)

    async def __anext__(self) -> Any:
        while (path := await anext(self.lister)).name.startswith("hidden"):
            pass
        return path


@on_both_loops
async def test_what_a_subclass_overrides_is_honoured(root: Path, layer: Any) -> None:
    server = ftpcluster.Server([ftpcluster.User(base_path=root)], path_io_factory=overriding(layer))
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.uploads("STOR file", b"\x10\x20")
        assert await client.downloads("RETR file") == b"\x13\x23"
        assert await client.says("SIZE file", 213) == "213 1002"
        assert await client.says("MDTM file", 213) == "213 20010203040506"
        await client.uploads("STOR hidden", b"")
        await client.uploads("STOR odd", b"")
        await client.says("MKD directory", 257)
        assert sorted(await client.lines("NLST")) == ["directory", "file", "odd"]
        await client.says("DELE file", 550)
        await client.says("CWD odd", 550)
        await client.epsv()
        await client.says("RETR odd", 550)


@on_both_loops
async def test_mlsd_needs_three_fields_of_a_stat_and_copes_with_odd_entries(
    root: Path, layer: Any
) -> None:
    server = ftpcluster.Server([ftpcluster.User(base_path=root)], path_io_factory=overriding(layer))
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.uploads("STOR file", b"12345")
        await client.uploads("STOR odd", b"")
        await client.says("MKD directory", 257)
        facts = {line.partition(" ")[2]: line for line in await client.lines("MLSD")}
        assert facts["file"].startswith("type=file;")
        assert "size=1005;modify=20010203040506;" in facts["file"]
        assert facts["directory"].startswith("type=dir;")
        assert "type=file" not in facts["odd"]
        assert "type=dir" not in facts["odd"]
        lines = {line.rpartition(" ")[2]: line for line in await client.lines("LIST")}
        assert set(lines) == {"file", "directory", "odd"}
        assert lines["directory"].startswith("d")
        assert "Feb  3  2001" in lines["file"]


@on_both_loops
async def test_an_entry_that_is_neither_file_nor_directory_is_listed_on_disk(
    root: Path, layer: Any
) -> None:
    os.mkfifo(root / "pipe")
    if layer is ftpcluster.MemoryPathIO:
        return  # it has no such entries
    for factory in (layer, type("Own", (layer,), {})):
        server = ftpcluster.Server([ftpcluster.User(base_path=root)], path_io_factory=factory)
        async with server, Client(server.server_port) as client:
            await client.logs_in()
            (line,) = await client.lines("MLSD")
            assert line.endswith(" pipe")
            assert not line.startswith(("type=file", "type=dir"))
            (line,) = await client.lines("LIST")
            assert line.startswith("p")
            await client.epsv()
            await client.says("RETR pipe", 550)
            await client.says("STOR pipe", 550)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(13, "no"), 550),
        (OSError(28, "full"), 452),
        (OSError(122, "quota"), 552),
        (OSError(5, "broken"), 451),
        (ValueError("bug"), 451),
    ],
    ids=lambda value: str(value),
)
@on_both_loops
async def test_a_layers_error_is_the_reply_that_the_os_error_would_be(
    root: Path, error: Exception, code: int
) -> None:
    class Fails(ftpcluster.MemoryPathIO):
        @ftpcluster.universal_exception
        async def write(self, file: Any, data: bytes) -> int:
            raise error

    server = ftpcluster.Server([ftpcluster.User(base_path=root)], path_io_factory=Fails)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.uploads("STOR file", b"content", code)
        await client.says("NOOP", 200)


@on_both_loops
async def test_a_layer_knows_the_connection_that_it_serves(root: Path) -> None:
    seen: list[Any] = []

    class Curious(ftpcluster.PathIO):
        @ftpcluster.universal_exception
        async def exists(self, path: Path) -> bool:
            seen.append((self.connection.user.login, self.connection.client_host))
            return await super().exists(path)

    users = [ftpcluster.User("a", base_path=root), ftpcluster.User("b", base_path=root)]
    async with ftpcluster.Server(users, path_io_factory=Curious) as server:
        for login in ("a", "b"):
            async with Client(server.server_port) as client:
                await client.logs_in(login)
                await client.uploads("STOR file", b"content")
    assert set(seen) == {("a", "127.0.0.1"), ("b", "127.0.0.1")}


@pytest.mark.parametrize("own", [False, True])
@on_both_loops
async def test_a_link_out_of_the_base_leads_nowhere_on_each_disk_layer(
    root: Path, layer: Any, own: bool
) -> None:
    if layer is ftpcluster.MemoryPathIO:
        return  # it has no links
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(outside)
    factory = type("Own", (layer,), {}) if own else layer
    server = ftpcluster.Server([ftpcluster.User(base_path=root)], path_io_factory=factory)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.epsv()
        for command in (
            "RETR link/secret",
            "STOR link/new",
            "LIST link/",
            "CWD link",
            "MKD link/x",
        ):
            await client.says(command, 550)
    assert os.listdir(outside) == ["secret"]


@pytest.mark.parametrize("own", [False, True])
@on_both_loops
async def test_a_link_is_a_link_on_each_disk_layer(root: Path, layer: Any, own: bool) -> None:
    """“A link is a link”: none is gone through by a client that removes what it lists."""
    if layer is ftpcluster.MemoryPathIO:
        return  # it has no links
    (root / "kept").mkdir()
    (root / "kept/file").write_bytes(b"precious")
    (root / "links").mkdir()
    targets = {"directory": "../kept", "file": "../kept/file", "dangling": "no", "out": "/etc"}
    targets["loop"] = "loop"
    for name, target in targets.items():
        (root / "links" / name).symlink_to(target)
    factory = type("Own", (layer,), {}) if own else layer
    server = ftpcluster.Server([ftpcluster.User(base_path=root)], path_io_factory=factory)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        lines = await client.lines("MLSD links")
        assert {line.split(" ", 1)[1] for line in lines} == set(targets)
        assert all(line.startswith("type=OS.unix=symlink;perm=df;") for line in lines), lines
        lines = await client.lines("LIST links")
        assert all(line.startswith("l") for line in lines), lines
        assert {tuple(line.split()[-3:]) for line in lines} == {
            (name, "->", target) for name, target in targets.items()
        }
        assert await client.lines("NLST links/directory") == ["links/directory/file"]
        assert await client.downloads("RETR links/file") == b"precious"
        for name in targets:
            await client.says(f"MLST links/{name}", 250)
            await client.says(f"RMD links/{name}", 550)
            await client.says(f"RNFR links/{name}", 350)
            await client.says("RNTO links/other", 250)
            await client.says("DELE links/other", 250)
        await client.says("RMD links", 250)
    assert (root / "kept/file").read_bytes() == b"precious"


@on_both_loops
async def test_a_rename_onto_a_link_is_refused_as_onto_a_file(root: Path, layer: Any) -> None:
    """“RNTO onto something that exists is refused”: also where the link leads nowhere."""
    if layer is ftpcluster.MemoryPathIO:
        return
    (root / "file").touch()
    (root / "dangling").symlink_to("nowhere")
    server = ftpcluster.Server(
        [ftpcluster.User(base_path=root)], path_io_factory=type("Own", (layer,), {})
    )
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("RNFR file", 350)
        await client.says("RNTO dangling", 550)
    assert (root / "dangling").is_symlink()


@on_both_loops
async def test_what_a_layer_says_of_names_counts_for_links_too(root: Path) -> None:
    """“without bypassing an override of the layer's list and stat”"""

    class Picky(ftpcluster.PathIO):
        def list(self, path: Any) -> Any:
            shown = [each for each in os.listdir(path) if not each.startswith("secret")]
            return Shown([path / each for each in shown])

        async def stat(self, path: Any) -> Any:
            if path.name == "refused":
                raise ftpcluster.PathIOError(reason=(None, FileNotFoundError(2, "no"), None))
            return await super().stat(path)

    class Shown(ftpcluster.AbstractAsyncLister):
        def __init__(self, paths: list[Path]) -> None:
            super().__init__()
            self._paths = iter(paths)

        async def __anext__(self) -> Path:
            try:
                return next(self._paths)
            except StopIteration:
                raise StopAsyncIteration from None

    (root / "file").touch()
    for name in ("secret", "refused", "link"):
        (root / name).symlink_to("file")
    (root / "dangling").symlink_to("nowhere")
    server = ftpcluster.Server([ftpcluster.User(base_path=root)], path_io_factory=Picky)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        lines = await client.lines("MLSD")
        assert {line.split(" ", 1)[1] for line in lines} == {"file", "link", "dangling"}
        await client.says("MLST refused", 550)


@on_both_loops
async def test_a_layer_that_cannot_be_made_takes_no_slot_of_the_user(root: Path) -> None:
    fails = [True, False]

    def make(**common: Any) -> ftpcluster.PathIO:
        if fails.pop(0):
            raise ValueError("not this time")
        return ftpcluster.PathIO(**common)

    users = [ftpcluster.User("user", "12345", base_path=root, maximum_connections=1)]
    server = ftpcluster.Server(users, path_io_factory=make)
    async with server, Client(server.server_port) as one, Client(server.server_port) as other:
        await one.says("USER user", 331)
        await one.says("PASS 12345", 451)
        await other.logs_in("user", "12345")
