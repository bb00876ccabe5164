"""Host names are looked up in threads for which nobody has to wait: a resolver may hang.

A loop's own threads would not do: the end of the program waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading

_PATIENCE = 10.0
"""Seconds. By then a resolver has tried its servers twice, as resolv.conf(5) has it."""

Addresses = tuple[str, ...]


class NameService:
    """The addresses of names. Whoever asks for one that is being looked up waits for the same."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Future[Addresses]] = {}

    async def addresses_of(self, name: str) -> Addresses:
        """The IPv4 addresses of a host name, at least one. Raises OSError."""
        running = self._running.get(name)
        if running is None:
            running = self._running[name] = self._ask(name)
        try:
            async with asyncio.timeout(_PATIENCE):
                return await asyncio.shield(running)
        except TimeoutError as error:
            # a thread for each name at most: the next one who asks waits for this one, too
            raise OSError(f"the name service has not answered for {_PATIENCE:g} s") from error

    def _ask(self, name: str) -> asyncio.Future[Addresses]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Addresses] = loop.create_future()
        answer.add_done_callback(functools.partial(self._on_answer, name))
        thread = threading.Thread(
            target=_look_up, args=(loop, answer, name), name="name service", daemon=True
        )
        thread.start()
        return answer

    def _on_answer(self, name: str, answer: asyncio.Future[Addresses]) -> None:
        del self._running[name]
        if not answer.cancelled():
            answer.exception()  # who waited for it has it; nobody may have


def _look_up(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Addresses], name: str) -> None:
    found: Addresses | OSError
    try:
        told = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
        found = tuple(dict.fromkeys(str(each[4][0]) for each in told))
    except OSError as error:
        found = error
    except UnicodeError as error:  # what cannot be a name at all
        found = OSError(str(error))
    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(_tell, answer, found)


def _tell(answer: asyncio.Future[Addresses], found: Addresses | OSError) -> None:
    if answer.done():
        return
    if isinstance(found, OSError):
        answer.set_exception(found)
    else:
        answer.set_result(found)
