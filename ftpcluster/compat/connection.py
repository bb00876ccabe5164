"""aioftp's ``Connection``: the state of a session, as values and as futures to await."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any


class _Futures:
    """``connection.future.foo`` is ``connection["foo"]``: the future itself."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> asyncio.Future[Any]:
        return self._connection[name]

    def __delattr__(self, name: str) -> None:
        del self._connection[name]


class Connection(defaultdict[str, "asyncio.Future[Any]"]):
    """State of a connection, as values and as futures that can be awaited.

    ``connection.foo`` is the value (AttributeError where there is none), ``connection["foo"]`` and
    ``connection.future.foo`` the future of it, which is made when it is first asked for. Each can
    be deleted by all three. Keyword arguments are values to begin with.
    """

    __slots__ = ("future",)
    future: _Futures

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(asyncio.Future)
        object.__setattr__(self, "future", _Futures(self))
        for name, value in kwargs.items():
            self[name].set_result(value)

    def __getattr__(self, name: str) -> Any:
        if name in self and self[name].done():
            return self[name].result()
        raise AttributeError(f"the connection has no {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if self[name].done():
            self[name] = asyncio.Future()
        self[name].set_result(value)

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"the connection has no {name!r}") from None
