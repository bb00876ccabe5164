"""Leases in the process that has the tree of limits, as in the library: in made-up time.

A transfer that waits for a time does nothing but say afterwards that it has come.
"""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Generator, Iterable
from typing import Any

import pytest

from ftpcluster.quota.bucket import IDLE_DEPTH
from ftpcluster.quota.leases import SessionLimits, session_limits
from ftpcluster.quota.limit_tree import TICK
from ftpcluster.quota.local_leases import LocalLeases
from ftpcluster.quota.rates import DOWNLOAD, UPLOAD, AccountSpeeds, Direction, Rates

MEGA = 1_000_000


class Transfer:
    """One that moves all that it may, or ``speed`` bytes a second where its client is slow."""

    def __init__(
        self,
        limits: SessionLimits,
        begins: float = 0.0,
        *,
        size: float = math.inf,
        direction: Direction = DOWNLOAD,
        speed: float = math.inf,
    ) -> None:
        self.moved = 0
        self.ended: float | None = None
        self.longest_pause = 0.0
        self.due = begins
        """When it goes on."""
        self._last = begins
        self._size = size
        self._speed = speed
        lease = limits.open(direction, begins)
        assert lease is not None
        self._lease = lease
        self._life = self._live()
        next(self._life)

    def go_on(self) -> None:
        self.due = self._life.send(self.due)

    def _live(self) -> Generator[float, float, None]:
        """Yields the time that it waits for, and is sent the time that it is."""
        now = yield self.due
        pause = self._lease.spend(0, now)
        while True:
            while pause is not None:
                assert isinstance(pause.until, float)
                now = yield pause.until
                pause = self._lease.spend(0, now)
            if self.moved == self._size:
                self._lease.close()
                self.ended = now
                yield math.inf
            at_once = max(1.0, self._speed / 100)
            count = int(min(self._lease.piece, at_once, self._size - self.moved))
            self.moved += count
            self.longest_pause = max(self.longest_pause, now - self._last)
            self._last = now = yield now + count / self._speed
            pause = self._lease.spend(count, now)


def run(transfers: Iterable[Transfer], until: float) -> None:
    """Let time pass for all of them."""
    transfers = list(transfers)
    while (first := min(transfers, key=lambda each: each.due)).due <= until:
        first.go_on()


def of(leases: LocalLeases, login: str, **limits: Any) -> SessionLimits:
    """The limits of a session of this user."""
    found = session_limits(leases, AccountSpeeds(login, **limits), 0.0)
    assert found is not None
    return found


def about(amount: float, rel: float = 0.05) -> object:
    return pytest.approx(amount, rel=rel)


# ---------------------------------------------------------------------- how much


def test_where_nothing_limits_there_is_nothing_to_ask() -> None:
    assert session_limits(LocalLeases(), AccountSpeeds("alice"), 0.0) is None


def test_a_limit_on_one_direction_leaves_the_other_alone() -> None:
    limits = of(LocalLeases(Rates(upload=MEGA)), "alice")
    assert (limits.hold(UPLOAD), limits.hold(DOWNLOAD)) == (True, False)
    assert limits.open(DOWNLOAD, 0.0) is None


@pytest.mark.parametrize("direction", [UPLOAD, DOWNLOAD])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_servers_limit_is_shared_equally(direction: Direction, count: int) -> None:
    leases = LocalLeases(Rates(upload=MEGA, download=MEGA))
    transfers = [Transfer(of(leases, f"user-{n}"), direction=direction) for n in range(count)]
    run(transfers, 5.0)
    moved = [transfer.moved for transfer in transfers]
    assert 0.98 * 5 * MEGA <= sum(moved) <= 1.02 * 5 * MEGA
    # the first one finds what a bucket holds that nobody wants
    assert max(moved) - min(moved) <= 1.001 * IDLE_DEPTH * MEGA
    assert all(transfer.longest_pause <= 2 * TICK for transfer in transfers)


def test_users_share_the_servers_limit_however_many_transfers_each_has() -> None:
    leases = LocalLeases(Rates(download=MEGA))
    alice = [Transfer(of(leases, "alice"))]
    bob = [Transfer(of(leases, "bob")) for _ in range(4)]
    run(alice + bob, 5.0)
    assert alice[0].moved == about(5 * MEGA / 2)
    assert [each.moved for each in bob] == [about(5 * MEGA / 8)] * 4


def test_a_slow_client_leaves_the_rest_to_the_others() -> None:
    leases = LocalLeases(Rates(download=MEGA))
    slow = Transfer(of(leases, "alice"), speed=MEGA / 10)
    fast = Transfer(of(leases, "bob"))
    run([slow, fast], 5.0)
    assert slow.moved == about(5 * MEGA / 10)
    assert 0.97 * 5 * MEGA <= slow.moved + fast.moved <= 1.02 * 5 * MEGA


def test_each_limit_holds_at_the_same_time() -> None:
    """The server's, a group's, a user's and a connection's."""
    leases = LocalLeases(Rates(download=MEGA))
    leases.set_group("staff", Rates(download=MEGA // 2), 0.0)
    alice = Transfer(of(leases, "alice", group="staff", shared=Rates(download=MEGA // 10)))
    bob = Transfer(of(leases, "bob", group="staff", per_connection=Rates(download=MEGA // 5)))
    carol = [Transfer(of(leases, "carol", group="staff")) for _ in range(2)]
    dave = Transfer(of(leases, "dave"))
    run([alice, bob, *carol, dave], 10.0)
    assert alice.moved == about(10 * MEGA / 10)
    assert bob.moved == about(10 * MEGA / 5)
    assert sum(each.moved for each in carol) == about(10 * MEGA / 5)
    assert dave.moved == about(10 * MEGA / 2)


def test_a_groups_limit_holds_where_the_server_has_none() -> None:
    leases = LocalLeases()
    leases.set_group("staff", Rates(download=MEGA), 0.0)
    staff = [Transfer(of(leases, login, group="staff")) for login in ("alice", "bob")]
    assert session_limits(leases, AccountSpeeds("carol"), 0.0) is None
    run(staff, 5.0)
    assert [each.moved for each in staff] == [about(5 * MEGA / 2)] * 2


def test_users_without_a_common_limit_do_not_wait_for_each_other() -> None:
    leases = LocalLeases()
    first = Transfer(of(leases, "alice", shared=Rates(download=1000)), size=10_000)
    run([first], 100.0)
    assert first.ended == about(10)
    second = Transfer(of(leases, "bob", shared=Rates(download=1000)), size=10_000)
    run([second], 100.0)
    assert second.ended == about(10)


# ---------------------------------------------------------------------- schedules and leftovers


def test_what_one_transfer_has_waited_for_the_next_one_has_not() -> None:
    """Whoever waits for no real time, as in a test of somebody's, still waits for as long."""
    leases = LocalLeases(Rates(download=1000))
    for times in (1, 2, 3):
        transfer = Transfer(of(leases, f"user-{times}"), size=10_000)
        run([transfer], 1000.0)
        assert transfer.ended == about(10 * times)


def test_timers_that_come_late_lose_nothing() -> None:
    leases = LocalLeases(Rates(download=MEGA))
    transfer = Transfer(of(leases, "alice"))
    late = itertools.cycle((0.0, 0.03, 0.001, 0.045))
    while (now := transfer.due) < 5.0:
        transfer.go_on()
        if transfer.due > now:
            transfer.due += next(late)
    assert 0.97 * now * MEGA <= transfer.moved <= 1.02 * now * MEGA


@pytest.mark.parametrize("pause", [0.01, 1.0, 60.0])
def test_after_a_pause_there_is_no_burst(pause: float) -> None:
    leases = LocalLeases(Rates(download=MEGA))
    first = Transfer(of(leases, "alice"), size=MEGA)
    run([first], 100.0)
    assert first.ended is not None
    begins = first.ended + pause
    second = Transfer(of(leases, "alice"), begins)
    run([second], begins + 1.0)
    assert second.moved <= MEGA * (1 + 0.1)


def test_what_a_transfer_did_not_use_goes_back_with_the_next_tick() -> None:
    leases = LocalLeases(Rates(download=MEGA))
    limits = of(leases, "alice")
    lease = limits.open(DOWNLOAD, 0.0)
    assert lease is not None
    assert lease.spend(0, 0.0) is None
    granted = lease.in_hand
    assert granted > 0
    lease.close()
    other = of(leases, "bob").open(DOWNLOAD, 0.0)
    assert other is not None
    assert other.spend(0, TICK) is None
    assert other.in_hand >= granted


def test_a_lease_that_is_closed_waits_for_nothing() -> None:
    leases = LocalLeases(Rates(download=1000))
    lease = of(leases, "alice", per_connection=Rates(download=10)).open(DOWNLOAD, 0.0)
    assert lease is not None
    assert lease.spend(10_000, 0.0) is not None
    lease.close()
    lease.close()
    assert lease.spend(0, 0.0) is None


def test_limits_that_are_not_reached_hold_nobody_back() -> None:
    leases = LocalLeases(Rates(download=1000 * MEGA))
    transfers = [Transfer(of(leases, f"user-{n % 3}"), speed=MEGA) for n in range(20)]
    run(transfers, 3.0)
    assert [transfer.moved for transfer in transfers] == [about(3 * MEGA)] * 20


def test_a_connections_limit_saves_nothing_while_no_transfer_runs() -> None:
    limits = of(LocalLeases(), "alice", per_connection=Rates(download=MEGA))
    first = Transfer(limits, size=MEGA)
    run([first], 10.0)
    assert first.ended == about(1.0)
    second = Transfer(limits, 100.0, size=MEGA)
    run([second], 200.0)
    assert second.ended == about(101.0, rel=0.0005)


# ---------------------------------------------------------------------- limits that change


def test_a_limit_that_changes_holds_for_transfers_that_run() -> None:
    leases = LocalLeases(Rates(download=MEGA))
    transfer = Transfer(of(leases, "alice"))
    run([transfer], 1.0)
    leases.set_server(Rates(download=MEGA // 10), 1.0)
    before = transfer.moved
    run([transfer], 3.0)
    assert transfer.moved - before == about(2 * MEGA / 10, rel=0.2)


def test_a_limit_of_the_server_takes_in_users_who_had_only_their_own() -> None:
    leases = LocalLeases()
    own = Rates(download=10 * MEGA)
    transfers = [Transfer(of(leases, login, shared=own)) for login in ("alice", "bob")]
    run(transfers, 1.0)
    assert [transfer.moved for transfer in transfers] == [about(10 * MEGA)] * 2
    leases.set_server(Rates(download=MEGA), 1.0)
    before = sum(transfer.moved for transfer in transfers)
    run(transfers, 6.0)
    assert sum(transfer.moved for transfer in transfers) - before <= 5 * MEGA * 1.25


def test_a_user_who_comes_into_a_group_shares_its_limit() -> None:
    leases = LocalLeases()
    leases.set_group("staff", Rates(download=MEGA), 0.0)
    own = Rates(download=10 * MEGA)
    alice = Transfer(of(leases, "alice", shared=own))
    run([alice], 1.0)
    bob = Transfer(of(leases, "bob", group="staff"), 1.0)
    of(leases, "alice", shared=own, group="staff")  # as of a session that begins now
    before = alice.moved
    run([alice, bob], 6.0)
    assert alice.moved - before + bob.moved <= 5 * MEGA * 1.25


# ---------------------------------------------------------------------- memory


@pytest.mark.parametrize("server", [Rates(), Rates(download=MEGA)])
def test_users_whose_sessions_have_ended_are_forgotten(server: Rates) -> None:
    leases = LocalLeases(server)
    for n in range(100):
        transfer = Transfer(of(leases, f"user-{n}", shared=Rates(download=MEGA)), n, size=1000)
        run([transfer], n + 0.9)
        assert transfer.ended is not None
        del transfer
    gc.collect()
    # the last one may be known until the next tick
    assert len(leases._pools) <= 2
    assert len(leases._roots) <= 1
