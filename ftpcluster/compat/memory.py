"""A path layer whose files live in this process: for tests and small things."""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from ftpcluster.compat.common import DEFAULT_BLOCK_SIZE
from ftpcluster.compat.pathio import (
    AbstractAsyncLister,
    AbstractPathIO,
    check_mode,
    defend_file_methods,
    universal_exception,
)


class Stats(NamedTuple):
    """The status of an entry."""

    st_size: int
    st_ctime: int
    st_mtime: int
    st_nlink: int
    st_mode: int


class Node:
    """A directory (``children`` by name) or a file (``content``)."""

    __slots__ = ("children", "content", "ctime", "mtime")

    def __init__(self, *, directory: bool) -> None:
        self.children: dict[str, Node] | None = {} if directory else None
        self.content = bytearray()
        self.ctime = self.mtime = int(time.time())

    @property
    def is_directory(self) -> bool:
        return self.children is not None


class MemoryFile:
    """An open file: a node and a position of its own."""

    def __init__(self, node: Node, *, appends: bool) -> None:
        self.node = node
        self.appends = appends
        self.position = 0


class _MemoryLister(AbstractAsyncLister[PurePosixPath]):
    def __init__(self, paths: list[PurePosixPath], *, timeout: float | None = None) -> None:
        super().__init__(timeout=timeout)
        self._paths = iter(paths)

    async def __anext__(self) -> PurePosixPath:
        try:
            return next(self._paths)
        except StopIteration:
            raise StopAsyncIteration from None


class MemoryPathIO(AbstractPathIO[PurePosixPath]):
    """Files in memory. ``state`` is the root directory, which the connections of a server share.

    Relative paths begin at ``cwd``.
    """

    def __init__(
        self,
        timeout: float | None = None,
        connection: Any = None,
        state: Node | None = None,
        *,
        cwd: str | PurePosixPath | None = None,
    ) -> None:
        super().__init__(timeout, connection, state if state is not None else Node(directory=True))
        self.cwd = PurePosixPath(cwd or "/")

    def _parts(self, path: Any) -> list[str]:
        """The components of a path, from the root on."""
        return _components(self.cwd / PurePosixPath(path))

    def make_base(self, path: Any) -> None:
        """Make a user's base and the directories above it: nobody else could make them in here."""
        node: Node = self.state
        for part in self._parts(path):
            if node.children is None:
                raise _error(errno.ENOTDIR, path)
            node = node.children.setdefault(part, Node(directory=True))

    def _find(self, path: Any) -> Node | None:
        return self._at(self._parts(path))

    def _at(self, parts: list[str]) -> Node | None:
        node: Node = self.state
        for part in parts:
            if node.children is None or part not in node.children:
                return None
            node = node.children[part]
        return node

    def _get(self, path: Any) -> Node:
        node = self._find(path)
        if node is None:
            raise _error(errno.ENOENT, path)
        return node

    def _parent(self, path: Any) -> tuple[dict[str, Node], str]:
        """The entries of the directory that holds ``path``, and its name there."""
        *directories, name = self._parts(path) or [""]
        node = self._at(directories)
        if node is None:
            raise _error(errno.ENOENT, path)
        if node.children is None or not name:
            raise _error(errno.ENOTDIR if name else errno.EBUSY, path)
        return node.children, name

    @universal_exception
    async def exists(self, path: Any) -> bool:
        return self._find(path) is not None

    @universal_exception
    async def is_dir(self, path: Any) -> bool:
        node = self._find(path)
        return node is not None and node.is_directory

    @universal_exception
    async def is_file(self, path: Any) -> bool:
        node = self._find(path)
        return node is not None and not node.is_directory

    @universal_exception
    async def mkdir(self, path: Any, *, parents: bool = False, exist_ok: bool = False) -> None:
        node = self._find(path)
        if node is not None:
            if not (exist_ok and node.is_directory):
                raise _error(errno.EEXIST, path)
            return
        if parents:
            self.make_base(PurePosixPath("/", *self._parts(path)[:-1]))
        children, name = self._parent(path)
        children[name] = Node(directory=True)

    @universal_exception
    async def rmdir(self, path: Any) -> None:
        node = self._get(path)
        if node.children is None:
            raise _error(errno.ENOTDIR, path)
        if node.children:
            raise _error(errno.ENOTEMPTY, path)
        children, name = self._parent(path)
        del children[name]

    @universal_exception
    async def unlink(self, path: Any) -> None:
        if self._get(path).is_directory:
            raise _error(errno.EISDIR, path)
        children, name = self._parent(path)
        del children[name]

    def list(self, path: Any) -> AbstractAsyncLister[PurePosixPath]:
        node = self._find(path)
        names = list(node.children or ()) if node is not None else []
        directory = PurePosixPath(path)
        return _MemoryLister([directory / name for name in names], timeout=self.timeout)

    @universal_exception
    async def stat(self, path: Any) -> Stats:
        node = self._get(path)
        mode = stat.S_IFDIR | 0o777 if node.is_directory else stat.S_IFREG | 0o666
        return Stats(len(node.content), node.ctime, node.mtime, 1, mode)

    @universal_exception
    async def _open(self, path: Any, mode: str = "rb") -> MemoryFile:
        check_mode(mode)
        node = self._find(path)
        if node is None and mode in ("wb", "ab"):
            children, name = self._parent(path)
            node = children[name] = Node(directory=False)
        if node is None:
            raise _error(errno.ENOENT, path)
        if node.is_directory:
            raise _error(errno.EISDIR, path)
        if mode == "wb":
            node.content.clear()
            node.mtime = int(time.time())
        return MemoryFile(node, appends=mode == "ab")

    @universal_exception
    @defend_file_methods
    async def seek(self, file: MemoryFile, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: file.position,
            io.SEEK_END: len(file.node.content),
        }[whence]
        if start + offset < 0:
            raise _error(errno.EINVAL, "")
        file.position = start + offset
        return file.position

    @universal_exception
    @defend_file_methods
    async def write(self, file: MemoryFile, data: bytes) -> int:
        content = file.node.content
        start = len(content) if file.appends else file.position
        if start > len(content):
            content.extend(bytes(start - len(content)))
        content[start : start + len(data)] = data
        file.position = start + len(data)
        file.node.mtime = int(time.time())
        return len(data)

    @universal_exception
    @defend_file_methods
    async def read(self, file: MemoryFile, block_size: int = DEFAULT_BLOCK_SIZE) -> bytes:
        end = len(file.node.content) if block_size < 0 else file.position + block_size
        block = bytes(file.node.content[file.position : end])
        file.position += len(block)
        return block

    @universal_exception
    @defend_file_methods
    async def close(self, file: MemoryFile) -> None:
        pass  # there is nothing to give back

    @universal_exception
    async def rename(self, source: Any, destination: Any) -> None:
        node = self._get(source)
        old, old_name = self._parent(source)
        new, new_name = self._parent(destination)
        begin, end = self._parts(source), self._parts(destination)
        if end[: len(begin)] == begin:
            if end == begin:
                return
            raise _error(errno.EINVAL, destination)
        there = new.get(new_name)
        if there is not None and (there.is_directory or node.is_directory):
            raise _error(errno.EISDIR if there.is_directory else errno.ENOTDIR, destination)
        del old[old_name]
        new[new_name] = node


def _components(path: PurePosixPath) -> list[str]:
    return [part for part in path.parts if part not in ("/", "//", ".")]


def _error(code: int, path: Any) -> OSError:
    return OSError(code, os.strerror(code), str(path))
