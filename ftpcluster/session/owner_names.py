"""Names of owners and groups for LIST, from a name service that may be slow.

A thread asks the service once for each number, and for all of them again after some minutes. A
listing waits for names for a second in all; then it shows numbers.
"""

from __future__ import annotations

import asyncio
import grp
import logging
import pwd
from collections import deque
from collections.abc import Callable, Iterable

from ftpcluster.expiry import Expiry
from ftpcluster.storage.threads import Threads

log = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that one listing waits for names, in all."""
_AGE = 300.0
"""Seconds after which names are asked for again."""
_MOST = 4096
"""Names that are remembered."""
_SILENCE = 60.0
"""Seconds between two warnings."""

Key = tuple[bool, int]
"""Whether the number is a group's, and the number."""
NameOf = Callable[[int], str]


def ask_owner(number: int) -> str:
    """Raises KeyError."""
    return pwd.getpwuid(number).pw_name


def ask_group(number: int) -> str:
    """Raises KeyError."""
    return grp.getgrgid(number).gr_name


class OwnerNames:
    """The names that the sessions of one process share.

    ``owner`` and ``group`` are replaced by new functions whenever an earlier result is out of date.
    So a caller may cache results for as long as the function is the same.
    """

    owner: NameOf
    group: NameOf

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ask: tuple[NameOf, NameOf] | None = None,
    ) -> None:
        """``ask``: in place of this machine's name service, for owners and for groups."""
        self._loop = loop
        self._ask = ask or (ask_owner, ask_group)
        self._threads = Threads(loop, "ftpcluster-names")
        self._texts: dict[Key, str] = {}
        self._queue: deque[Key] = deque()
        self._is_asking = False
        self._asked: set[Key] = set()
        self._waiting: dict[asyncio.Future[None], set[Key]] = {}
        self._due = loop.time() + _AGE
        self._warned: float | None = None
        self._missing: set[Key] = set()
        self._renew()

    def _renew(self) -> None:
        def owner(number: int) -> str:
            return self._text((False, number))

        def group(number: int) -> str:
            return self._text((True, number))

        self.owner, self.group = owner, group

    def _text(self, key: Key) -> str:
        text = self._texts.get(key)
        if text is None:
            self._missing.add(key)
            return str(key[1])
        return text

    def refresh(self) -> None:
        """A listing begins: have old names asked for again. They are shown meanwhile."""
        if self._loop.time() < self._due:
            return
        self._due = self._loop.time() + _AGE
        if len(self._texts) > _MOST:
            self._texts.clear()
            self._renew()
        self._enqueue(self._texts)

    def take_missing(self) -> set[Key]:
        """The keys shown as numbers since the last call: their names are not known yet."""
        missing, self._missing = self._missing, set()
        return missing

    def _enqueue(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if key not in self._asked and len(self._asked) < _MOST:
                self._asked.add(key)
                self._queue.append(key)
        self._go_on()

    def _go_on(self) -> None:
        if self._is_asking or not self._queue:
            return
        question = _Question(self, self._queue.popleft(), self._ask)
        try:
            self._threads.begin(question)
        except RuntimeError as error:  # the process may have no more threads
            log.error("the names of owners cannot be asked for: %s", error)
            self._asked.discard(question.key)
        else:
            self._is_asking = True

    def answered(self, key: Key, text: str | None) -> None:
        """``text`` is None where there is no such name, or nobody knows."""
        self._is_asking = False
        self._asked.discard(key)
        old = self._texts.get(key)
        # a confined process cannot read an /etc/passwd that was replaced: the old name holds
        new = text if text is not None else old or str(key[1])
        self._texts[key] = new
        if new != (old or str(key[1])):
            self._renew()
        for future, keys in tuple(self._waiting.items()):
            keys.discard(key)
            if not keys and not future.done():
                future.set_result(None)
        self._go_on()

    async def ask(self, keys: set[Key], seconds: float) -> None:
        """Ask for ``keys``, and wait until all are known, at most ``seconds``."""
        self._enqueue(keys)
        keys &= self._asked
        if not keys or seconds <= 0:
            return
        future = self._loop.create_future()
        self._waiting[future] = keys
        timer = Expiry.after(self._loop, seconds, self._on_time, future)
        try:
            await future
        finally:
            timer.cancel()
            del self._waiting[future]

    def _on_time(self, future: asyncio.Future[None]) -> None:
        if future.done():
            return
        future.set_result(None)
        now = self._loop.time()
        if self._warned is None or now - self._warned >= _SILENCE:
            self._warned = now
            log.warning(
                "the name service takes too long: a listing shows numbers in place of %d names",
                len(self._waiting[future]),
            )

    def close(self) -> None:
        self._queue.clear()
        self._threads.close()


class ListingNames:
    """The names for one listing, and how long it may still wait for them."""

    __slots__ = ("_left", "_names")

    def __init__(self, names: OwnerNames) -> None:
        """A listing begins."""
        self._names = names
        self._left = PATIENCE
        names.refresh()

    async def ask(self, missing: set[Key]) -> None:
        """Wait for these names, within the time that the listing has left."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._names.ask(missing, self._left)
        self._left -= loop.time() - began


class _Question:
    """One name, for a thread."""

    def __init__(self, names: OwnerNames, key: Key, ask: tuple[NameOf, NameOf]) -> None:
        self.key = key
        self._names = names
        self._ask = ask[key[0]]
        self._text: str | None = None

    def run(self) -> None:
        try:
            self._text = _one_word(self._ask(self.key[1]), self.key[1])
        except Exception as error:
            if not isinstance(error, KeyError):
                log.warning("the name service failed: %r", error)

    def ended(self) -> None:
        self._names.answered(self.key, self._text)

    def forsaken(self) -> None:
        pass


def _one_word(name: str, number: int) -> str:
    """A name that is one column of a listing; else its number: ``domain users`` would be two."""
    is_one = name.isprintable() and name.split() == [name]
    return name if is_one else str(number)
