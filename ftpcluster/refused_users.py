"""Users who may not log in now. The client learns no more than of an unknown name."""

from __future__ import annotations

import datetime

from ftpcluster.users import User


class UnusableUser(User):
    """A user whose account is wrong: there is no login, whatever the password. ``why`` says what is
    wrong, for the log."""

    def __init__(self, login: str, why: str) -> None:
        super().__init__(login, "", enabled=False)
        self.why = why


def why_refused(user: User, address: str, today: datetime.date) -> str | None:
    """Why a user may not log in from an address on a day; None: the user may."""
    if isinstance(user, UnusableUser):
        return user.why
    if not user.enabled:
        return "the account is disabled"
    if user.expires is not None and today > user.expires:
        return f"the account has expired on {user.expires}"
    if user.allow is not None and address not in user.allow:
        return "the account does not allow this address"
    return None
