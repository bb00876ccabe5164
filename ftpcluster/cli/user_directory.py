"""The directory with the files of users: one command at a time edits it, and a file is replaced as
a whole.

The command runs as root as a rule. So it follows no link in the directory, and does not use one
that another user could replace.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import secrets
import shlex
import signal
import stat
from collections.abc import Iterator
from types import FrameType

from ftpcluster.cli.standard_streams import say
from ftpcluster.cli.user_accounts import UserDirectory
from ftpcluster.config import ConfigError
from ftpcluster.config.naming import quoted
from ftpcluster.safe_paths import UnsafePath, acting_for, controllers

_PATIENCE = 20.0
"""Seconds for another command that edits the directory."""
_MOST = 1 << 20
"""Bytes of a file with one user."""
_OURS = ".ftpcluster-user-"
"""How the names of unfinished files begin. Patterns such as ``*.toml`` leave them out."""
_RIGHTS = 0o666
_NOTHING_CHANGED = "nothing was changed"


class OpenDirectory:
    """The directory, while this command alone edits it. ``shown`` is its name in messages."""

    def __init__(self, fd: int, shown: str, where: str) -> None:
        self._fd = fd
        self._shown = shown
        self._where = where

    def read(self, name: str) -> tuple[str, os.stat_result] | None:
        """A file and its status; None where there is none. Raises ConfigError."""
        shown = os.path.join(self._shown, name)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with open(os.open(name, flags, dir_fd=self._fd), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise ConfigError(f"{shown}: is no regular file; {_NOTHING_CHANGED}")
                data = file.read(_MOST + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ConfigError(
                    f"{shown}: is a symbolic link, which is not followed: edit its target by hand, "
                    "or put the file itself here"
                ) from None
            raise ConfigError(f"{shown}: cannot be read: {error.strerror}") from None
        if len(data) > _MOST:
            raise ConfigError(f"{shown}: is larger than 1 MiB: edit it by hand")
        try:
            return data.decode("utf-8-sig"), status
        except UnicodeDecodeError:
            raise ConfigError(f"{shown}: not UTF-8; save the file in that encoding") from None

    def write(
        self, name: str, text: str, old: os.stat_result | None, like: os.stat_result | None
    ) -> None:
        """Replace a file, or make it. ``old``: its status when it was read.

        It gets the mode and the group of ``like``, the main file. Raises ConfigError.
        """
        self._refuse_others_file(name, old)
        draft = _OURS + secrets.token_hex(8)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(draft, flags, 0o600, dir_fd=self._fd), "wb") as file:
                file.write(text.encode())
                file.flush()
                self._make_like(file.fileno(), old, like)
                os.fsync(file.fileno())
            self._refuse_change(name, old)
            os.rename(draft, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            os.fsync(self._fd)
        except OSError as error:
            raise self._cannot_write(error) from None
        finally:
            with contextlib.suppress(OSError):  # as a rule it has its new name already
                os.unlink(draft, dir_fd=self._fd)

    def remove(self, name: str, old: os.stat_result) -> None:
        """Remove a file. Raises ConfigError."""
        self._refuse_others_file(name, old)
        self._refuse_change(name, old)
        try:
            os.unlink(name, dir_fd=self._fd)
            os.fsync(self._fd)
        except OSError as error:
            raise self._cannot_write(error) from None

    def remove_drafts(self) -> None:
        """Remove what commands left that were killed."""
        with contextlib.suppress(OSError):  # they do no harm
            for name in os.listdir(self._fd):
                if name.startswith(_OURS):
                    os.unlink(name, dir_fd=self._fd)

    def _make_like(self, fd: int, old: os.stat_result | None, like: os.stat_result | None) -> None:
        if like is None:
            like = old
        if like is None:
            return
        status = os.fstat(fd)
        uid = old.st_uid if old is not None and old.st_uid != status.st_uid else -1
        gid = like.st_gid if like.st_gid != status.st_gid else -1
        try:
            os.fchown(fd, uid, gid)
        except PermissionError:
            raise ConfigError(
                f"{self._shown}: a file in it has to have the group {_group(like.st_gid)}, as the "
                f"main file has, and only root or a member may give it that; {_NOTHING_CHANGED}"
            ) from None
        os.fchmod(fd, like.st_mode & _RIGHTS)

    def _refuse_others_file(self, name: str, old: os.stat_result | None) -> None:
        """A file that is replaced would become ours; only root can give it back."""
        if old is not None and os.geteuid() not in (0, old.st_uid):
            shown = os.path.join(self._shown, name)
            owner = _user(old.st_uid)
            who = owner if old.st_uid == 0 else f"{owner}, or as root"
            raise ConfigError(f"{shown}: belongs to {owner}: run this as {who}; {_NOTHING_CHANGED}")

    def _refuse_change(self, name: str, old: os.stat_result | None) -> None:
        """Editors know nothing of our lock: what they saved meanwhile must not be lost."""
        try:
            now = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            now = None
        if _identity(old) != _identity(now):
            raise ConfigError(
                f"{os.path.join(self._shown, name)}: was changed meanwhile, by somebody else; "
                f"{_NOTHING_CHANGED}: try again"
            )

    def _cannot_write(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self._where}: {self._shown} cannot be written: {error.strerror}; {_NOTHING_CHANGED}"
        )


@contextlib.contextmanager
def editing(directory: UserDirectory) -> Iterator[OpenDirectory]:
    """The directory, which no other command edits within this block. Raises ConfigError."""
    shown = os.path.relpath(directory.path) if _is_beneath_here(directory.path) else directory.path
    with contextlib.ExitStack() as stack:
        try:
            _refuse_server_s_own(directory)
            stack.enter_context(acting_for(directory.path, None))
            fd = os.open(directory.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except UnsafePath as error:
            raise ConfigError(f"{directory.where}: {error}") from None
        except FileNotFoundError:
            raise ConfigError(
                f"{directory.where}: there is no directory {shown}; "
                f"`mkdir -m 750 {shlex.quote(shown)}` makes it, and it needs the group of the main "
                "file"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{directory.where}: {shown} cannot be opened: {error.strerror}"
            ) from None
        stack.callback(os.close, fd)
        _lock(fd, shown)
        found = OpenDirectory(fd, shown, directory.where)
        found.remove_drafts()
        yield found


def _refuse_server_s_own(directory: UserDirectory) -> None:
    """The group of ``run_as`` may be able to replace the directory, too."""
    who = directory.identity
    if who is not None and os.geteuid() == 0:
        place = controllers(directory.path, who).get(who.uid)
        if place is not None:
            raise UnsafePath(
                f"{quoted(who.name)} (run_as) may write in {place}, and could have root write "
                f"elsewhere: `chown root {shlex.quote(place)} && chmod g-w {shlex.quote(place)}`"
            )


def _is_beneath_here(path: str) -> bool:
    return path.startswith(os.getcwd().rstrip("/") + "/")


def _lock(fd: int, shown: str) -> None:
    """Wait until no other command edits the directory. The lock ends with the descriptor."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"ftpcluster: waiting for another command that edits {shown}")
    else:
        return
    before = signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except TimeoutError:
        raise ConfigError(
            f"{shown}: another command holds it for {_PATIENCE:.0f} s now (`lsof +d` names it); "
            f"{_NOTHING_CHANGED}"
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise TimeoutError


def _identity(status: os.stat_result | None) -> tuple[int, ...] | None:
    if status is None:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
