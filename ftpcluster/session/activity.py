"""What a session does at this moment, as an administrator sees it."""

from __future__ import annotations

from typing import NamedTuple

from ftpcluster.session import journal
from ftpcluster.session.login import Account
from ftpcluster.session.running_command import RunningCommand
from ftpcluster.session.state import Session, shown
from ftpcluster.session.transfer_waits import Cause


class Activity(NamedTuple):
    """What a session does at this moment. Times in seconds, sizes in bytes, speeds a second.

    ``direction`` is empty while no data connection is open. Then the fields below it keep their
    defaults. (So a new field that a session always has stands above it.)
    """

    user: str
    is_protected: bool
    age: float
    idle: float
    command: str
    direction: str = ""
    size: int | None = None
    moved: int = 0
    speed: float = 0.0
    held_by: Cause | None = None


def activity(session: Session, run: RunningCommand | None, age: float, idle: float) -> Activity:
    """What a session does now; ``run`` is its running command, if one had to wait."""
    command = ""
    if run is not None and run.command is not None:
        command = journal.describe(session, run.command, run.argument)
    login = session.login
    # the account's name, which limits go by: the client may have logged in by an alias
    account = login.user.login if isinstance(login, Account) else None
    told = Activity(
        session.user_name if account is None else shown(account),
        not session.stream.is_plain,
        age,
        idle,
        command,
    )
    transfer = session.transfer
    if transfer is None:
        return told
    speed, cause = transfer.waits.look(session.progress)
    return told._replace(
        direction=transfer.direction,
        size=transfer.total,
        moved=session.progress,
        speed=speed,
        held_by=cause,
    )
