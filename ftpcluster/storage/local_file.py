"""An open file of this machine; the kernel copies by its descriptor."""

from __future__ import annotations

import os

from ftpcluster.descriptors import close_quietly
from ftpcluster.native import NATIVE
from ftpcluster.protocol.errors import LocalProblem
from ftpcluster.storage.base import File
from ftpcluster.storage.beneath import Opened
from ftpcluster.storage.uploads import UploadPlace

if NATIVE:
    from ftpcluster._native.file_calls import count_links, is_in_memory
else:
    from ftpcluster.storage.file_calls import count_links, is_in_memory

_cannot_tell: set[int] = set()
"""Devices whose file systems cannot say what they have in memory, as tmpfs, which has all."""
_cannot_copy: set[tuple[int, bool]] = set()
"""Devices whose files the kernel does not copy from (False) or to (True) by itself."""


class LocalFile(File):
    """An open regular file. ``position`` is where ``read`` is; ``write`` has the descriptor's."""

    __slots__ = (
        "_device",
        "_had_name",
        "_is_written",
        "_links",
        "_place",
        "fd",
        "kernel_fd",
        "position",
        "size",
    )
    is_synchronous = True
    size: int

    def __init__(
        self,
        opened: Opened,
        *,
        is_written: bool = False,
        appends: bool = False,
        place: UploadPlace | None = None,
    ) -> None:
        """Takes over what was opened. ``place``: of an upload that is durable or atomic."""
        fd, device, self.size, self._links = opened
        self.fd, self._device = fd, device
        self._is_written = is_written
        self._had_name = True
        self._place = place
        # splice(2) refuses files opened with O_APPEND
        is_refused = appends or (device, is_written) in _cannot_copy
        self.kernel_fd = None if is_refused else fd
        self.position = 0

    def seek(self, offset: int) -> None:
        os.lseek(self.fd, offset, os.SEEK_SET)
        self.position = offset

    def truncate(self) -> None:
        if self.size:
            os.ftruncate(self.fd, 0)

    def read(self, count: int) -> bytes:
        data = os.pread(self.fd, count, self.position)
        self.position += len(data)
        return data

    def write(self, data: bytes | memoryview) -> None:
        """Write all of ``data`` at the descriptor's own position, which splice shares."""
        if not data:
            return
        self._had_name = count_links(self.fd) > 0 or not self._links  # as ``look_at_name``
        written = os.write(self.fd, data)
        while written < len(data):
            written += os.write(self.fd, memoryview(data)[written:])

    def is_resident(self, offset: int) -> bool:
        """Whether the page at ``offset`` is in memory, so that reading it does not block."""
        if self._device in _cannot_tell:
            return True
        is_known = is_in_memory(self.fd, offset)
        if is_known is None:
            _cannot_tell.add(self._device)
            return True
        return is_known

    def refuse_kernel_copies(self) -> None:
        self.kernel_fd = None
        _cannot_copy.add((self._device, self._is_written))

    def look_at_name(self) -> None:
        """Note whether the file still has a name.

        A file that is removed before its last byte has come was not stored: nothing of it is left.
        One that is removed afterwards was. Some file systems count no names at all.
        """
        self._had_name = count_links(self.fd) > 0 or not self._links

    def is_exhausted(self, offset: int) -> bool:
        """Files of sysfs have the size of a page, whatever is in them, and no blocks on a disk."""
        status = os.fstat(self.fd)
        return status.st_size == self.size and not status.st_blocks

    def read_ahead(self, offset: int, count: int) -> None:
        """Bring a part of the file into memory; blocks, so it is for a thread."""
        os.pread(self.fd, count, offset)

    def finish(self) -> None:
        """A durable upload waits for the disk here, so a thread has to call this."""
        place = self._place
        if place is not None:
            place.unmark(self.fd)
            place.sync_file(self.fd)
        if not self._had_name:
            raise LocalProblem("The file was removed while it was stored.")
        # before the name appears: NFS says only here what it has refused
        fd, self.fd, self.kernel_fd = self.fd, -1, None  # as ``_close_descriptor``
        if fd >= 0:
            os.close(fd)
        if place is not None:
            place.settle()

    def close(self) -> None:
        if self._place is None:  # as ``_close_descriptor``, without its call
            fd, self.fd, self.kernel_fd = self.fd, -1, None
            if fd >= 0:
                os.close(fd)
            return
        place, self._place = self._place, None
        try:
            self._close_descriptor()
        finally:
            place.close()

    def _close_descriptor(self) -> None:
        fd, self.fd, self.kernel_fd = self.fd, -1, None
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # one that a thread opened for a command that had been aborted meanwhile
        if self.fd >= 0:
            close_quietly(self.fd)
