"""Reports what is looked at while a configuration is loaded: storage may never answer."""

from __future__ import annotations

from collections.abc import Callable

_tell: Callable[[str], None] | None = None


def tell_progress(to: Callable[[str], None]) -> None:
    """Call ``to``, from now on, before each file, directory or name is looked at."""
    global _tell
    _tell = to


def looking_at(what: str) -> None:
    """``what`` is going to be looked at: a file, a directory, a name."""
    if _tell is not None:
        _tell(what)
