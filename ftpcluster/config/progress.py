"""What is being looked at while a configuration is loaded: it may be what never answers."""

from __future__ import annotations

from collections.abc import Callable

_tell: Callable[[str], None] | None = None


def tell_progress(to: Callable[[str], None]) -> None:
    """Tell a function, from now on, what is looked at next."""
    global _tell
    _tell = to


def looking_at(what: str) -> None:
    """``what`` is going to be looked at: a file, a directory, a name."""
    if _tell is not None:
        _tell(what)
