"""Measures speed: sessions transfer as fast as they may, and it is recorded what moved when.

Every few milliseconds all transfers are looked at: what has arrived on data connections of
downloads, and how long the files of uploads are. (What was sent says nothing: socket buffers take
more than the server does.) A look tells only between which two moments bytes moved. So results are
right even if this process was late. The kernel tells how late the server's processes were:
``Traffic.measure`` repeats a measurement that failed while they waited for a core.
"""

from __future__ import annotations

import hashlib
import itertools
import select
import socket
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.support.cluster import DEADLINE, Cluster
from tests.support.dialogue import Dialogue

_LOOK = 0.004
_BLOCK = 256 * 1024
_SEND_BUFFER = 64 * 1024
_WAITS = 0.04
"""Seconds over which a process's waits for a core are added up."""
_DISTURBED = 0.03
"""Seconds of waiting that disturb a measurement: the server grants speed in ticks of 50 ms."""
_ATTEMPTS = 5
_names = itertools.count(1)


class Flow:
    """A session that transfers once, or, with ``again``, one file after the other."""

    def __init__(self, client: Dialogue, *, again: bool) -> None:
        self.client = client
        self.again = again
        self.data: socket.socket | None = None
        self.digests: list[str] = []
        """SHA-256 of every transfer that ended with 226."""
        self.replies: list[tuple[float, int]] = []
        """The time and code of each reply; code 0 is the end of the control connection."""
        self._final: int | None = None

    @property
    def is_over(self) -> bool:
        return self._final is not None

    @property
    def ended_with(self) -> int | None:
        """The code of the last final reply, None as long as the transfer runs."""
        return self._final

    def begin(self) -> None:
        """Send the command of the next transfer. ``look`` reads the replies."""
        self._final = None
        self.data = self.client.passive()
        self.data.setblocking(False)
        self._prepare(self.data)

    def look(self) -> int:
        """Move data. Returns how many bytes moved since the last look."""
        moved = self._move()
        self._hear()
        if self.data is None and self._final == 226 and self.again:
            moved += self._end()
            self.begin()
        return moved

    def _prepare(self, data: socket.socket) -> None:
        raise NotImplementedError

    def _move(self) -> int:
        raise NotImplementedError

    def _end(self) -> int:
        """Called after a successful transfer. Returns bytes that no look has seen."""
        raise NotImplementedError

    def _hear(self) -> None:
        while self._final is None and select.select([self.client.sock], [], [], 0)[0]:
            try:
                code, _ = self.client.reply()
            except (EOFError, ConnectionError):
                code = 0
            self.replies.append((time.monotonic(), code))
            if not 100 <= code < 200:
                self._final = code

    def finish(self) -> None:
        """Record the digest of the last transfer."""
        if self._final == 226 and not self.again:
            self._end()

    def close(self) -> None:
        if self.data is not None:
            self.data.close()
            self.data = None
        self.client.sock.close()


class Download(Flow):
    def __init__(self, client: Dialogue, path: str, *, again: bool) -> None:
        super().__init__(client, again=again)
        self.path = path

    def _prepare(self, data: socket.socket) -> None:
        self._sha = hashlib.sha256()
        self.client.send(f"RETR {self.path}")

    def _move(self) -> int:
        moved = 0
        while self.data is not None:
            try:
                block = self.data.recv(_BLOCK)
            except BlockingIOError:
                break
            except ConnectionError:
                block = b""
            if not block:
                self.data.close()
                self.data = None
                break
            self._sha.update(block)
            moved += len(block)
        return moved

    def _end(self) -> int:
        self.digests.append(self._sha.hexdigest())
        return 0


class Upload(Flow):
    def __init__(self, client: Dialogue, root: Path, content: bytes, *, again: bool) -> None:
        """``root`` is the directory in which the files appear."""
        super().__init__(client, again=again)
        self._root = root
        self._content = memoryview(content)

    def _prepare(self, data: socket.socket) -> None:
        self._file = self._root / f"upload-{next(_names)}"
        self._sent = self._seen = 0
        data.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.client.send(f"STOR {self._file.name}")

    def _move(self) -> int:
        while self.data is not None:
            try:
                self._sent += self.data.send(self._content[self._sent : self._sent + _BLOCK])
            except BlockingIOError:
                break
            except ConnectionError:
                self._sent = len(self._content)
            if self._sent == len(self._content):
                self.data.close()
                self.data = None
        return self._grown()

    def _grown(self) -> int:
        try:
            size = self._file.stat().st_size
        except FileNotFoundError:
            return 0
        grown, self._seen = size - self._seen, size
        return grown

    def _end(self) -> int:
        grown = self._grown()
        self.digests.append(hashlib.sha256(self._file.read_bytes()).hexdigest())
        self._file.unlink()
        return grown


class Look(NamedTuple):
    """Bytes that moved between ``since`` and ``until``. ``late``: how long this process waited."""

    since: float
    until: float
    moved: dict[Flow, int]
    late: float

    def of(self, flows: Collection[Flow]) -> int:
        return sum(self.moved.get(flow, 0) for flow in flows)


class Span:
    """What was seen between two moments."""

    def __init__(self, looks: Sequence[Look], waits: float) -> None:
        self.looks = looks
        self.start, self.end = looks[0].since, looks[-1].until
        self._waits = waits

    @property
    def was_disturbed(self) -> bool:
        """Whether the machine had no time for the server, or for this process."""
        late = max(look.late for look in self.looks)
        return max(self._waits, late) > _DISTURBED

    def moved(self, flows: Collection[Flow]) -> int:
        return sum(look.of(flows) for look in self.looks)

    def rate(self, flows: Collection[Flow]) -> float:
        """Bytes a second."""
        return self.moved(flows) / (self.end - self.start)

    def fastest(self, flows: Collection[Flow], seconds: float) -> float:
        """The highest speed in any span of so many seconds: bytes that surely moved in it."""
        most = total = first = 0
        sizes = [look.of(flows) for look in self.looks]
        for look, size in zip(self.looks, sizes, strict=True):
            total += size
            while look.until - self.looks[first].since > seconds:
                total -= sizes[first]
                first += 1
            most = max(most, total)
        return most / seconds

    def slowest(self, flows: Collection[Flow], seconds: float) -> float:
        """The lowest speed in any span of so many seconds: bytes that may have moved in it."""
        assert self.end - self.start >= seconds
        least: int | None = None
        total = first = 0
        sizes = [look.of(flows) for look in self.looks]
        for look, size in zip(self.looks, sizes, strict=True):
            total += size
            # the shortest run of looks that covers so long
            while look.until - self.looks[first].until >= seconds:
                least = total if least is None else min(least, total)
                total -= sizes[first]
                first += 1
        return (total if least is None else least) / seconds

    def longest_pause(self, flow: Flow) -> float:
        """The longest time in which surely nothing moved, not counting before the first byte."""
        longest, last = 0.0, None
        for look in self.looks:
            if look.moved.get(flow):
                if last is not None:
                    longest = max(longest, look.since - last)
                last = look.until
        return longest if last is None else max(longest, self.looks[-1].since - last)

    def jain(self, *groups: Collection[Flow]) -> float:
        """Jain's index over the bytes of each group: 1 is equal, 1/n is all for one."""
        return jain([self.moved(group) for group in groups])


def jain(values: Sequence[float]) -> float:
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0


class Traffic:
    """Sessions on one cluster, and all looks at them."""

    def __init__(self, cluster: Cluster, root: Path) -> None:
        self._cluster = cluster
        self._root = root
        self.flows: list[Flow] = []
        self._looks: list[Look] = []
        self._began = time.monotonic()
        self._waits: list[tuple[float, float]] = []
        self._waited: dict[int, int] = {}
        self._asked = 0.0
        self._ask_waits()

    def __enter__(self) -> Traffic:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        for flow in self.flows:
            flow.close()

    # ------------------------------------------------------------------ sessions

    def downloads(
        self, path: str, count: int = 1, user: str = "user", *, again: bool = True
    ) -> list[Flow]:
        """Sessions that will download."""
        return self._add([Download(self._client(user), path, again=again) for _ in range(count)])

    def uploads(
        self, content: bytes, count: int = 1, user: str = "user", *, again: bool = True
    ) -> list[Flow]:
        """Sessions that will upload, into the directory that is served."""
        return self._add(
            [Upload(self._client(user), self._root, content, again=again) for _ in range(count)]
        )

    def _client(self, user: str) -> Dialogue:
        client = Dialogue(self._cluster.port)
        try:
            client.logs_in(user)
        except BaseException:
            client.sock.close()
            raise
        return client

    def _add(self, flows: list[Flow]) -> list[Flow]:
        self.flows += flows
        return flows

    def begin(self, flows: Sequence[Flow] | None = None) -> None:
        """Have all of them, or ``flows``, begin their transfers at once."""
        for flow in self.flows if flows is None else flows:
            flow.begin()

    def workers_of(self, flows: Sequence[Flow]) -> list[int]:
        """The worker of each."""
        return [self._cluster.worker_of(flow.client.sock) for flow in flows]

    # ------------------------------------------------------------------ looks

    def run(self, seconds: float) -> Span:
        """Transfer for so long. Returns what was seen of that."""
        start = time.monotonic()
        self.run_until(lambda: time.monotonic() - start >= seconds)
        return self.span(start, time.monotonic())

    def run_until(self, done: Callable[[], bool]) -> None:
        """Transfer until ``done`` returns true."""
        last = begin = time.monotonic()
        end = begin + DEADLINE
        while not done():
            assert begin < end, "the transfers did not come to that"
            begin = time.monotonic()
            moved = {flow: size for flow in self.flows if (size := flow.look())}
            now = time.monotonic()
            self._looks.append(Look(self._began, now, moved, now - last))
            self._began = last = begin
            if now - self._asked > _WAITS:
                self._ask_waits()
            time.sleep(_LOOK)

    def run_to_the_end(self) -> None:
        """Transfer until everything has arrived: for flows that don't begin again."""
        self.run_until(lambda: all(flow.is_over and flow.data is None for flow in self.flows))
        for flow in self.flows:
            flow.finish()

    def span(self, start: float, end: float) -> Span:
        """What was seen from ``start`` to ``end``, two times of ``time.monotonic``."""
        looks = [look for look in self._looks if look.since >= start and look.until <= end]
        if not looks:  # this process stood still: take the look that spans it
            looks = [look for look in self._looks if look.until > start and look.since < end]
        waits = [wait for when, wait in self._waits if start <= when <= end + _WAITS]
        return Span(looks, max(waits, default=0.0))

    @property
    def whole(self) -> Span:
        """All that was seen."""
        return self.span(self._looks[0].since, time.monotonic())

    def measure(self, seconds: float, check: Callable[[Span], None]) -> Span:
        """Transfer for so long and check what was seen.

        Where that fails while the machine had no time for the server, it is tried again.
        """
        for attempt in range(_ATTEMPTS):
            span = self.run(seconds)
            try:
                check(span)
            except AssertionError:
                if attempt + 1 == _ATTEMPTS or not span.was_disturbed:
                    raise
            else:
                break
        return span

    def _ask_waits(self) -> None:
        """Record how long the server's processes have waited for a core since the last call."""
        now = self._asked = time.monotonic()
        longest = 0.0
        for pid in (self._cluster.pid, *self._cluster.workers()):
            try:
                waited = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
            except (OSError, IndexError):
                continue  # it is gone, or this kernel does not count
            longest = max(longest, (waited - self._waited.get(pid, waited)) / 1e9)
            self._waited[pid] = waited
        self._waits.append((now, longest))


def fairly(cluster: Cluster, root: Path, scene: Callable[[Traffic], None]) -> None:
    """Run a scene. It is repeated if it fails while the machine had no time for the server."""
    for attempt in range(_ATTEMPTS):
        with Traffic(cluster, root) as traffic:
            try:
                scene(traffic)
            except AssertionError:
                if attempt + 1 == _ATTEMPTS or not traffic.whole.was_disturbed:
                    raise
            else:
                return
