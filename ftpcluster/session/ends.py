"""An error in a callback of the loop ends its session: no caller would handle it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar


class Failing(Protocol):
    """A session, or what is like one."""

    def fail(self, error: Exception) -> None:
        """End it for an unexpected error."""


S = TypeVar("S", bound=Failing)
P = ParamSpec("P")


def ending_session(
    callback: Callable[Concatenate[S, P], None],
) -> Callable[Concatenate[S, P], None]:
    """A callback whose error ends its session, and nothing else."""

    @functools.wraps(callback)
    def guarded(session: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(session, *args, **kwargs)
        except Exception as error:
            session.fail(error)

    return guarded
