"""``[metrics]``: the server's counters in the format of Prometheus, and whether it is well.

Threads answer, so that a scrape never delays a connection. An answer is made of one snapshot, which
the loop takes. ``/healthz`` only shows that the loop answers.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ftpcluster.cli.http_server import (
    Handler,
    HTTPServer,
    HTTPServerIPv6,
    StartResponse,
    answer_method,
)
from ftpcluster.net.listeners import CannotListen, why_not
from ftpcluster.protocol.address import display, is_ipv6
from ftpcluster.quota.ledger import Refusal
from ftpcluster.supervisor.supervisor import Supervisor
from ftpcluster.supervisor.totals import Sums

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_REFUSALS = [each for each in Refusal if each not in (Refusal.USER_FULL, Refusal.GROUP_FULL)]
"""The refusals of connections. A user, or a group, without a free slot is a reply to PASS."""
_PATIENCE = 2.0
"""Seconds for the loop to answer; else the server is not well."""


@dataclass(frozen=True, slots=True)
class _Worker:
    number: str
    state: str
    sessions: int
    memory: int
    lag: float
    load: float


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The server at one moment."""

    is_complete: bool
    connections: int
    unauthenticated: int
    most_connections: int | None
    limits: dict[str, int | None]
    refused: dict[str, int]
    bans: Counter[bool]
    bans_made: Counter[bool]
    ends: dict[str, int]
    workers: tuple[_Worker, ...]
    sums: Sums
    certificate_end: float | None


class Metrics:
    """A HTTP server of its own, in threads, for as long as the supervisor runs."""

    def __init__(self, host: str, port: int) -> None:
        """Binds. Raises CannotListen. It needs prometheus-client, which the caller has checked."""
        import prometheus_client.core

        self._prometheus = prometheus_client
        kind = HTTPServerIPv6 if is_ipv6(host) else HTTPServer
        try:
            self._http = kind((host, port), Handler)
        except OSError as error:
            where = display(host, port)
            why = why_not(host, error, "another with --metrics, or metrics.listen")
            raise CannotListen(f"cannot listen on {where} for metrics: {why}") from error
        self._thread: threading.Thread | None = None

    @property
    def where(self) -> str:
        """The address that it listens on."""
        host, port = self._http.server_address[:2]
        return display(str(host), port)

    def start(
        self, supervisor: Supervisor, certificate_end: Callable[[], float | None] | None = None
    ) -> None:
        """Answer from now on, for a supervisor that runs in this loop."""
        self._supervisor = supervisor
        self._certificate_end = certificate_end
        self._loop = asyncio.get_running_loop()
        registry = self._prometheus.CollectorRegistry()
        registry.register(self)
        self._app = self._prometheus.make_wsgi_app(registry)
        self._http.set_app(functools.partial(answer_method, self._answer))
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        if self._thread is not None:
            self._http.shutdown()
        self._http.server_close()

    # ------------------------------------------------------------------ HTTP, in threads

    def _answer(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        try:
            if path == "/metrics":
                answer: Iterable[bytes] = self._app(environ, start)
                return answer
            if path == "/healthz":
                self._snapshot()
                return _say(start, HTTPStatus.OK, "alive")
            if path == "/readyz":
                if self._snapshot().is_complete:
                    return _say(start, HTTPStatus.OK, "all workers serve")
                return _say(start, HTTPStatus.SERVICE_UNAVAILABLE, "not all workers serve")
        except (TimeoutError, CancelledError):
            return _say(start, HTTPStatus.SERVICE_UNAVAILABLE, "the supervisor does not answer")
        return _say(start, HTTPStatus.NOT_FOUND, "there are /metrics, /healthz and /readyz")

    def _snapshot(self) -> _Snapshot:
        """Taken by the loop, for a thread. Raises TimeoutError, CancelledError."""

        async def take() -> _Snapshot:
            return self._take()

        try:
            future = asyncio.run_coroutine_threadsafe(take(), self._loop)
        except RuntimeError:  # the loop has ended
            raise TimeoutError from None
        return future.result(_PATIENCE)

    def _take(self) -> _Snapshot:
        supervisor = self._supervisor
        rates, limits = supervisor.speed.server_rates, supervisor.ledger.limits
        return _Snapshot(
            is_complete=supervisor.is_complete,
            connections=supervisor.ledger.connections,
            unauthenticated=supervisor.ledger.unauthenticated,
            most_connections=limits.server,
            limits={"download": rates.download, "upload": rates.upload},
            refused={each.value: supervisor.guard.refused[each] for each in _REFUSALS},
            bans=Counter(ban.is_manual for ban in supervisor.bans()),
            bans_made=supervisor.guard.banned.copy(),
            ends=dict(supervisor.ends),
            workers=tuple(
                _Worker(
                    str(worker.place.index + 1),
                    worker.phase.value,
                    supervisor.ledger.held_by(worker.epoch),
                    worker.memory,
                    worker.lag,
                    worker.load,
                )
                for worker in supervisor.workers
            ),
            sums=supervisor.totals.sums(),
            certificate_end=self._certificate_end and self._certificate_end(),
        )

    # ------------------------------------------------------------------ Prometheus

    def collect(self) -> Iterator[Metric]:
        """All metrics of one snapshot."""
        snapshot = self._snapshot()
        yield from self._of_server(snapshot)
        if snapshot.certificate_end is not None:
            yield self._of_certificate(snapshot.certificate_end)
        yield from self._of_refused(snapshot)
        yield from self._of_workers(snapshot)
        yield from self._of_sessions(snapshot.sums)

    def _of_server(self, now: _Snapshot) -> Iterator[Metric]:
        core = self._prometheus.core
        info = core.InfoMetricFamily("ftpcluster_build", "The version that runs")
        info.add_metric([], {"version": version("ftpcluster")})
        yield info
        yield core.GaugeMetricFamily(
            "ftpcluster_ready", "1 where all workers serve, else 0", now.is_complete
        )
        yield core.GaugeMetricFamily(
            "ftpcluster_connections", "Control connections now", value=now.connections
        )
        yield core.GaugeMetricFamily(
            "ftpcluster_connections_not_logged_in",
            "Control connections that have not logged in",
            value=now.unauthenticated,
        )
        if now.most_connections is not None:
            yield core.GaugeMetricFamily(
                "ftpcluster_connections_limit",
                "Control connections at most (limits.connections)",
                value=now.most_connections,
            )
        limits = core.GaugeMetricFamily(
            "ftpcluster_speed_limit_bytes_per_second",
            "Speed limits of the server, bytes per second",
            labels=["direction"],
        )
        for direction, limit in now.limits.items():
            if limit is not None:
                limits.add_metric([direction], limit)
        yield limits
        ends = core.CounterMetricFamily(
            "ftpcluster_workers_replaced",
            "Workers that ended while the server went on",
            labels=["cause"],
        )
        for cause in ("died", "hung", "bad message", "replaced", "reload"):
            ends.add_metric([cause], now.ends.get(cause, 0))
        yield ends

    def _of_certificate(self, end: float) -> Metric:
        return self._prometheus.core.GaugeMetricFamily(
            "ftpcluster_certificate_expiry_timestamp_seconds",
            "When the server's certificate expires, in seconds since 1970",
            value=end,
        )

    def _of_refused(self, now: _Snapshot) -> Iterator[Metric]:
        core = self._prometheus.core
        refused = core.CounterMetricFamily(
            "ftpcluster_refused_connections",
            "Connections that were refused with 421",
            labels=["reason"],
        )
        for reason, count in now.refused.items():
            refused.add_metric([reason], count)
        yield refused
        bans = core.GaugeMetricFamily("ftpcluster_bans", "Bans that hold", labels=["by"])
        made = core.CounterMetricFamily(
            "ftpcluster_bans_made", "Bans since the start", labels=["by"]
        )
        for is_manual, by in ((False, "server"), (True, "hand")):
            bans.add_metric([by], now.bans[is_manual])
            made.add_metric([by], now.bans_made[is_manual])
        yield bans
        yield made

    def _of_workers(self, now: _Snapshot) -> Iterator[Metric]:
        core = self._prometheus.core
        labels = ["worker", "state"]
        # after two reloads, two draining workers may have the same number; Prometheus refuses a
        # series that comes twice
        alike: dict[tuple[str, str], list[_Worker]] = {}
        for worker in now.workers:
            alike.setdefault((worker.number, worker.state), []).append(worker)
        combine: Callable[[Iterable[float]], float]
        for name, text, attribute, combine in (
            ("sessions", "Sessions of a worker", "sessions", sum),
            ("memory_bytes", "Resident memory", "memory", sum),
            ("loop_lag_seconds", "How late the event loop was (LAG)", "lag", max),
            ("load_ratio", "The part of a core that was used last (LOAD)", "load", max),
        ):
            family = core.GaugeMetricFamily(f"ftpcluster_worker_{name}", text, labels=labels)
            for told, workers in alike.items():
                value = combine(getattr(worker, attribute) for worker in workers)
                family.add_metric(told, value)
            yield family

    def _of_sessions(self, sums: Sums) -> Iterator[Metric]:
        core = self._prometheus.core
        logins = core.CounterMetricFamily("ftpcluster_logins", "Logins", labels=["result"])
        for result in ("ok", "failed"):
            logins.add_metric([result], sums.logins[result])
        yield logins
        replies = core.CounterMetricFamily(
            "ftpcluster_replies", "Replies, by their code", labels=["code"]
        )
        for code, count in sorted(sums.replies.items()):
            if code:
                replies.add_metric([str(int(code))], count)
        yield replies
        transfers = core.CounterMetricFamily(
            "ftpcluster_transfers",
            "Data connections that ended",
            labels=["direction", "result", "tls"],
        )
        for (direction, result, protected), count in sorted(sums.transfers.items()):
            transfers.add_metric([direction, result, _yes(protected)], count)
        yield transfers
        moved = core.CounterMetricFamily(
            "ftpcluster_transferred_bytes",
            "Bytes that data connections carried",
            labels=["direction", "tls"],
        )
        for (direction, protected), count in sorted(sums.moved.items()):
            moved.add_metric([direction, _yes(protected)], count)
        yield moved
        yield core.SummaryMetricFamily(
            "ftpcluster_lease_wait_seconds",
            "Waits of workers for the supervisor, where speeds are limited",
            count_value=sums.grants,
            sum_value=sums.waited,
        )


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _say(start: StartResponse, status: HTTPStatus, text: str) -> Iterable[bytes]:
    start(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{text}\n".encode()]
