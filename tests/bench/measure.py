"""One server, one workload, once."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import socket
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.figures import Outcome, Round, of_clients
from tests.bench.ftp import FAILURES, Client, Target
from tests.bench.keeper import keep
from tests.bench.makes import Make, Place
from tests.bench.processes import (
    Child,
    Lost,
    cpu_below,
    look_for_interrupts,
    memory_below,
    start,
)
from tests.bench.workloads import Operation, Site, Workload

_PATIENCE = 60.0
"""Seconds for what takes a moment."""
_GREETING = 20.0
_ENDING = 2.0
_SETTLED = 0.05
_SAMPLE = 0.5
"""Seconds between looks at the memory."""


class Failed(Exception):
    """The server does not start, or has ended."""


@dataclass(frozen=True)
class Conditions:
    """What is the same for all servers."""

    site: Site
    directory: Path
    authority: Path
    certificate: Path
    seconds: float


class Server:
    """A running server, as long as the block lasts."""

    def __init__(self, make: Make, conditions: Conditions, *, tls: bool) -> None:
        self.name = make.name
        self._directory = Path(tempfile.mkdtemp(dir=conditions.directory))
        place = Place(
            self._directory, conditions.site.root, _free_port(), conditions.certificate, tls
        )
        self._launch = make.prepare(place)
        authority = conditions.authority if tls else None
        login, password = self._launch.login, self._launch.password
        self.target = Target(place.port, login, password, authority)
        self._log = conditions.directory / f"{self._directory.name}.log"

    def __enter__(self) -> Self:
        environment = {**os.environ, **self._launch.environment}
        environment["RUNTIME_DIRECTORY"] = str(self._directory)  # where ours has its admin socket
        self._keeper = start(keep, self._launch.command, environment, self._log)
        try:
            began = self._keeper.hears(_PATIENCE)
            if isinstance(began, str):
                raise Failed(began)
            self._await_greeting()
            self.seconds_to_start = time.monotonic() - began
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._keeper.__exit__()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _await_greeting(self) -> None:
        deadline = time.monotonic() + _GREETING
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.target.port), 5) as sock:
                    if sock.recv(3) == b"220":
                        return
            except OSError:
                pass
            if (death := self.death()) is not None:
                raise Failed(f"does not start: {death}")
            if time.monotonic() > deadline:
                raise Failed(f"does not greet within {_GREETING:.0f} s{self._last_words()}")
            time.sleep(0.002)

    def death(self, patience: float = 0) -> str | None:
        """Whether it ends by itself within so many seconds: how, and what it said last."""
        if not self._keeper.connection.poll(patience):
            return None
        code = self._keeper.hears(_PATIENCE)
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return f"it ended, {how}{self._last_words()}"

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").split("\n")
        except OSError:
            return ""
        said = [line.strip() for line in lines if line.strip()]
        return f": {said[-1]}" if said else ""

    # ------------------------------------------------------------------ what it takes

    @property
    def cpu(self) -> float:
        """Seconds that its processes have spent."""
        return cpu_below(self._keeper.pid)

    def settled_cpu(self) -> float:
        """The same, when what clients have left behind is done with."""
        spent = self.cpu
        for _ in range(40):
            time.sleep(_SETTLED)
            before, spent = spent, self.cpu
            if spent - before <= _SETTLED / 4:
                break
        return spent

    @property
    def memory(self) -> float | None:
        """Megabytes; None where it may not be looked at."""
        try:
            return memory_below(self._keeper.pid)
        except PermissionError:
            return None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def measure(make: Make, workload: Workload, conditions: Conditions) -> Round:
    """Start the server, put the load on it, and end it. What goes wrong is in the errors."""
    try:
        with Server(make, conditions, tls=workload.tls) as server:
            if workload.operation is None:
                found = Round({"start_s": server.seconds_to_start, "cpu_ms": server.cpu * 1e3})
                _note_memory(found, server.memory)
            else:
                found = _load(server, workload, workload.operation, conditions)
            # who served a client that was cut off may be about to end
            if (death := server.death(_ENDING if found.errors else 0)) is not None:
                found.errors.insert(0, death)
    except (Failed, Lost) as error:
        found = Round(errors=[str(error)])
    wrong = {size for size in conditions.site.clear() if size != _uploaded(workload)}
    found.errors += [f"an upload has {size} bytes of {_uploaded(workload)}" for size in wrong]
    return found


def _uploaded(workload: Workload) -> int:
    return getattr(workload.operation, "size", 0)


def _note_memory(found: Round, memory: float | None) -> None:
    if memory is not None:
        found.values["pss_mb"] = memory


def _load(
    server: Server, workload: Workload, operation: Operation, conditions: Conditions
) -> Round:
    with contextlib.ExitStack() as stack:
        holders = _holders(stack, server.target, workload.held)
        crew = [
            stack.enter_context(
                start(_repeat, Client(server.target, number), operation, conditions.seconds)
            )
            for number in range(workload.clients)
        ]
        early = [child.hears(_PATIENCE) for child in crew]
        busy = [child for child, said in zip(crew, early, strict=True) if said is None]
        server.settled_cpu()
        empty = server.memory
        outcomes = [said for said in early if said is not None]
        outcomes += _log_in(holders, workload.held)
        before, peak = server.settled_cpu(), server.memory
        begin = time.monotonic() + 0.02
        for child in busy:
            child.connection.send(begin)
        for memory in _while_busy(server, busy, conditions.seconds):
            peak = max(peak or 0.0, memory or 0.0) or None
        outcomes += [child.hears(_PATIENCE) for child in busy]
        found = of_clients(outcomes, server.settled_cpu() - before)
        _note_memory(found, peak)
        if workload.held and peak is not None and empty is not None:
            found.values["pss_kb_per_session"] = (peak - empty) * 1e3 / workload.held
        return found


def _holders(stack: contextlib.ExitStack, target: Target, sessions: int) -> list[Child]:
    """Processes that will hold so many sessions.

    They are there before memory is looked at: what they share with a server in Python counts less.
    """
    count = min(len(os.sched_getaffinity(0)), sessions)
    return [
        stack.enter_context(start(_be_idle, target, range(number, sessions, count)))
        for number in range(count)
    ]


def _log_in(holders: Sequence[Child], sessions: int) -> list[Outcome]:
    """Have them begin their sessions; of those that could not, what came instead."""
    for holder in holders:
        holder.connection.send(None)
    said = [holder.hears(_PATIENCE + sessions / 20) for holder in holders]
    return [Outcome(error=error) for error in said if error is not None]


def _while_busy(server: Server, busy: Sequence[Child], seconds: float) -> Iterator[float | None]:
    """The server's memory, now and then, until all clients have said what they did."""
    left = [child.connection for child in busy]
    while left:
        for connection in wait(left, min(_SAMPLE, seconds / 2)):
            assert isinstance(connection, Connection)
            left.remove(connection)
        look_for_interrupts()
        if left:
            yield server.memory


# ---------------------------------------------------------------------- in processes of their own


def _repeat(bench: Connection, client: Client, operation: Operation, seconds: float) -> None:
    """A client: says None when it is ready, hears when to begin, and says its Outcome."""
    gc.disable()
    latencies = array("d")
    outcome = Outcome(latencies=latencies)
    try:
        operation.prepare(client)
        bench.send(None)
        now = begin = bench.recv()
        time.sleep(max(0.0, begin - time.monotonic()))
        try:
            while now < begin + seconds:
                before = now
                outcome.moved += operation.perform(client)
                now = time.monotonic()
                latencies.append(now - before)
        finally:
            outcome.seconds = now - begin
        operation.finish(client)
    except FAILURES as error:
        outcome.error = f"{client.last}: {error}"
    bench.send(outcome)


def _be_idle(bench: Connection, target: Target, numbers: range) -> None:
    """Clients that log in when they are told to; says None then, or what went wrong."""
    bench.recv()
    clients: list[Client] = []
    for number in numbers:
        client = Client(target, number)
        try:
            client.logs_in()
        except FAILURES as error:
            bench.send(f"session {len(clients) + 1} of {len(numbers)}: {client.last}: {error}")
            return
        clients.append(client)
    bench.send(None)
    bench.recv()  # until the process is ended
