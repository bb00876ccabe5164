"""The order of listings. Entries have to be held to be sorted, so there are bounds.

An entry takes 800 bytes as objects of Python. A listing that is larger, or comes while others hold
too much, is sent as the directory is read, in no order.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from ftpcluster.protocol.list_options import ListOptions, sort_entries
from ftpcluster.session.command_run import give_way
from ftpcluster.session.services import Services
from ftpcluster.storage.base import Entry

Form = Callable[[list[Entry]], Awaitable[str]]
"""Makes lines of entries."""
MOST = 10_000
"""Entries of a listing that are sorted: 8 MB, and 3 ms for which other sessions wait."""
MOST_IN_ALL = 100_000
"""Entries that all listings of a process hold at the same time: 80 MB."""
_MANY = 256
"""Entries for which the other sessions wait: half a millisecond."""
_BATCH = 512


async def lines_in_order(
    services: Services,
    batches: AsyncGenerator[list[Entry], None],
    options: ListOptions,
    form: Form,
) -> AsyncGenerator[str, None]:
    """The lines that ``form`` makes of the entries, sorted where there are not too many.

    They wait for the client as text, a tenth of what the entries take.
    """
    for text in await _of_the_first(services, batches, options, form):
        if text:
            yield text
    async with contextlib.aclosing(lines_as_read(batches, form)) as rest:
        async for text in rest:
            yield text


async def lines_as_read(
    batches: AsyncGenerator[list[Entry], None], form: Form
) -> AsyncGenerator[str, None]:
    """The lines that ``form`` makes of the entries, as the directory is read."""
    async for batch in batches:
        if lines := await form(batch):
            yield lines
        await between_batches(batch)


async def _of_the_first(
    services: Services,
    batches: AsyncGenerator[list[Entry], None],
    options: ListOptions,
    form: Form,
) -> list[str]:
    """The lines of all entries, sorted; or of as many as were held when it became too much."""
    held: list[Entry] = []
    try:
        async for batch in batches:
            held += batch
            services.held_entries += len(batch)
            if len(held) > MOST or services.held_entries > MOST_IN_ALL:
                break
            await between_batches(batch)
        else:
            sort_entries(held, options)
        texts = []
        for start in range(0, len(held), _BATCH):
            batch = held[start : start + _BATCH]
            texts.append(await form(batch))
            await between_batches(batch)
        return texts
    finally:
        services.held_entries -= len(held)


async def between_batches(batch: list[Entry]) -> None:
    """Give the other sessions a turn: a client that reads fast enough never makes us wait."""
    if len(batch) >= _MANY:
        await give_way()
