"""Errors that end a command, each with its reply code; and the reply for each errno."""

from __future__ import annotations

import errno

from ftpcluster.protocol.reply import Code, Reply, Then


class FTPError(Exception):
    """A command has failed. ``reply`` is sent to the client."""

    code: int = Code.LOCAL_ERROR
    text = "Requested action aborted: local error in processing."
    then = Then.GO_ON

    def __init__(self, text: str | None = None) -> None:
        super().__init__(text or self.text)

    @property
    def reply(self) -> Reply:
        return Reply(self.code, str(self), then=self.then)


class SyntaxProblem(FTPError):
    code = Code.SYNTAX_ERROR
    text = "Unknown command."


class NotImplementedVerb(FTPError):
    code = Code.NOT_IMPLEMENTED
    text = "Command not implemented."


class NotLoggedIn(FTPError):
    code = Code.NOT_LOGGED_IN
    text = "Please log in with USER and PASS."


class ArgumentProblem(FTPError):
    code = Code.ARGUMENT_ERROR
    text = "Syntax error in parameters or arguments."


class BadSequence(FTPError):
    code = Code.BAD_SEQUENCE
    text = "Bad sequence of commands."


class ParameterNotImplemented(FTPError):
    code = Code.PARAMETER_NOT_IMPLEMENTED
    text = "Command not implemented for that parameter."


class NetworkProtocolNotSupported(FTPError):
    code = Code.NETWORK_PROTOCOL_NOT_SUPPORTED
    text = "Network protocol not supported."


class NoDataConnection(FTPError):
    code = Code.CANNOT_OPEN_DATA_CONNECTION
    text = "Can't open data connection."


class TransferAborted(FTPError):
    code = Code.TRANSFER_ABORTED
    text = "Connection closed; transfer aborted."


class FileUnavailable(FTPError):
    code = Code.FILE_UNAVAILABLE
    text = "File unavailable."


class FileNameNotAllowed(FTPError):
    code = Code.FILE_NAME_NOT_ALLOWED
    text = "File name not allowed."


class InsufficientStorage(FTPError):
    code = Code.INSUFFICIENT_STORAGE
    text = "No space left on device."


class AllocationExceeded(FTPError):
    code = Code.EXCEEDED_ALLOCATION
    text = "File too large."


class CommandProtectionDenied(FTPError):
    code = Code.COMMAND_PROTECTION_DENIED
    text = "TLS is required on the control connection."


class RequestDenied(FTPError):
    code = Code.REQUEST_DENIED
    text = "Request denied for policy reasons."


class ProtectionRequired(FTPError):
    code = Code.PROTECTION_REQUIRED
    text = "TLS is required on data connections; use PROT P."


class InvalidRest(FTPError):
    code = Code.INVALID_REST
    text = "Restart position lies past the end of the file."


class LocalProblem(FTPError):
    code = Code.LOCAL_ERROR


class StorageSilent(LocalProblem):
    """A call of the storage has not ended in time. It may still take effect."""

    text = "The storage does not answer."


class SessionEnded(FTPError):
    """This reply is the last one: the session ends with it."""

    code = Code.SERVICE_NOT_AVAILABLE
    then = Then.CLOSE
    text = "Service not available, closing control connection."


class NoAvailablePort(SessionEnded):
    """There is no port for passive data connections: the range is empty, or others hold it."""

    text = "No data port is available."


_ERRNO_REPLIES: dict[int, tuple[Code, str]] = {
    errno.ENOENT: (Code.FILE_UNAVAILABLE, "No such file or directory."),
    errno.ENOTDIR: (Code.FILE_UNAVAILABLE, "Not a directory."),
    errno.EISDIR: (Code.FILE_UNAVAILABLE, "Is a directory."),
    errno.EEXIST: (Code.FILE_UNAVAILABLE, "File exists."),
    errno.ENOTEMPTY: (Code.FILE_UNAVAILABLE, "Directory not empty."),
    errno.EACCES: (Code.FILE_UNAVAILABLE, "Permission denied."),
    errno.EPERM: (Code.FILE_UNAVAILABLE, "Operation not permitted."),
    errno.EROFS: (Code.FILE_UNAVAILABLE, "Read-only file system."),
    errno.ELOOP: (Code.FILE_UNAVAILABLE, "Too many levels of symbolic links."),
    # openat2(2): a link leads out of the root. What lies there does not exist for the client
    errno.EXDEV: (Code.FILE_UNAVAILABLE, "No such file or directory."),
    errno.EINVAL: (Code.FILE_UNAVAILABLE, "Invalid argument."),
    errno.EBUSY: (Code.FILE_UNAVAILABLE, "Resource busy."),
    errno.EAGAIN: (Code.FILE_BUSY, "The file is busy: somebody else uses it; try again later."),
    errno.ETXTBSY: (Code.FILE_BUSY, "The file is busy: it is a program that runs."),
    errno.EOPNOTSUPP: (Code.FILE_UNAVAILABLE, "Not supported here."),
    errno.ENXIO: (Code.FILE_UNAVAILABLE, "Not a regular file."),
    errno.ENODEV: (Code.FILE_UNAVAILABLE, "Not a regular file."),
    errno.ENAMETOOLONG: (Code.FILE_NAME_NOT_ALLOWED, "File name too long."),
    errno.EILSEQ: (Code.FILE_NAME_NOT_ALLOWED, "File name not allowed."),
    errno.ENOSPC: (Code.INSUFFICIENT_STORAGE, "No space left on device."),
    errno.EDQUOT: (Code.EXCEEDED_ALLOCATION, "Disk quota exceeded."),
    errno.EFBIG: (Code.EXCEEDED_ALLOCATION, "File too large."),
}


def reply_for_os_error(error: OSError) -> Reply:
    """The reply for a failed file operation.

    The text is never the error's own, which may contain the real path of the file.
    """
    if error.errno in _ERRNO_REPLIES:
        code, text = _ERRNO_REPLIES[error.errno]
        return Reply(code, text)
    return Reply(Code.LOCAL_ERROR, FTPError.text)
