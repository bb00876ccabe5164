"""``~`` at the beginning of an argument: the user's home, as with vsftpd and ProFTPD."""

from __future__ import annotations

from ftpcluster.answers import settled
from ftpcluster.protocol.path import resolve
from ftpcluster.protocol.pattern import Names
from ftpcluster.session.login import Account


def begins_at_home(argument: str) -> bool:
    """Whether it is ``~`` or ``~/…``. ``~name`` is a name as any other."""
    return argument == "~" or argument.startswith("~/")


def in_home(account: Account, argument: str) -> str:
    """The virtual path of ``~`` or ``~/…``, where the current directory has no entry ``~``."""
    return resolve(str(account.user.home_path), argument[2:])


async def home_or_entry(account: Account, directory: str, argument: str, forbidden: Names) -> str:
    """The virtual path of ``~`` or ``~/…``. An entry ``~`` that the user can see comes first."""
    entry = resolve(directory, "~")
    if (await settled(account.rights.at(entry))).readable and not forbidden.are_in(entry):
        try:
            await settled(account.storage.now().lstat(entry))
        except OSError:
            pass  # it does not exist, or cannot be looked at
        else:
            return resolve(directory, argument)
    return in_home(account, argument)
