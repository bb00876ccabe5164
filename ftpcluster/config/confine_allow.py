"""The table of the files that custom code in workers may open."""

from __future__ import annotations

from typing import Annotated

from ftpcluster.config.kinds import Place
from ftpcluster.config.setting import Setting, Table


class ConfineAllow(Table, frozen=True, kw_only=True):
    """What `server` and `user_manager` may open beside the accounts' directories (`confine`)."""

    read: Annotated[
        tuple[Place, ...],
        Setting(
            "directories and files that custom code may read",
            ", with all that lies in them",
            otherwise="none",
            example='["/etc/myftp"]',
            flag="--confine-allow-read PATH...",
        ),
    ] = ()
    write: Annotated[
        tuple[Place, ...],
        Setting(
            "directories and files that custom code may read and write",
            ": the roots of its own users, too, and the directory of a database's file",
            otherwise="none",
            example='["/var/lib/myftp", "/srv/ftp"]',
            flag="--confine-allow-write PATH...",
        ),
    ] = ()
