"""A user's rights at a virtual path: by ``permissions``, or by an overridden ``get_permissions``.
An overridden one is called for every path, since its answers cannot be known beforehand.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Protocol

from ftpcluster.answers import Answer, settled
from ftpcluster.protocol import path as virtual
from ftpcluster.users import Permission, User, nearest_permission, overrides


class Rights(Protocol):
    """A user's permissions."""

    needs_task: bool
    """Whether the code that answers may ask for the task that it runs in."""

    @property
    def everywhere(self) -> Permission | None:
        """The permission that decides for every path, if there is only one, for "/"."""

    def at(self, path: str) -> Answer[Permission]:
        """The permission at a virtual path."""

    def is_divided(self, path: str) -> bool | None:
        """Whether something beneath a virtual path has a permission of its own; None: unknown."""

    def unwritable_above(self, path: str) -> Answer[str | None]:
        """The nearest directory above a virtual path that the user may not write, if any."""


class DeclaredRights:
    """The rights of a user's ``permissions``, which may be replaced at any time.

    A permission may override ``is_parent``. Then its path alone does not say what it covers.
    """

    needs_task = False

    def __init__(self, user: User) -> None:
        self._user = user

    @property
    def everywhere(self) -> Permission | None:
        permissions = self._user.permissions
        return permissions[0] if len(permissions) == 1 and permissions[0].covers_all else None

    def at(self, path: str) -> Permission:
        permissions = self._user.permissions
        if len(permissions) == 1 and (only := permissions[0]).covers_all:
            return only
        return nearest_permission(permissions, path)

    def is_divided(self, path: str) -> bool | None:
        if _go_by_more_than_paths(self._user):
            return None
        return any(
            str(each.path) != path and virtual.is_beneath(str(each.path), path)
            for each in self._user.permissions
        )

    def unwritable_above(self, path: str) -> Answer[str | None]:
        if _go_by_more_than_paths(self._user):
            return _unwritable_above(self, path)
        # each permission decides up to its own path, so each is asked once
        directory = virtual.parent(path)
        while (permission := self.at(directory)).writable:
            if permission.covers_all:
                return None
            directory = virtual.parent(str(permission.path))
        return directory


class AskedRights:
    """The rights of a user with a ``get_permissions`` of its own."""

    needs_task = True
    everywhere = None

    def __init__(self, user: User) -> None:
        self._user = user

    async def at(self, path: str) -> Permission:
        return await self._user.get_permissions(PurePosixPath(path))

    def is_divided(self, _: str) -> None:
        return None

    async def unwritable_above(self, path: str) -> str | None:
        return await _unwritable_above(self, path)


def _go_by_more_than_paths(user: User) -> bool:
    return any(overrides(each, Permission, "is_parent") for each in user.permissions)


async def _unwritable_above(rights: Rights, path: str) -> str | None:
    """``unwritable_above``, by asking for each directory."""
    directory = path
    while directory != "/":
        directory = virtual.parent(directory)
        if not (await settled(rights.at(directory))).writable:
            return directory
    return None


def rights_of(user: User) -> Rights:
    """The rights of this user."""
    return AskedRights(user) if overrides(user, User, "get_permissions") else DeclaredRights(user)
