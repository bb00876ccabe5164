"""Files of file systems that open none for writing without O_TRUNC.

They are write-once stores and gateways to object stores, mostly FUSE. The same errors may have
other reasons: where the file may not be written at all, the first error holds.
"""

from __future__ import annotations

import errno
import os
import stat

from ftpcluster.descriptors import close_quietly
from ftpcluster.storage.beneath import examined
from ftpcluster.storage.contained import Root
from ftpcluster.storage.local_file import LocalFile
from ftpcluster.storage.uploads import UploadPlace

_REFUSALS = frozenset((errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP))
_ANEW = os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY


class RewrittenFile(LocalFile):
    """One that is opened when its old content goes, which is when the first data can come."""

    __slots__ = ("_path", "_root")

    def __init__(self, root: Root, path: str, fd: int, place: UploadPlace | None) -> None:
        """Takes over ``fd``, which was opened with O_PATH."""
        super().__init__(examined(fd), is_written=True, place=place)
        self.kernel_fd = None
        self._root = root
        self._path = path

    def truncate(self) -> None:
        opened = LocalFile(
            self._root.open_regular(self._root.fd, self._path, _ANEW, 0), is_written=True
        )
        self._close_descriptor()
        self.fd, opened.fd = opened.fd, -1
        self.kernel_fd = opened.kernel_fd
        self._device, self._links = opened._device, opened._links


def to_rewrite(
    root: Root, path: str, error: OSError, place: UploadPlace | None = None
) -> RewrittenFile:
    """The file that could not be opened for writing, if that may be due to a missing O_TRUNC.

    Raises ``error`` where it may not.
    """
    if error.errno not in _REFUSALS:
        raise error
    fd = root.open(path, os.O_PATH)
    # the last says no of files that nobody may write: immutable ones, for instance
    is_file = stat.S_ISREG(os.fstat(fd).st_mode)
    if not is_file or not os.access(f"/proc/self/fd/{fd}", os.W_OK, effective_ids=True):
        close_quietly(fd)
        raise error
    return RewrittenFile(root, path, fd, place)
