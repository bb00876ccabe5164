"""What a session does, for whoever watches."""

from __future__ import annotations

from typing import NamedTuple

from ftpcluster.session.transfer_waits import Cause


class Activity(NamedTuple):
    """What a session does at this moment. Times in seconds, sizes in bytes, speeds a second.

    ``direction`` is empty where no data is moved; then ``size`` and what follows say nothing.
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
