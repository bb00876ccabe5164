"""The ``Storage`` that calls a ``PathIO``: sessions over a path layer of the library's user.

Everything goes through the layer's methods, so what it overrides has its effect. Virtual paths have
no "..", so the text of a real path cannot lead out of the base. Before each use, links on disk are
looked up, and may not lead out either. (The local layer itself leaves that to the kernel.)
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

from ftpcluster.compat.common import DEFAULT_BLOCK_SIZE
from ftpcluster.compat.local_pathio import AsyncPathIO, PathIO
from ftpcluster.compat.pathio import AbstractPathIO, OpenFile, PathIOError
from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.errors import LocalProblem
from ftpcluster.storage.base import Entry, File, OtherFileSystem, Storage, WriteMode
from ftpcluster.storage.uploads import temporary_name

T = TypeVar("T")

_BATCH = 128
_OURS = (PathIO.stat, AsyncPathIO.stat)
_MODES = {
    WriteMode.CREATE: "wb",
    WriteMode.TRUNCATE: "wb",
    WriteMode.APPEND: "ab",
    WriteMode.RESUME: "r+b",
}


class MappedPath(str):
    """A virtual path, and the real one that an overridden ``get_paths`` has returned for it."""

    __slots__ = ("real",)
    real: Path

    def __new__(cls, path: str, real: Path) -> Self:
        self = super().__new__(cls, path)
        self.real = real
        return self


async def _asked(call: Coroutine[Any, Any, T]) -> T:
    """Call a layer. A PathIOError becomes the OSError that is its cause."""
    try:
        return await call
    except PathIOError as error:
        cause = error.reason[1] if error.reason else error.__cause__
        if isinstance(cause, OSError):
            raise cause from None
        raise LocalProblem from error


class LayeredFile(File):
    """An open file of a layer."""

    has_size = False

    def __init__(self, file: OpenFile, size: int, block_size: int) -> None:
        self._block_size = block_size
        self._file = file
        self._size = size
        self._closed = False

    @property
    def size(self) -> int:
        return self._size

    async def seek(self, offset: int) -> None:
        await _asked(self._file.seek(offset))

    async def truncate(self) -> None:
        """Mode "wb" did it when the file was opened: layers have no other way."""

    async def read(self, count: int) -> bytes:
        return await _asked(self._file.read(min(count, self._block_size)))

    async def write(self, data: bytes | memoryview) -> None:
        for start in range(0, len(data), self._block_size):
            await _asked(self._file.write(bytes(data[start : start + self._block_size])))

    async def finish(self) -> None:
        await self.close()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await _asked(self._file.close())


class LayeredUpload(LayeredFile):
    """One that is written."""

    def __init__(self, file: OpenFile, size: int, block_size: int, place: _LayeredPath) -> None:
        super().__init__(file, size, block_size)
        self._place = place
        self._had_name = _has_name(file.file)
        self._is_removed = False

    async def write(self, data: bytes | memoryview) -> None:
        if data:  # a file that is removed later, when all has come, was stored
            self._is_removed = self._had_name and not _has_name(self._file.file)
        await super().write(data)

    async def finish(self) -> None:
        place = self._place
        if place.is_durable:
            await _asked(self._file.sync())
        if self._is_removed:
            raise LocalProblem("The file was removed while it was stored.")
        await super().close()
        await place.settle()

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            await self._place.close()


def _has_name(file: Any) -> bool:
    """Whether an open file has a descriptor, and still has a name."""
    try:
        return os.fstat(file.fileno()).st_nlink > 0
    except (AttributeError, OSError, ValueError):
        return False  # whatever else a layer has opened


class _LayeredPath:
    """Where an upload goes, and the path that it has until it is whole."""

    def __init__(self, layer: AbstractPathIO[Any], real: Path, *, durable: bool) -> None:
        self.is_durable = durable
        self._layer = layer
        self._real = real
        self._temporary: Path | None = None

    def take_temporary(self) -> Path:
        self._temporary = self._real.with_name(temporary_name(self._real.name))
        return self._temporary

    async def settle(self) -> None:
        if self._temporary is not None:
            try:
                await _asked(self._layer.rename(self._temporary, self._real))
            except FileNotFoundError:
                raise LocalProblem("The file was removed while it was stored.") from None
            self._temporary = None
        if self.is_durable:
            await _asked(self._layer.sync_directory(self._real.parent))

    async def close(self) -> None:
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            try:
                await _asked(self._layer.unlink(temporary))
            except FileNotFoundError:
                pass  # somebody was faster, with the whole directory for instance


def is_link(layer: AbstractPathIO[Any], real: Any) -> bool:
    """Whether a layer's entry is a symbolic link: only layers on disk can have some."""
    return isinstance(layer, PathIO | AsyncPathIO) and os.path.islink(real)


class LayeredStorage(Storage):
    """A user's files, as a path layer has them."""

    needs_task = True

    def __init__(
        self,
        layer: AbstractPathIO[Any],
        base: Path,
        block_size: int = DEFAULT_BLOCK_SIZE,
        find_real: Callable[[str], Path] | None = None,
    ) -> None:
        """``find_real`` maps virtual paths to real ones; without it they lie beneath ``base``."""
        self._block_size = block_size
        self._layer = layer
        self._base = base
        self._find_real = find_real
        self._on_disk = isinstance(layer, PathIO | AsyncPathIO)

    def real(self, path: str) -> Path:
        """The real path of a virtual one. Raises PermissionError where a link leads out."""
        real = self._locate(path)
        if self._on_disk:
            self._check_links(path, real)
        return real

    def _locate(self, path: str) -> Path:
        if isinstance(path, MappedPath):
            return path.real
        return self._base / path.lstrip("/") if self._find_real is None else self._find_real(path)

    def _check_links(self, path: str, real: Path) -> None:
        """Raises PermissionError where a link leads out."""
        target = os.path.realpath(real)
        if self._find_real is None:
            roots = [self._base]
        else:
            roots = [self._find_real("/"), self._mapped_root(path, real, self._find_real)]
        if not any(virtual.is_beneath(target, os.path.realpath(root)) for root in roots):
            raise PermissionError(errno.EXDEV, os.strerror(errno.EXDEV))

    def _mapped_root(self, path: str, real: Path, find_real: Callable[[str], Path]) -> Path:
        """The nearest directory above that ``find_real`` maps on its own, not with its parent.

        The mapping may put it anywhere. Links in it may not lead out of it.
        """
        while path != "/":
            above = find_real(virtual.parent(path))
            if real != above / virtual.name(path):
                break
            path, real = virtual.parent(path), above
        return real

    def _named(self, path: str) -> Path:
        """The real path of an entry itself, which may be a link to anywhere."""
        if path == "/":
            return self.real(path)
        real = self._locate(path)
        if self._on_disk:
            self._check_links(virtual.parent(path), real.parent)
        return real

    def _is_link(self, real: Path) -> bool:
        return is_link(self._layer, real)

    async def stat(self, path: str) -> os.stat_result:
        return await self._status(self.real(path))

    async def lstat(self, path: str) -> os.stat_result:
        return await self._own_status(path, self._named(path))

    async def read_link(self, path: str) -> str:
        return os.readlink(self._named(path))

    async def _own_status(self, path: str, real: Path) -> os.stat_result:
        """The status of an entry, and not of a link's target.

        A layer with a ``stat`` of its own is also asked about the target of a link. An entry that
        it refuses does not exist.
        """
        if not self._is_link(real):
            return await self._status(real)
        if type(self._layer).stat not in _OURS and self._leads_somewhere(path, real):
            await _asked(self._layer.stat(real))
        return os.lstat(real)

    def _leads_somewhere(self, path: str, real: Path) -> bool:
        try:
            self._check_links(path, real)
        except OSError:
            return False  # the layer must not look at files that are not the user's
        return os.path.exists(real)

    async def _status(self, real: Path) -> os.stat_result:
        """All fields that sessions look at, from whatever the layer knows."""
        status = await _asked(self._layer.stat(real))
        known = getattr(status, "st_mode", None)
        if await _asked(self._layer.is_dir(real)):
            mode = stat.S_IFDIR | stat.S_IMODE(0o755 if known is None else known)
        elif await _asked(self._layer.is_file(real)):
            mode = stat.S_IFREG | stat.S_IMODE(0o644 if known is None else known)
        else:
            mode = known or 0
        fields = (
            mode,
            getattr(status, "st_ino", 0),
            getattr(status, "st_dev", 0),
            getattr(status, "st_nlink", 1),
            getattr(status, "st_uid", 0),
            getattr(status, "st_gid", 0),
            status.st_size,
            int(status.st_mtime),
            int(status.st_mtime),
            int(status.st_ctime),
        )
        return os.stat_result(fields)

    async def scan(self, path: str) -> AsyncGenerator[list[Entry], None]:
        batch: list[Entry] = []
        directory = self.real(path)
        entries = aiter(self._layer.list(directory))
        while True:
            try:
                entry: Any = await _asked(anext(entries))
            except StopAsyncIteration:
                break
            name = Path(entry).name
            try:
                child = virtual.join(path, name)
                status = await self._own_status(child, directory / name)
                link = self._on_disk and stat.S_ISLNK(status.st_mode)
                target = os.readlink(directory / name) if link else None
            except OSError:
                continue  # removed meanwhile
            batch.append((name, status, target))
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    async def open_reader(self, path: str) -> LayeredFile:
        real = self.real(path)
        size = await self._size(real, "rb")
        file = await _asked(_awaited(self._layer.open(real, mode="rb")))
        return LayeredFile(file, size, self._block_size)

    async def open_writer(
        self, path: str, mode: WriteMode, *, atomic: bool = False, durable: bool = False
    ) -> LayeredFile:
        real = self.real(path)
        if mode is WriteMode.CREATE and await _asked(self._layer.exists(real)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))  # no layer has "xb"
        size = await self._size(real, _MODES[mode])
        place = _LayeredPath(self._layer, real, durable=durable)
        if atomic and mode.can_be_atomic:
            real, size = place.take_temporary(), 0
        file = await _asked(_awaited(self._layer.open(real, mode=_MODES[mode])))
        return LayeredUpload(file, size, self._block_size, place)

    async def _size(self, real: Path, mode: str) -> int:
        """Bytes of the file that is to be opened. Raises OSError where it cannot be."""
        if await _asked(self._layer.exists(real)):
            if not await _asked(self._layer.is_file(real)):
                code = errno.EISDIR if await _asked(self._layer.is_dir(real)) else errno.ENXIO
                raise OSError(code, os.strerror(code))
            size: int = (await _asked(self._layer.stat(real))).st_size
            return size
        if mode in ("rb", "r+b"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return 0

    async def mkdir(self, path: str) -> None:
        await _asked(self._layer.mkdir(self.real(path), parents=True))

    async def rmdir(self, path: str) -> None:
        real = self._named(path)
        if self._is_link(real):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        await _asked(self._layer.rmdir(real))

    async def unlink(self, path: str) -> None:
        real = self._named(path)
        if await self._is_directory(real):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        await _asked(self._layer.unlink(real))

    async def rename(self, source: str, target: str, *, replace: bool) -> None:
        old, new = self._named(source), self._named(target)
        exists = self._is_link(new) or await _asked(self._layer.exists(new))
        if exists and not (replace and await self._are_files(old, new)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        try:
            await _asked(self._layer.rename(old, new))
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise OtherFileSystem from None
            raise

    async def _are_files(self, *paths: Path) -> bool:
        return not any([await self._is_directory(each) for each in paths])

    async def _is_directory(self, real: Path) -> bool:
        """Whether it is a directory itself: a link to one is removed and renamed as a file is."""
        return not self._is_link(real) and await _asked(self._layer.is_dir(real))


async def _awaited(opening: OpenFile) -> OpenFile:
    return await opening
