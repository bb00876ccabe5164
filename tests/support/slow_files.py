"""A file system whose calls are slow or hang on demand, and a command where it is mounted.

python -m tests.support.slow_files DIRECTORY MODULE ARGUMENTS…

DIRECTORY becomes the root of a FUSE file system of our own, in a mount namespace that ends with the
command. Its files are those of DIRECTORY.files. DIRECTORY.knobs, a JSON object, says how many
seconds requests take: {"open": 2, "read": 0.3, "flush": "hangs"}. A process that waits for one that
hangs is in state D, and not even SIGKILL ends it. Nothing is cached.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import json
import os
import select
import struct
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from tests.support.hanging import serve, skip_where_refused

HANGS = "hangs"
_IN, _OUT = struct.Struct("=IIQQIIII"), struct.Struct("=IiQ")
_SETATTR = struct.Struct("=IIQQQQQQIIIIIIII")
_READ, _ENTRY, _MODE, _SIZE, _TIME = struct.Struct("=QQI"), struct.Struct("=QQQQII"), 1, 8, 32
_FORGET, _INTERRUPT, _BATCH_FORGET = 2, 36, 42
_NO_REPLY = (_FORGET, _INTERRUPT, _BATCH_FORGET)
_NAMES = {
    1: "lookup", 3: "getattr", 4: "setattr", 5: "readlink", 6: "symlink", 9: "mkdir",
    10: "unlink", 11: "rmdir", 12: "rename", 14: "open", 15: "read", 16: "write", 17: "statfs",
    18: "release", 20: "fsync", 25: "flush", 26: "init", 27: "opendir", 28: "readdir",
    29: "releasedir", 35: "create", 45: "rename2",
}  # fmt: skip
_MOST = 1 << 20
_PATIENCE = 20  # milliseconds until the knobs are looked at again
_ASYNC_READ, _BIG_WRITES, _PARALLEL, _MAX_PAGES = 1, 1 << 5, 1 << 18, 1 << 22


def on_slow_files(directory: Path, *command: str) -> tuple[str, ...]:
    """The ``program`` of a ``Cluster`` that finds such storage in ``directory``.

    Skips the test if we may not mount it.
    """
    directory.mkdir()
    Path(f"{directory}.files").mkdir()
    program = ("tests.support.slow_files", str(directory))
    skip_where_refused(program)
    return (*program, *(command or ("ftpcluster", "run")))


def turn(directory: Path, **knobs: float | str) -> None:
    """Set how long requests take from now on. All others get answers, those that hung, too."""
    _put(f"{directory}.knobs", json.dumps(knobs))


def _put(name: str, text: str) -> None:
    """Write a file in one step, since it is read meanwhile."""
    new = Path(f"{name}.new")
    new.write_text(text)
    new.rename(name)


def hung(directory: Path) -> int:
    """How many requests hang now."""
    try:
        return int(Path(f"{directory}.hung").read_text())
    except OSError:
        return 0


def _knobs(directory: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(Path(f"{directory}.knobs").read_text())
    except OSError:
        return {}
    return found


class _Files:
    """Answers requests from a directory. A node's number stands for its path."""

    def __init__(self, root: str) -> None:
        self._paths: dict[int, str] = {1: root}
        self._numbers = {root: 1}

    def answer(self, name: str, node: int, rest: bytes) -> bytes:
        handler: Callable[[str, bytes], bytes] | None = getattr(self, f"_{name}", None)
        if handler is None:
            raise OSError(errno.ENOSYS, name)
        return handler(self._paths.get(node, ""), rest)

    def _attributes(self, path: str) -> bytes:
        found = os.lstat(path)
        times = (found.st_atime, found.st_mtime, found.st_ctime)
        return struct.pack(
            "=6Q10I", found.st_ino, found.st_size, found.st_blocks, *map(int, times), 0, 0, 0,
            found.st_mode, found.st_nlink, found.st_uid, found.st_gid, 0, 4096, 0,
        )  # fmt: skip

    def _entry(self, path: str) -> bytes:
        attributes = self._attributes(path)
        number = self._numbers.setdefault(path, len(self._numbers) + 1)
        self._paths[number] = path
        return _ENTRY.pack(number, 0, 0, 0, 0, 0) + attributes

    def _init(self, _: str, rest: bytes) -> bytes:
        ahead = struct.unpack_from("=I", rest, 8)[0]
        flags = _ASYNC_READ | _BIG_WRITES | _PARALLEL | _MAX_PAGES
        head = (7, 31, ahead, flags, 64, 48, _MOST, 1, 256, 0)
        return struct.pack("=IIIIHHIIHH", *head) + bytes(32)

    def _lookup(self, path: str, rest: bytes) -> bytes:
        return self._entry(f"{path}/{_text(rest)}")

    def _getattr(self, path: str, _: bytes) -> bytes:
        return bytes(16) + self._attributes(path)

    def _setattr(self, path: str, rest: bytes) -> bytes:
        given = _SETATTR.unpack_from(rest)
        if given[0] & _SIZE:
            os.truncate(path, given[3])
        if given[0] & _MODE:
            os.chmod(path, given[11])
        if given[0] & _TIME:
            os.utime(path, (given[5], given[6]))
        return self._getattr(path, rest)

    def _readlink(self, path: str, _: bytes) -> bytes:
        return os.fsencode(os.readlink(path))

    def _symlink(self, path: str, rest: bytes) -> bytes:
        name, target, _ = rest.split(b"\0")
        os.symlink(target, f"{path}/{os.fsdecode(name)}")
        return self._entry(f"{path}/{os.fsdecode(name)}")

    def _mkdir(self, path: str, rest: bytes) -> bytes:
        os.mkdir(f"{path}/{_text(rest[8:])}")
        return self._entry(f"{path}/{_text(rest[8:])}")

    def _unlink(self, path: str, rest: bytes) -> bytes:
        os.unlink(f"{path}/{_text(rest)}")
        return b""

    def _rmdir(self, path: str, rest: bytes) -> bytes:
        os.rmdir(f"{path}/{_text(rest)}")
        return b""

    def _rename(self, path: str, rest: bytes) -> bytes:
        return self._move(path, struct.unpack_from("=Q", rest)[0], rest[8:])

    def _rename2(self, path: str, rest: bytes) -> bytes:
        return self._move(path, struct.unpack_from("=Q", rest)[0], rest[16:])

    def _move(self, path: str, there: int, names: bytes) -> bytes:
        old, new, _ = names.split(b"\0")
        target = f"{self._paths[there]}/{os.fsdecode(new)}"
        os.rename(f"{path}/{os.fsdecode(old)}", target)
        return b""

    def _open(self, path: str, rest: bytes) -> bytes:
        flags = struct.unpack_from("=I", rest)[0] & (os.O_ACCMODE | os.O_APPEND)
        return struct.pack("=QII", os.open(path, flags), 0, 0)

    def _create(self, path: str, rest: bytes) -> bytes:
        mode = struct.unpack_from("=I", rest, 4)[0]
        path = f"{path}/{_text(rest[16:])}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT, mode & 0o7777)
        return self._entry(path) + struct.pack("=QII", fd, 0, 0)

    def _read(self, _: str, rest: bytes) -> bytes:
        fd, offset, size = _READ.unpack_from(rest)
        return os.pread(fd, size, offset)

    def _write(self, _: str, rest: bytes) -> bytes:
        fd, offset, size = _READ.unpack_from(rest)
        return struct.pack("=II", os.pwrite(fd, rest[40 : 40 + size], offset), 0)

    def _statfs(self, path: str, _: bytes) -> bytes:
        return struct.pack("=5Q10I", 1 << 20, 1 << 20, 1 << 20, 9, 9, 4096, 255, 4096, *(0,) * 7)

    def _release(self, _: str, rest: bytes) -> bytes:
        os.close(_READ.unpack_from(rest + bytes(20))[0])
        return b""

    def _flush(self, _: str, __: bytes) -> bytes:
        return b""

    _fsync = _releasedir = _flush

    def _opendir(self, _: str, __: bytes) -> bytes:
        return bytes(16)

    def _readdir(self, path: str, rest: bytes) -> bytes:
        _, offset, size = _READ.unpack_from(rest)
        found = b""
        for number, name in enumerate([".", "..", *sorted(os.listdir(path))][offset:], offset + 1):
            data = os.fsencode(name)
            entry = struct.pack("=QQII", 1 << 40, number, len(data), 0) + data
            entry += bytes(-len(entry) % 8)
            if len(found) + len(entry) > size:
                break
            found += entry
        return found


def _text(rest: bytes) -> str:
    return os.fsdecode(rest.partition(b"\0")[0])


class _Service:
    def __init__(self, device: int, directory: str) -> None:
        self._device = device
        self._directory = directory
        self._files = _Files(f"{directory}.files")
        self._later: list[tuple[float, int, bytes]] = []
        self._hung: list[bytes] = []
        self._count = itertools.count()

    def serve(self, command: int) -> None:
        """Answer the kernel until the command is gone."""
        while os.getppid() == command:
            ready = select.select((self._device,), (), (), _PATIENCE / 1000)[0]
            knobs = _knobs(self._directory)
            if ready:
                try:
                    self._take(os.read(self._device, _MOST + (1 << 16)), knobs)
                except OSError as error:
                    if error.errno != errno.ENOENT:  # a request that was interrupted
                        return
            if HANGS not in knobs.values():
                while self._hung:
                    self._answer(self._hung.pop(0))
                    self._tell()
            while self._later and self._later[0][0] <= monotonic():
                self._answer(heapq.heappop(self._later)[2])

    def _take(self, request: bytes, knobs: dict[str, Any]) -> None:
        how = knobs.get(_NAMES.get(_IN.unpack_from(request)[1], ""), 0)
        if how == HANGS:
            self._hung.append(request)
            self._tell()
        elif how:
            heapq.heappush(self._later, (monotonic() + how, next(self._count), request))
        else:
            self._answer(request)

    def _tell(self) -> None:
        _put(f"{self._directory}.hung", str(len(self._hung)))

    def _answer(self, request: bytes) -> None:
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        if opcode in _NO_REPLY:
            return
        problem, data = 0, b""
        try:
            data = self._files.answer(_NAMES.get(opcode, "?"), node, request[_IN.size :])
        except OSError as error:
            problem = error.errno or errno.EIO
        with contextlib.suppress(OSError):  # ENOENT: nobody waits for it any more
            os.write(self._device, _OUT.pack(_OUT.size + len(data), -problem, unique) + data)


def _serve(device: int, directory: str, ours: int) -> None:
    _Service(device, directory).serve(ours)


if __name__ == "__main__":
    serve(b"slow", _serve)
