"""What the core leaves to whoever embeds it: the hooks of one session.

``Services.hooks_for`` makes them. The other hooks are fields of Services: ``users`` (where accounts
come from) and ``find_command`` (which row obeys a verb). Code that may ask for the task in which it
runs says so: ``needs_task`` of a Command, a Storage, Rights or a user manager.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ftpcluster.session.rights import Rights
from ftpcluster.storage.base import Storage
from ftpcluster.users import User


class SessionHooks:
    """The hooks of one session. A subclass overrides those that it needs.

    Those that return None leave the matter to the core, as all do here.
    """

    __slots__ = ()

    def open_storage(self, user: User) -> Storage | None:
        """The files of a user who logs in. Without: those of this machine at ``base_path``.

        Raises OSError where they cannot be had.
        """
        return None

    def rights_of(self, user: User) -> Rights | None:
        """What a user who logs in may do. Without: what the user's permissions say."""
        return None

    def locate(self, argument: str) -> str | None:
        """The virtual path, in normal form, that a command's argument names.

        Without: from the current directory on.
        """
        return None

    def list_line(self, path: str) -> Coroutine[Any, Any, str] | None:
        """LIST's line for a virtual path, with no line ending. Without: what ``ls -l`` shows."""
        return None

    @property
    def has_tasks(self) -> bool:
        """Whether tasks run that the command has begun: ABOR may end them, and a hang-up does."""
        return False

    def on_data_taken(self) -> None:
        """A transfer has the data connection from now on, and closes it."""

    def on_data_dropped(self) -> None:
        """The data connection is closed, whether it had been made or not."""

    def on_logout(self) -> None:
        """The login has ended, or the claim to one."""


NO_HOOKS = SessionHooks()
"""The hooks of a session whose program sets none."""
