"""Users' directories in a confined worker: a directory that it may not open ends the login."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from ftpcluster.safe_paths import is_led_by_others

Identity = tuple[int, int]
"""Device and inode."""
NOTHING: Identity = (0, 0)
"""Stands for a path that could not be opened when the process was confined."""


class AllowedRoots:
    """Landlock lets a directory be entered (O_PATH), and refuses all that is done there.

    The list names directories, not paths. A directory that was made, replaced or mounted over since
    is not in it. A new worker may open that directory.
    """

    def __init__(self, allowed: Mapping[str, Identity], on_outdated: Callable[[], object]) -> None:
        """``allowed``: the directories at the allowed paths when the process was confined.
        ``on_outdated`` is called where another directory is there now, which a new worker may open.
        """
        self._allowed = allowed
        self._on_outdated = on_outdated

    def check(self, path: str) -> None:
        """Raises PermissionError where this process may not read the directory."""
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except PermissionError as error:
            # access(2) checks the permissions of the directory, but not Landlock
            if not os.access(path, os.R_OK | os.X_OK, effective_ids=True):
                raise
            raise PermissionError(error.errno, self._explain(path)) from None

    def _explain(self, path: str) -> str:
        if os.path.realpath(path) != path and is_led_by_others(path):
            return f"a link leads from {path} to {os.path.realpath(path)}, and others control it"
        if not any(path == each or path.startswith(each + "/") for each in self._allowed):
            # custom code has named it; a new worker could not open it either
            return f"confined workers may not open {path}: name it in [confine_allow]"
        status = os.stat(path)
        before = self._allowed.get(path)
        if before == (status.st_dev, status.st_ino):
            return f"confined workers may not open {path}"
        self._on_outdated()
        if before == NOTHING:
            why = f"{path} was not there, or did not answer, when this worker started"
        else:
            why = f"{path} is not what it was when the workers started: it was replaced or mounted"
        return f"{why}, and others that may open it take their places"
