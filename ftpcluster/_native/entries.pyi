from collections.abc import Callable, Iterable, Iterator, Sequence

from ftpcluster.protocol.listing import Status
from ftpcluster.storage.base import Entry

def entries_in(fd: int, most: int, seconds: float | None = None) -> Iterator[list[Entry]]: ...
def list_lines(
    entries: Sequence[tuple[str, Status, str | None]],
    now: float,
    owner: Callable[[int], str] = ...,
    group: Callable[[int], str] = ...,
) -> str: ...
def fact_lines(
    entries: Iterable[tuple[str, Status, object]],
    perm: Callable[[int], str],
    facts: tuple[str, ...] = ...,
) -> str: ...
def name_lines(entries: Iterable[tuple[str, object, object]], prefix: str = "") -> str: ...
