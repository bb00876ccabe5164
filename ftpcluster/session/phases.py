"""How far a session has come, as its control connection sees it."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """How far a session has come. It goes on to a later state, never back.

    Each state also ends what the earlier ones ended, so the code only compares their order. Whether
    a command runs is no state: in each but the last, one may run or not. The server's stop is no
    state, either: it ends a session at once, or marks its running transfer as the last.
    """

    SERVING = 0  # the client may send more
    HUNG_UP = 1  # it sends no more, but may read: what it has sent is obeyed
    ENDING = 2  # the last reply was given, and has to be sent
    LOST = 3  # nothing can be sent any more; a transfer goes on as long as it makes progress
    ENDED = 4  # what still runs is cancelled, without a reply


# module constants: to look a member up in its class costs a call each time
SERVING, HUNG_UP, ENDING, LOST, ENDED = State
