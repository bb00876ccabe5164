"""Tries faults: runs a server and its tracer, and checks what must hold after each fault.

A fault is one system call of a script that fails once, with one error. After it:

- each command has had just one final reply; the control connection may end only if it was hit;
- the worker lives, and no traceback is in the log;
- no connection, slot or lease counts any more, no descriptor, thread or temporary file is left;
- each transfer that got 226 is whole, which the scripts check;
- the next session is served.
"""

from __future__ import annotations

import collections
import dataclasses
import errno
import itertools
import os
import re
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from ftpcluster.admin.client import AdminConnection
from ftpcluster.admin.requests import Overview, WhoRequest
from tests.faults import calls
from tests.faults.client import Client, Ended, Wrong
from tests.faults.scripts import SCRIPTS, SMALL, Place
from tests.support.cluster import Cluster, until
from tests.support.ptracer import CHANNEL, EPOLL_CTL, NO_FD, SHORT, SIGNALS
from tests.support.tracer import Call, Tracer, is_alive

_LOOP, _POLLER = "loop", "poller"
_SORTS = ("socket", CHANNEL, SIGNALS, "pipe", "anon_inode:[eventf", "anon_inode", "/")
_SETTLED = 20.0
_CALM = 0.5
_STOPPED = 20.0
_LEAKS = "leaks "
_FOUND_SLOW = "kept this process waiting"
_ENDS = 4
"""How many of the first and the last of equal calls fail with every error."""
_OFTEN = 60
"""Faults between two checks for leases that are left: such a check takes some time."""
_QUIET, _TICKS = 0.25, 4
"""Seconds, and wakeups: a process with a lease wakes more often, to report it each 0.05 s."""
_PORTS = 34
"""Transfers after which a worker keeps as many listeners as it ever will."""
_CONFIG = """
[limits]
download = "100GB"
upload = "100GB"
connections = 2
connections_per_address = 2
[timeouts]
data = "3s"
stalled = "3s"
drain = "1s"
shutdown = "1s"
[storage]
atomic_uploads = {atomic}
durable_uploads = {atomic}
[tls]
certificate = "{certificate}"
[[user]]
login = "user"
password = "plain:12345"
root = "{root}"
connections = 1
"""
# one slot for the user, two for the address: a slot that is not freed shuts the next session out


class Fault(NamedTuple):
    """The nth call of that name on that sort of descriptor fails, or is cut short."""

    name: str
    sort: str
    nth: int
    error: str
    """The name of an errno; or the number of bytes that the call moves."""

    def __str__(self) -> str:
        return f"{self.name}({self.sort}) {self.nth}: {self.error}"


@dataclasses.dataclass
class Outcome:
    """What came of faults."""

    injected: int = 0
    missed: int = 0
    """The script did not make the call this time."""
    wrong: list[tuple[Fault, str]] = dataclasses.field(default_factory=list)
    is_told: bool = False
    """Whether wrong results are printed at once."""

    def on_wrong(self, fault: Fault, why: str) -> None:
        self.wrong.append((fault, why))
        if self.is_told:
            print(fault, "→", why, flush=True)


def sample(faults: Iterable[Fault], count: int, most_nth: int = 1 << 30) -> list[Fault]:
    """Choose ``count`` errors for each call, and others for each further call of that name."""
    of_call: dict[tuple[str, str, int], list[Fault]] = {}
    for fault in faults:
        if fault.nth <= most_nth:
            of_call.setdefault(fault[:3], []).append(fault)
    chosen = []
    for (_, _, nth), same in of_call.items():
        for index in range(min(count, len(same))):
            chosen.append(same[((nth - 1) * count + index) % len(same)])
    return chosen


def _thinned(same: list[list[Fault]]) -> Iterator[Fault]:
    """The faults of a call that is made again and again, on one connection or file.

    All errors of its first and last times, and each error twice in between: a protected download
    of 3 MB writes two hundred times, from the same line.
    """
    inner = same[_ENDS:-_ENDS]
    for faults in (*same[:_ENDS], *same[max(_ENDS, len(same) - _ENDS) :]):
        yield from faults
    if not inner:
        return
    wanted = 2 * len(inner[0])
    if len(inner) * len(inner[0]) <= 2 * wanted:
        yield from itertools.chain.from_iterable(inner)
        return
    for step in range(wanted):
        faults = inner[step * len(inner) // wanted]
        yield faults[step % len(faults)]


class Bench:
    """A cluster of one worker, with the worker or the supervisor under the tracer."""

    def __init__(
        self,
        directory: Path,
        certificate: Path,
        context: ssl.SSLContext,
        *,
        is_atomic: bool = False,
        process: str = "worker",
        flags: tuple[str, ...] = (),
    ) -> None:
        self._directory = directory
        self._root = directory / "root"
        self._root.mkdir(exist_ok=True)
        self._process = process
        self._flags = flags
        text = _CONFIG.format(
            atomic=str(is_atomic).lower(), root=self._root, certificate=certificate
        )
        self._config = directory / "ftpcluster.toml"
        self._config.touch(mode=0o600)
        self._config.write_text(text)
        self._context = context
        self._is_atomic = is_atomic
        self.restarts = 0

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._tracer.close()
        self._cluster._kill_all()

    def _start(self) -> None:
        flags = ("-c", str(self._config), "--workers", "1", *self._flags)
        self._cluster = Cluster(*flags, program=("tests.support.impatient", "run"))
        self._cluster.__enter__()
        self.place = Place(
            self._cluster.port, self._root, self._context, self._is_atomic, self._cluster.hang_up
        )
        self._attach()
        self._seen = len(self._cluster.log)
        self._before = self._held()

    def _attach(self) -> None:
        (self._worker,) = self._cluster.workers()
        pid = self._cluster.pid if self._process == "supervisor" else self._worker
        self._tracer = Tracer(pid)
        self._poller = _poller_of(pid)

    def _restart(self) -> None:
        self.restarts += 1
        self._tracer.close()
        self._cluster._kill_all()
        self._start()

    # ------------------------------------------------------------------ what a script calls

    def record(self, script: str) -> list[Call]:
        """The calls of a script that goes well."""
        self._warm_up(script)
        self.place.furnish()
        self._tracer.record()
        SCRIPTS[script](self.place)
        self._calm_down()
        return self._tracer.recorded()

    def _calm_down(self) -> None:
        """Wait until the server has ended its part of a session, ``_CALM`` seconds at most."""
        if self._process == "supervisor":  # after a reload there is another worker
            found = until(lambda: len(found := self._cluster.workers()) == 1 and found)
            (self._worker,) = found
        end = time.monotonic() + _CALM
        while self._held() - self._before and time.monotonic() < end:
            time.sleep(0.005)

    def faults(self, script: str) -> Iterator[Fault]:
        """All faults of a script. Raises AssertionError for a call that is in no table."""
        return self.faults_of(self.record(script))

    def faults_of(self, recorded: Iterable[Call]) -> Iterator[Fault]:
        counts: collections.Counter[tuple[str, str]] = collections.Counter()
        repeated: dict[tuple[str, str], list[list[Fault]]] = {}
        for call in recorded:
            name = calls.NAMES.get(call.number, str(call.number))
            sort = self._sort_of(call)
            if (name, sort) in calls.LEFT_ALONE or (name, "") in calls.LEFT_ALONE:
                continue
            errors = self._errors(name, sort)
            assert errors is not None, f"{name} of {call.what!r} is called: see calls.py"
            counts[name, sort] += 1
            if name in calls.CUT and sort != CHANNEL and call.result > 1:
                errors = (*errors, "1", str(call.result // 2))
            faults = [Fault(name, sort, counts[name, sort], error) for error in errors]
            # a socket and a pipe have numbers of their own: so each connection counts for itself
            repeated.setdefault((name, call.what), []).append(faults)
        for same in repeated.values():
            yield from _thinned(same)

    def _errors(self, name: str, sort: str) -> tuple[str, ...] | None:
        for key in ((name, sort), (name, "socket" if sort == CHANNEL else sort), (name, "")):
            if key in calls.ERRORS:
                return calls.ERRORS[key]
        return None

    def _sort_of(self, call: Call) -> str:
        if call.number == EPOLL_CTL:
            return _POLLER if call.fd == self._poller else _LOOP
        return next((sort for sort in _SORTS if call.what.startswith(sort)), NO_FD)

    # ------------------------------------------------------------------ one fault

    def try_faults(self, script: str, faults: Iterable[Fault], outcome: Outcome) -> None:
        """Try faults one after the other. Now and then check that no lease is left."""
        faults = list(faults)
        for first in range(0, len(faults), _OFTEN):
            some = faults[first : first + _OFTEN]
            for fault in some:
                self.try_fault(script, fault, outcome)
            self._look_for_leases(script, some, outcome)

    def _look_for_leases(self, script: str, since: list[Fault], outcome: Outcome) -> None:
        try:
            until(self._is_quiet, _SETTLED)
        except AssertionError:
            tried = ", ".join(map(str, since))
            outcome.on_wrong(since[-1], f"a lease is left by one of {tried}")
            self._restart()
            self._warm_up(script)

    def try_fault(self, script: str, fault: Fault, outcome: Outcome) -> None:
        """Run a script with a fault, and check what must hold afterwards."""
        self._arm(fault)
        try:
            wrong = self._run(script)
            self._calm_down()
        except AssertionError as error:
            wrong = f"there is not one worker: {error}; " + " / ".join(_told(self._cluster.log))
        finally:
            has_hit = self._tracer.disarm()
        target = self._tracer.target
        if not has_hit:
            outcome.missed += 1
        else:
            outcome.injected += 1
        if wrong and calls.is_excused(script, fault.name, fault.error, wrong):
            wrong = None
        wrong = wrong or self._look()
        if wrong and wrong.startswith(_LEAKS):
            wrong = self._leaks_again(script, fault)
        if wrong:
            outcome.on_wrong(fault, f"{wrong} [{target}]")
            self._restart()
            self._warm_up(script)

    def _leaks_again(self, script: str, fault: Fault) -> str | None:
        """Try a fault again: what was kept only once is no leak, but kept for later use."""
        wrong = None
        for _ in range(3):
            self._serves()  # opens the user's directory, which is closed when it has been unused
            self._before = self._held()
            self._arm(fault)
            wrong = self._run(script)
            self._calm_down()
            self._tracer.disarm()
            wrong = wrong or self._look()
            if wrong is None or not wrong.startswith(_LEAKS):
                break
        return wrong

    def _warm_up(self, script: str) -> None:
        """Have the server open what it keeps between sessions: data ports, pipes, threads."""
        self.place.furnish()
        with Client(self.place.port) as client:
            client.logs_in()
            for _ in range(_PORTS):
                client.downloads("NLST empty")
        for _ in range(3):
            wrong = self._run(script)
            self._calm_down()
            wrong = wrong or self._look(is_warm=False)
            assert wrong is None, f"{script} without a fault: {wrong}"
        self._settle()
        self._before = self._held()
        self._news()

    def _arm(self, fault: Fault) -> None:
        number = calls.NUMBERS[fault.name]
        if fault.error.isdigit():
            kind, value = SHORT, int(fault.error)
        else:
            kind, value = calls.kind(fault.name), getattr(errno, fault.error)
        if fault.sort == _POLLER:
            self._tracer.arm(number, fault.nth, kind, value, only_fd=self._poller)
        else:
            self._tracer.arm(number, fault.nth, kind, value, wants=fault.sort)

    def _run(self, script: str) -> str | None:
        """Run a script. Returns what is wrong, or None."""
        self.place.furnish()
        self._ends = 0
        try:
            SCRIPTS[script](self.place)
        except Ended as error:
            return None if self._may_have_ended() else f"the session ended at {error}"
        except Wrong as error:
            return str(error)
        return None

    def _may_have_ended(self) -> bool:
        """Whether the control connection was hit. A data connection cannot be told from it: both
        are closed by now. So any socket counts."""
        return self._tracer.target.startswith("socket") or self._process == "supervisor"

    def _look(self, *, is_warm: bool = True) -> str | None:
        """Check what must hold after a script. Returns what does not, or None."""
        if not is_alive(self._worker):
            return "the worker died: " + " / ".join(_told(self._cluster.log))
        try:
            self._settle()
            self._serves()
        except (Wrong, Ended, AssertionError) as error:
            return f"afterwards: {type(error).__name__} {error}"
        news = self._news()
        if "Traceback" in news or "bug" in news:
            return "a traceback: " + news[news.find("Traceback") :][-1500:]
        if left := [path.name for path in self._root.rglob(".*~ftpcluster-*")]:
            return f"temporary files: {left}"
        if _FOUND_SLOW in news:  # the machine is busy: threads have opened the directory, too
            self._before = self._held()
            return None
        try:
            return self._leaks() if is_warm else None
        except FileNotFoundError:
            return "the worker died later: " + " / ".join(_told(self._cluster.log))

    def _leaks(self) -> str | None:
        """What is held now and was not before, unless it is released soon."""
        end = time.monotonic() + _SETTLED
        while more := self._held() - self._before:
            if time.monotonic() > end:
                return f"{_LEAKS}{dict(more)}"
            time.sleep(0.02)
        return None

    def _settle(self) -> None:
        """Wait until no connection counts any more."""
        until(lambda: self._overview().connections == 0, _SETTLED)

    def _overview(self) -> Overview:
        connection = AdminConnection(self._cluster.admin)
        try:
            reply = connection.ask(WhoRequest())
        finally:
            connection.close()
        assert isinstance(reply, Overview)
        return reply

    def _is_quiet(self) -> bool:
        """Whether no lease is left: it would wake the processes at each tick."""
        before = self._wakes()
        time.sleep(_QUIET)
        return all(now - then < _TICKS for now, then in zip(self._wakes(), before, strict=True))

    def _wakes(self) -> list[int]:
        """How often the loops of the worker and the supervisor have been woken."""
        return [
            int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", text, re.MULTILINE)[0])
            for pid in (self._cluster.pid, self._worker)
            if (text := Path(f"/proc/{pid}/status").read_text())
        ]

    def _serves(self) -> None:
        self.place.furnish()
        with Client(self.place.port) as client:
            if not client.logs_in():
                raise Wrong(f"no login: {client.replies}")
            if client.downloads("RETR small") != (226, SMALL):
                raise Wrong(f"no download: {client.replies}")
            code = client.uploads("STOR later", SMALL)
            if code != 226 or (self._root / "later").read_bytes() != SMALL:
                raise Wrong(f"no upload: {client.replies}")
        self._settle()

    def _news(self) -> str:
        log, self._seen = self._cluster.log[self._seen :], len(self._cluster.log)
        return log

    def _held(self) -> collections.Counter[str]:
        """Descriptors by their kinds, and threads, of worker and supervisor.

        If the supervisor is traced, only its own: after a reload there is another worker.
        """
        held: collections.Counter[str] = collections.Counter()
        processes = {"supervisor": self._cluster.pid}
        if self._process == "worker":
            processes["worker"] = self._worker
        for name, pid in processes.items():
            held[f"{name}'s threads"] = len(os.listdir(f"/proc/{pid}/task"))
            for entry in os.listdir(f"/proc/{pid}/fd"):
                try:
                    what = os.readlink(f"/proc/{pid}/fd/{entry}")
                except FileNotFoundError:
                    continue
                held[f"{name}'s {re.sub(r':?.?[0-9]+.?$', '', what)}"] += 1
        return held


def stop_under(make: Callable[[], Bench], fault: Fault | None) -> tuple[list[Fault], str | None]:
    """Stop a server while a call fails. Returns what is wrong with its end, if anything.

    Without a fault it also returns all faults that a stop may have. The tracer ends with the
    process, so each fault takes a server.
    """
    bench = make()
    with bench:
        tracer, cluster = bench._tracer, bench._cluster
        with Client(bench.place.port) as client:
            client.logs_in()
        started = len(cluster.log)
        if fault is None:
            tracer.record()
        else:
            bench._arm(fault)
        cluster.process.send_signal(signal.SIGTERM)
        try:
            cluster.process.wait(_STOPPED)
            until(lambda: not cluster.processes(), _STOPPED)
        except (subprocess.TimeoutExpired, AssertionError):
            return [], f"it does not end: {cluster.log[started:]}"
        faults = list(bench.faults_of(tracer.recorded())) if fault is None else []
    log = cluster.log[started:]
    # asyncio closes the loop after the server has ended, and uvloop does not handle errors there
    log = log if "Cannot close a running event loop" not in log else ""
    return faults, log if "Traceback" in log or "bug" in log else None


def _told(log: str) -> list[str]:
    """The last lines of a log that are more than INFO."""
    lines = [line for line in log.splitlines() if " INFO " not in line]
    return lines[-12:]


def _poller_of(pid: int) -> int:
    """The server's own epoll, which the loop's epoll watches; -1 where there is none."""
    epolls = [
        int(fd) for fd in os.listdir(f"/proc/{pid}/fd")
        if os.readlink(f"/proc/{pid}/fd/{fd}") == "anon_inode:[eventpoll]"
    ]  # fmt: skip
    for fd in epolls:
        for match in re.finditer(r"tfd:\s*(\d+)", Path(f"/proc/{pid}/fdinfo/{fd}").read_text()):
            if int(match[1]) in epolls:
                return int(match[1])
    return -1
