"""A FUSE file system over a directory, with the habits of unusual file systems.

    with mounted(backing, mountpoint, "nlink0"):
        …

``nlink0``: st_nlink of files is 0. ``truncates``: a file that is not empty can be opened for
writing only with O_TRUNC. ``chmod``: neither modes nor owners can be changed. ``flush``: close(2)
fails with EDQUOT. ``slow``: each read takes 20 ms. It is unmounted at the end of the block.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forking import environment

_IN, _OUT = struct.Struct("=IIQQIIII"), struct.Struct("=IiQ")
_SETATTR = struct.Struct("=II6Q8I")
_MODE, _UID, _GID, _SIZE, _MTIME, _MTIME_NOW = 1, 2, 4, 8, 32, 256
_ATOMIC_O_TRUNC, _BIG_WRITES = 1 << 3, 1 << 5
_NO_REPLY = (2, 36, 42)  # FORGET, INTERRUPT, BATCH_FORGET
_SYNTHETIC = (17, 20, 29)  # STATFS, FSYNC, RELEASEDIR


class _Files:
    """Answers requests of the kernel."""

    def __init__(self, backing: str, habits: set[str]) -> None:
        self._habits = habits
        self._paths = {1: backing}
        self._nodes = {backing: 1}
        self._obey = {
            1: self._lookup, 3: self._getattr, 4: self._setattr, 9: self._mkdir, 10: self._unlink,
            11: self._rmdir, 12: self._rename, 14: self._open, 15: self._read, 16: self._write,
            18: self._release, 25: self._flush, 26: self._init, 27: self._opendir,
            28: self._readdir, 35: self._create, 45: self._rename2,
        }  # fmt: skip

    def reply(self, opcode: int, node: int, rest: bytes) -> tuple[int, bytes]:
        """An error number, and the reply if that is 0."""
        if opcode in _SYNTHETIC:
            return 0, bytes(80) if opcode == 17 else b""
        if opcode not in self._obey:
            return errno.ENOSYS, b""
        try:
            return 0, self._obey[opcode](node, rest)
        except OSError as error:
            return error.errno or errno.EIO, b""

    def _attributes(self, path: str) -> bytes:
        status = os.lstat(path)
        times = [divmod(ns, 10**9) for ns in (status.st_atime_ns, status.st_mtime_ns)]
        changed = divmod(status.st_ctime_ns, 10**9)
        seconds = (*(each[0] for each in times), changed[0])
        parts = (*(each[1] for each in times), changed[1])
        no_links = "nlink0" in self._habits and stat.S_ISREG(status.st_mode)
        return struct.pack(
            "=6Q10I", status.st_ino, status.st_size, status.st_blocks, *seconds, *parts,
            status.st_mode, 0 if no_links else status.st_nlink, status.st_uid, status.st_gid, 0,
            4096, 0,
        )  # fmt: skip

    def _entry(self, path: str) -> bytes:
        attributes = self._attributes(path)
        node = self._nodes.setdefault(path, max(self._paths) + 1)
        self._paths[node] = path
        return struct.pack("=QQQQII", node, 0, 0, 0, 0, 0) + attributes

    def _child(self, node: int, name: bytes) -> str:
        return f"{self._paths[node]}/{os.fsdecode(name.rstrip(bytes(1)))}"

    def _init(self, _: int, __: bytes) -> bytes:
        flags = _ATOMIC_O_TRUNC | _BIG_WRITES
        return struct.pack("=IIIIHHIIHH", 7, 31, 1 << 17, flags, 12, 9, 1 << 17, 1, 32, 0) + bytes(
            28
        )

    def _lookup(self, node: int, rest: bytes) -> bytes:
        return self._entry(self._child(node, rest))

    def _getattr(self, node: int, _: bytes) -> bytes:
        return struct.pack("=QII", 0, 0, 0) + self._attributes(self._paths[node])

    def _setattr(self, node: int, rest: bytes) -> bytes:
        valid, _, _, size, _, _, mtime, _, _, nsec, _, mode, _, uid, gid, _ = _SETATTR.unpack_from(
            rest
        )
        path = self._paths[node]
        if "chmod" in self._habits and valid & (_MODE | _UID | _GID):
            raise PermissionError(errno.EPERM, "no modes here")
        if valid & _MODE:
            os.chmod(path, stat.S_IMODE(mode))
        if valid & (_UID | _GID):
            os.chown(path, uid if valid & _UID else -1, gid if valid & _GID else -1)
        if valid & _SIZE:
            os.truncate(path, size)
        if valid & _MTIME and not valid & _MTIME_NOW:
            os.utime(path, ns=(mtime * 10**9 + nsec,) * 2)
        return self._getattr(node, b"")

    def _mkdir(self, node: int, rest: bytes) -> bytes:
        path = self._child(node, rest[8:])
        os.mkdir(path, stat.S_IMODE(struct.unpack_from("=I", rest)[0]))
        return self._entry(path)

    def _unlink(self, node: int, rest: bytes) -> bytes:
        os.unlink(self._child(node, rest))
        return b""

    def _rmdir(self, node: int, rest: bytes) -> bytes:
        os.rmdir(self._child(node, rest))
        return b""

    def _rename(self, node: int, rest: bytes) -> bytes:
        return self._move(node, struct.unpack_from("=Q", rest)[0], rest[8:])

    def _rename2(self, node: int, rest: bytes) -> bytes:
        directory, flags, _ = struct.unpack_from("=QII", rest)
        if flags:
            raise OSError(errno.EINVAL, "no flags here")
        return self._move(node, directory, rest[16:])

    def _move(self, node: int, directory: int, names: bytes) -> bytes:
        old, new = names.rstrip(b"\0").split(b"\0")
        source, target = self._child(node, old), self._child(directory, new)
        os.rename(source, target)
        moved = self._nodes.pop(source, None)
        if moved is not None:
            self._nodes[target] = moved
            self._paths[moved] = target
        return b""

    def _open(self, node: int, rest: bytes) -> bytes:
        flags, path = struct.unpack_from("=I", rest)[0], self._paths[node]
        is_written = flags & os.O_ACCMODE and not flags & os.O_TRUNC
        if "truncates" in self._habits and is_written and os.path.getsize(path):
            raise PermissionError(errno.EPERM, "only anew")
        kept = os.O_ACCMODE | os.O_TRUNC | os.O_APPEND
        return struct.pack("=QII", os.open(path, flags & kept), 0, 0)

    def _create(self, node: int, rest: bytes) -> bytes:
        flags, mode, umask, _ = struct.unpack_from("=4I", rest)
        path = self._child(node, rest[16:])
        fd = os.open(path, flags & (os.O_ACCMODE | os.O_EXCL) | os.O_CREAT, 0o600)
        os.fchmod(fd, stat.S_IMODE(mode) & ~umask)
        return self._entry(path) + struct.pack("=QII", fd, 0, 0)

    def _read(self, _: int, rest: bytes) -> bytes:
        fd, offset, size = struct.unpack_from("=QQI", rest)
        if "slow" in self._habits:
            time.sleep(0.02)
        return os.pread(fd, size, offset)

    def _write(self, _: int, rest: bytes) -> bytes:
        fd, offset, size = struct.unpack_from("=QQI", rest)
        return struct.pack("=II", os.pwrite(fd, rest[40 : 40 + size], offset), 0)

    def _flush(self, _: int, __: bytes) -> bytes:
        if "flush" in self._habits:
            raise OSError(errno.EDQUOT, "too late")
        return b""

    def _release(self, _: int, rest: bytes) -> bytes:
        os.close(struct.unpack_from("=Q", rest)[0])
        return b""

    def _opendir(self, _: int, __: bytes) -> bytes:
        return bytes(16)

    def _readdir(self, node: int, rest: bytes) -> bytes:
        _, offset, size = struct.unpack_from("=QQI", rest)
        said = b""
        for number, name in enumerate(sorted(os.listdir(self._paths[node]))[offset:], offset + 1):
            encoded = os.fsencode(name)
            entry = struct.pack("=QQII", number, number, len(encoded), 0) + encoded
            entry += bytes(-len(entry) % 8)
            if len(said) + len(entry) > size:
                break
            said += entry
        return said


def _serve(device: int, files: _Files) -> None:
    """Answer the kernel until the file system is unmounted."""
    while True:
        try:
            request = os.read(device, 1 << 18)
        except OSError as error:
            if error.errno == errno.ENOENT:  # a request that was interrupted
                continue
            return
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        if opcode in _NO_REPLY:
            continue
        problem, data = files.reply(opcode, node, request[_IN.size :])
        with contextlib.suppress(OSError):  # nobody waits for it any more
            os.write(device, _OUT.pack(_OUT.size + len(data), -problem, unique) + data)


@contextlib.contextmanager
def mounted(backing: Path, place: Path, *habits: str) -> Iterator[None]:
    """Mount ``backing`` with these habits on ``place``. Skips the test if we may not mount."""
    for each in (backing, place):
        each.mkdir(exist_ok=True)
    command = [sys.executable, "-m", __name__, str(backing), str(place), *habits]
    process = subprocess.Popen(
        command, env=environment({}), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        if said != "mounted\n":
            pytest.skip("no FUSE for us")
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)
        process.stdin.close()
        process.kill()
        process.wait(20)
        process.stdout.close()


def main() -> None:
    backing, place, *habits = sys.argv[1:]
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"odd", os.fsencode(place), b"fuse", 0, options.encode()):
        sys.exit(os.strerror(ctypes.get_errno()))
    print("mounted", flush=True)
    _serve(device, _Files(backing, set(habits)))


if __name__ == "__main__":
    main()
