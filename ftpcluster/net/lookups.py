"""Host names are looked up in daemon threads: a resolver may hang, and would delay an exit."""

from __future__ import annotations

import asyncio
import functools
import socket

from ftpcluster.daemon_calls import call_in_daemon
from ftpcluster.expiry import time_limit

_PATIENCE = 10.0
"""Seconds. By then a resolver has tried its servers twice, as resolv.conf(5) has it."""

Addresses = tuple[str, ...]


class NameService:
    """The addresses of names. Two calls for the same name wait for the same lookup."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Future[Addresses]] = {}

    async def addresses_of(self, name: str) -> Addresses:
        """The IPv4 addresses of a host name, at least one. Raises OSError."""
        running = self._running.get(name)
        if running is None:
            running = self._running[name] = self._ask(name)
        try:
            async with time_limit(_PATIENCE):
                return await asyncio.shield(running)
        except TimeoutError as error:
            # at most one thread for each name: the next call waits for this lookup, too
            raise OSError(f"the name service has not answered for {_PATIENCE:g} s") from error

    def _ask(self, name: str) -> asyncio.Future[Addresses]:
        loop = asyncio.get_running_loop()
        answer = call_in_daemon(loop, "name service", functools.partial(_look_up, name))
        answer.add_done_callback(functools.partial(self._on_answer, name))
        return answer

    def _on_answer(self, name: str, answer: asyncio.Future[Addresses]) -> None:
        del self._running[name]
        if not answer.cancelled():
            answer.exception()  # else asyncio logs it where no caller waits any more


def _look_up(name: str) -> Addresses:
    try:
        told = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except UnicodeError as error:  # what cannot be a name at all
        raise OSError(str(error)) from error
    return tuple(dict.fromkeys(str(each[4][0]) for each in told))
