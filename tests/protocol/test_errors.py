"""Errors own their reply codes, and tell nothing of the machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from ftpcluster.protocol import errors
from ftpcluster.protocol.errors import FTPError, reply_for_os_error
from ftpcluster.protocol.reply import Code


def kinds(of: type[FTPError] = FTPError) -> Iterator[type[FTPError]]:
    for kind in of.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
        yield from kinds(kind)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, 452),
        (errno.EDQUOT, 552),
        (errno.EIO, 451),
        (errno.EMFILE, 451),
        (errno.ENOENT, 550),
        (errno.EACCES, 550),
        (errno.ENXIO, 550),
        (errno.EXDEV, 550),
        (errno.ELOOP, 550),
        (errno.EISDIR, 550),
        (errno.ENAMETOOLONG, 553),
    ],
    ids=lambda value: errno.errorcode.get(value) if value < 400 else None,
)
def test_a_failed_file_operation_has_its_code(number: int, code: int) -> None:
    assert reply_for_os_error(OSError(number, os.strerror(number))).code == code


@pytest.mark.parametrize("number", [*errno.errorcode, 9999, None])
def test_no_error_tells_where_the_files_are(number: int | None) -> None:
    error = OSError(number, "the disk of alice", "/srv/alice", None, "/srv/bob")
    wire = reply_for_os_error(error).encode()
    assert wire[:1] in b"45"
    assert b"alice" not in wire
    assert b"/" not in wire


def test_an_escape_from_the_root_looks_like_a_file_that_is_missing() -> None:
    escape, missing = OSError(errno.EXDEV, ""), OSError(errno.ENOENT, "")
    assert reply_for_os_error(escape) == reply_for_os_error(missing)


@pytest.mark.parametrize("kind", [FTPError, *kinds()])
def test_each_error_has_a_reply_of_its_own(kind: type[FTPError]) -> None:
    assert kind().reply.code == kind.code >= 400
    assert kind().reply.encode() == f"{int(kind.code)} {kind.text}\r\n".encode()
    assert kind("Because.").reply.text == "Because."


def test_the_error_that_ends_a_session_says_so() -> None:
    assert errors.SessionEnded().reply.code == Code.SERVICE_NOT_AVAILABLE == 421
