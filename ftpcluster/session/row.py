"""A row of the command table: a verb, what obeys it, and what must hold before it is obeyed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ftpcluster.protocol.reply import Reply

Handler = Callable[[Any, str], Reply | Awaitable[Reply]]
"""It gets the Session and the argument. Where nothing has to wait it returns its Reply, else an
awaitable of it. The Reply also says what happens after it is sent."""
Source = Callable[[Any], str | None]
"""It gets the Session, and returns the path that an earlier command named for this one, if any."""
Gate = Callable[[Any], str | None]
"""It gets the Session, and says what is missing, if anything is."""


class Argument(Enum):
    """Whether a verb takes an argument; a missing or superfluous one is 501.

    Blanks around one that is made of words are not part of it. In a path or password they are.
    """

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"
    WORDS = "optional words"
    NEEDS_WORDS = "required words"


class During(Enum):
    """What happens to a verb that comes while a transfer runs."""

    WAITS = "waits"  # it is obeyed when the transfer has ended
    ANSWERED = "answered"  # at once
    ANSWERED_BARE = "answered where it has no argument"
    ABORTS = "aborts"  # the transfer ends with 426; then the verb itself is obeyed


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table."""

    verb: str
    handler: Handler
    argument: Argument
    login: bool = True  # is a login needed?
    during: During = During.WAITS
    sequence: Gate | None = None  # says what is missing before this verb (503)
    # ABOR ends a command that has one of the next three
    transfers: bool = False  # it moves data over the data connection
    digests: bool = False  # it reads a whole file
    abortable: bool = False  # it may take long for another reason
    needs_task: bool = False  # its code may ask for the task that it runs in
    logged: bool = False  # at INFO; all others at DEBUG
    names_path: bool = False  # its whole argument is one path; logs show that path from "/" on
    source: Source | None = None  # the path that an earlier command named; logs show it, too
    feature: str = ""  # the line of FEAT
    tls_feature: str = ""  # its lines where there is TLS
    help: str = ""

    @property
    def is_long(self) -> bool:
        """Whether ABOR ends it, and some verbs are answered while it runs."""
        return self.transfers or self.digests or self.abortable
