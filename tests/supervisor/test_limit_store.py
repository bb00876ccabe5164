"""Speed limits that several hosts share: each tells a store what it wants, and hears its shares.

The store is the test's. It spreads each limit over the hosts by the same code as they do over
their workers, and answers after a while. All is in virtual time.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Self

import pytest

from ftpcluster.ipc.messages import Grants, Reports, ToldRates, UserLimits
from ftpcluster.quota.fair import Demand, share
from ftpcluster.quota.limit_store import LimitStore, LocalStore
from ftpcluster.quota.limit_tree import TICK, Report
from ftpcluster.quota.rates import DOWNLOAD, LimitKey, Rates, SpeedLimits
from ftpcluster.supervisor.speed import SharedSpeed
from tests.support.simulation import VirtualLoop

MEGA = 1_000_000
LATENCY = 0.02


class Engine:
    """What all hosts want, and how much of each limit there is."""

    def __init__(self, loop: VirtualLoop, limits: Mapping[LimitKey, int]) -> None:
        self.loop = loop
        self.limits = limits
        self.demands: dict[int, Mapping[LimitKey, Demand]] = {}
        self.is_reachable = True
        self.exchanges = 0

    def shares(self, host: int) -> dict[LimitKey, float]:
        found = {}
        for key in self.demands[host]:
            wanted = {host: each[key] for host, each in self.demands.items() if key in each}
            found[key] = share(self.limits[key] * TICK, wanted)[host] / TICK
        return found


class Seat(LimitStore):
    """A host's way to the engine."""

    interval = 0.1

    def __init__(self, engine: Engine, host: int) -> None:
        self._engine = engine
        self._host = host

    async def exchange(self, demands: Mapping[LimitKey, Demand]) -> Mapping[LimitKey, float]:
        engine = self._engine
        engine.exchanges += 1
        engine.demands[self._host] = demands
        answer: asyncio.Future[None] = engine.loop.create_future()
        if engine.is_reachable:
            engine.loop.call_later(LATENCY, lambda: answer.done() or answer.set_result(None))
        await answer
        return engine.shares(self._host)


class Host:
    """A supervisor with one worker."""

    def __init__(self, loop: VirtualLoop, limits: SpeedLimits, store: LimitStore) -> None:
        self.loop = loop
        self.granted: defaultdict[str, int] = defaultdict(int)
        self.speed = SharedSpeed(loop.as_loop, limits, self._grant, store=store)
        for login in limits.users:
            self.speed.on_user_limits(UserLimits(login, ToldRates(download=MEGA)))

    def _grant(self, _: int, message: Grants) -> None:
        for grant in message.grants:
            self.granted[grant.login] += grant.size

    def wants(self, login: str, transfers: int) -> None:
        demand = Demand(transfers, transfers << 20) if transfers else Demand()
        self.speed.on_reports(1, Reports((Report(login, DOWNLOAD, demand),)))


class Hosts:
    """Hosts with the same limits."""

    def __init__(self, count: int, limits: SpeedLimits) -> None:
        self.loop = VirtualLoop()
        keys = {
            LimitKey("server", "", DOWNLOAD): limits.server.download,
            **{LimitKey("group", n, DOWNLOAD): r.download for n, r in limits.groups.items()},
            **{LimitKey("user", n, DOWNLOAD): r.download for n, r in limits.users.items()},
        }
        self.engine = Engine(self.loop, {key: rate for key, rate in keys.items() if rate})
        self.hosts = [Host(self.loop, limits, Seat(self.engine, n)) for n in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.speed.close()
        self.loop.run(LATENCY)
        assert self.loop.is_idle

    def run(self, seconds: float, *wants: Mapping[str, int]) -> list[dict[str, int]]:
        """So long each host's users want something in so many transfers; what each was granted."""
        for host in self.hosts:
            host.granted.clear()
        for _ in range(round(seconds / TICK)):
            for host, mine in zip(self.hosts, wants, strict=True):
                for login, transfers in mine.items():
                    host.wants(login, transfers)
            self.loop.run(TICK)
        return [dict(host.granted) for host in self.hosts]


USER = SpeedLimits(users={"alice": Rates(download=MEGA)})


def test_a_users_limit_is_spread_over_hosts_by_their_transfers() -> None:
    with Hosts(2, USER) as hosts:
        hosts.run(0.5, {"alice": 3}, {"alice": 1})
        first, second = hosts.run(5.0, {"alice": 3}, {"alice": 1})
        assert first["alice"] == pytest.approx(5 * MEGA * 3 / 4, rel=0.02)
        assert second["alice"] == pytest.approx(5 * MEGA / 4, rel=0.02)


def test_from_the_first_byte_on_no_more_is_granted_than_the_limit_is() -> None:
    with Hosts(4, USER) as hosts:
        granted = hosts.run(1.0, *({"alice": 1} for _ in range(4)))
        assert 0.85 * MEGA <= sum(each["alice"] for each in granted) <= 1.02 * MEGA


def test_a_host_that_wants_nothing_any_more_holds_nothing_back() -> None:
    with Hosts(2, USER) as hosts:
        hosts.run(1.0, {"alice": 1}, {"alice": 1})
        hosts.run(0.3, {"alice": 0}, {"alice": 1})
        first, second = hosts.run(2.0, {}, {"alice": 1})
        assert first == {}
        assert second["alice"] == pytest.approx(2 * MEGA, rel=0.02)
        assert hosts.engine.demands[0] == {}


def test_server_groups_and_users_have_their_limits_over_all_hosts() -> None:
    limits = SpeedLimits(
        server=Rates(download=4 * MEGA),
        groups={"staff": Rates(download=MEGA)},
        users={login: Rates(download=MEGA) for login in ("alice", "bob", "carol")},
        group_of={"alice": "staff", "bob": "staff", "carol": "staff"},
    )
    with Hosts(2, limits) as hosts:
        wants = {"alice": 1, "bob": 1, "dave": 1}, {"carol": 1, "erin": 1}
        hosts.run(1.0, *wants)
        first, second = hosts.run(5.0, *wants)
        staff = first["alice"] + first["bob"] + second["carol"]
        assert staff == pytest.approx(5 * MEGA, rel=0.03)
        assert sum(first.values()) + sum(second.values()) == pytest.approx(5 * 4 * MEGA, rel=0.03)


def test_transfers_go_on_with_the_share_of_before_while_the_store_says_nothing() -> None:
    with Hosts(2, USER) as hosts:
        hosts.run(1.0, {"alice": 1}, {"alice": 1})
        hosts.engine.is_reachable = False
        granted = hosts.run(3.0, {"alice": 1}, {"alice": 1})
        assert [each["alice"] for each in granted] == [pytest.approx(3 * MEGA / 2, rel=0.02)] * 2


def test_a_limit_that_is_lowered_holds_at_once() -> None:
    with Hosts(2, USER) as hosts:
        hosts.run(1.0, {"alice": 1}, {"alice": 1})
        hosts.engine.is_reachable = False
        for host in hosts.hosts:
            host.speed.set_limits("alice", Rates(download=MEGA // 10))
        granted = hosts.run(1.0, {"alice": 1}, {"alice": 1})
        assert all(each["alice"] <= MEGA / 10 * 1.1 for each in granted)


def test_exchanges_are_as_few_as_the_store_asks_for_and_end_with_the_last_demand() -> None:
    with Hosts(2, USER) as hosts:
        hosts.run(5.0, {"alice": 5}, {"alice": 50})
        assert hosts.engine.exchanges <= 2 * 5.0 / Seat.interval + 2
        hosts.run(1.0, {"alice": 0}, {"alice": 0})
        before = hosts.engine.exchanges
        hosts.run(5.0, {}, {})
        assert hosts.engine.exchanges == before
        assert hosts.loop.is_idle


def test_an_exchange_that_is_on_its_way_ends_with_the_server() -> None:
    with Hosts(1, USER) as hosts:
        hosts.engine.is_reachable = False
        hosts.run(0.2, {"alice": 1})
        assert hosts.hosts[0].speed._exchanging is not None


async def test_without_other_hosts_nothing_is_exchanged() -> None:
    assert LocalStore().interval is None
    assert await LocalStore().exchange({}) == {}
