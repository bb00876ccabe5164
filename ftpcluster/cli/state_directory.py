"""The directory that a service manager gives the server for what outlives it."""

from __future__ import annotations

import contextlib
import logging
import os

from ftpcluster.config import Config
from ftpcluster.privileges import Identity
from ftpcluster.safe_paths import UnsafePath, acting_for
from ftpcluster.supervisor.ban_file import files_of

log = logging.getLogger(__name__)


def _directories() -> list[str]:
    """As systemd.exec(5) has them: there may be several, with colons between them."""
    return [each for each in os.environ.get("STATE_DIRECTORY", "").split(":") if each]


def is_state_directory(directory: str) -> bool:
    return any(os.path.normpath(each) == os.path.normpath(directory) for each in _directories())


def ban_file(config: Config) -> str | None:
    """The file that keeps the bans; None where there is none."""
    if config.ban.file is not None:
        return config.ban.file
    directories = _directories()
    return os.path.join(directories[0], "bans") if directories else None


def give_to(path: str, identity: Identity) -> None:
    """Give the state directory, and the file in it, to the user who will write there.

    Root does it, before it is given up: systemd makes the directory for the user of the unit, which
    is root then. No other directory is given away: it may be anybody's.
    """
    directory = os.path.dirname(path)
    if os.geteuid() != 0 or not is_state_directory(directory):
        return
    try:
        with acting_for(path, None):  # until the directory is given away nobody can put links there
            for place in (*files_of(path), directory):
                with contextlib.suppress(FileNotFoundError):
                    os.chown(place, identity.uid, identity.gid, follow_symlinks=False)
    except UnsafePath:
        pass  # it is that user's already; if it is another's, the log will say so
    except OSError as error:
        log.warning("%s cannot be given to %s: %s", directory, identity.name, error.strerror)
