"""Users' directories in a confined worker: one that it may not open is refused at the login."""

from __future__ import annotations

import os

from ftpcluster.storage.local import LocalFiles, LocalStorage

_WHY = (
    "confined workers may not open {}: where custom code has named it, name it in [confine_allow]; "
    "where it was replaced, `ftpcluster reload`"
)


class ConfinedFiles(LocalFiles):
    """Landlock lets a directory be entered (O_PATH), and refuses all that is done there."""

    def open(self, base_path: str | os.PathLike[str]) -> LocalStorage:
        storage = super().open(base_path)
        path = os.fspath(base_path)
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except PermissionError as error:
            # access(2) asks for the permissions of the directory, and not Landlock
            if os.access(path, os.R_OK, effective_ids=True):
                raise PermissionError(error.errno, _WHY.format(path)) from None
        return storage
