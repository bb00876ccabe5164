"""The order of listings. Entries have to be held to be sorted, so there are bounds.

An entry takes 200 bytes: its name, its line, and numbers. A listing that is larger, or comes while
others hold too much, is sent as the directory is read, in no order.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence

from ftpcluster.answers import Answer, settled
from ftpcluster.protocol.list_options import HeldLines, ListOptions
from ftpcluster.session.command_run import give_way
from ftpcluster.session.services import Services
from ftpcluster.session.state import Session
from ftpcluster.storage.base import Entry

Form = Callable[[Session, str, Sequence[Entry]], Answer[str]]
"""Makes the lines of a directory's entries."""
Made = Callable[[list[Entry]], Answer[str]]
"""The same, of the directory that is listed."""
MOST = 10_000
"""Entries of a listing that are sorted: 2 MB, and 3 ms for which other sessions wait."""
MOST_IN_ALL = 100_000
"""Entries that all listings of a process hold at the same time: 20 MB."""
MANY = 256
"""Entries that are handled before other sessions get a turn: half a millisecond."""
_BATCH = 512


async def lines_in_order(
    services: Services,
    batches: AsyncGenerator[list[Entry], None],
    options: ListOptions,
    form: Made,
) -> AsyncGenerator[str, None]:
    """The lines that ``form`` makes of the entries, sorted where there are not too many.

    The lines are held as text while they wait for the client.
    """
    for text in await _of_the_first(services, batches, options, form):
        if text:
            yield text
    async with contextlib.aclosing(lines_as_read(batches, form)) as rest:
        async for text in rest:
            yield text


async def lines_as_read(
    batches: AsyncGenerator[list[Entry], None], form: Made
) -> AsyncGenerator[str, None]:
    """The lines that ``form`` makes of the entries, as the directory is read."""
    async for batch in batches:
        if lines := await settled(form(batch)):
            yield lines
        await between_batches(batch)


async def _of_the_first(
    services: Services,
    batches: AsyncGenerator[list[Entry], None],
    options: ListOptions,
    form: Made,
) -> list[str]:
    """The lines of all entries, sorted; or of as many as were held when it became too much."""
    held = HeldLines()
    try:
        async for batch in batches:
            # held as text: thousands of stat results would burden the garbage collector, too
            lines = (await settled(form(batch))).split("\r\n")[:-1]
            if len(lines) != len(batch):  # a program's own lines may have line ends in them
                lines = [(await settled(form([entry]))).removesuffix("\r\n") for entry in batch]
            held.add(batch, lines)
            services.held_entries += len(batch)
            if len(held.lines) > MOST or services.held_entries > MOST_IN_ALL:
                break
            await between_batches(batch)
        else:
            held.sort(options)
        pieces = range(0, len(held.lines), _BATCH)
        return ["\r\n".join([*held.lines[at : at + _BATCH], ""]) for at in pieces]
    finally:
        services.held_entries -= len(held.lines)


async def between_batches(batch: list[Entry]) -> None:
    """Give the other sessions a turn: sending to a client that reads fast never waits."""
    if len(batch) >= MANY:
        await give_way()
