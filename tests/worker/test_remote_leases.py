"""A worker's leases in virtual time: how grants are split, and what is reported when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from ftpcluster.ipc.channel import MAX_MESSAGE
from ftpcluster.ipc.messages import Grants, Message, Reports, ToldRates, UserLimits
from ftpcluster.quota.leases import Lease, Pool
from ftpcluster.quota.limit_tree import TICK, Grant, Report
from ftpcluster.quota.rates import DOWNLOAD, AccountSpeeds, Direction, Rates, SpeedLimits
from ftpcluster.worker.remote_leases import RemoteLeases
from ftpcluster.worker.remote_quotas import RemoteQuotas
from tests.support.simulation import VirtualLoop, waiter_of

MEGA = 1_000_000
LEAST = 512
SILENCE = 0.2


class Desk:
    """A worker's leases; the test is its supervisor."""

    def __init__(
        self,
        server: Rates = Rates(upload=MEGA, download=MEGA),
        workers: int = 4,
        groups: dict[str, Rates] | None = None,
    ) -> None:
        self.loop = VirtualLoop()
        self.sent: list[Message] = []
        self.leases = RemoteLeases(
            self.loop.as_loop,
            workers,
            SpeedLimits(server=server, groups=groups or {}),
            self.sent.append,
        )

    def pool(self, login: str = "alice", rates: Rates = Rates(), group: str | None = None) -> Pool:
        pools = self.leases.pools(login, rates, group)
        assert pools is not None
        return pools[DOWNLOAD]

    def grant(
        self,
        size: int,
        login: str = "alice",
        direction: Direction = DOWNLOAD,
        *,
        contended: bool = True,
    ) -> None:
        self.leases.on_grants(Grants((Grant(login, direction, size),), (contended, contended)))

    @property
    def messages(self) -> list[Reports]:
        return [message for message in self.sent if isinstance(message, Reports)]

    @property
    def reports(self) -> list[Report]:
        return [report for message in self.messages for report in message.reports]

    def after(self, seconds: float) -> list[Report]:
        """Let time pass; what was reported in it."""
        self.sent.clear()
        self.loop.run(seconds)
        return self.reports


@pytest.fixture
def desk() -> Desk:
    return Desk()


def spend(lease: Lease, count: int) -> asyncio.Future[None] | None:
    """Move so many bytes; what the transfer has to wait for then. (A worker needs no time.)"""
    pause = lease.spend(count, 0.0)
    return None if pause is None else waiter_of(pause)


def waiting(pool: Pool, size: int | None = None) -> tuple[Lease, asyncio.Future[None]]:
    """A transfer that begins and has to wait."""
    lease = pool.open(0.0, size=size)
    waiter = spend(lease, 0)
    assert waiter is not None
    return lease, waiter


class Eater:
    """A transfer that moves all that it may, at once and always."""

    def __init__(self, desk: Desk, pool: Pool) -> None:
        self.moved = 0
        self.moments: list[tuple[float, int]] = []
        self._desk = desk
        self._lease = pool.open(0.0)
        self.wait(spend(self._lease, 0))

    def wait(self, waiter: asyncio.Future[None] | None) -> None:
        while waiter is None:
            count = self._lease.in_hand
            self.moved += count
            self.moments.append((self._desk.loop.now, count))
            waiter = spend(self._lease, count)
        waiter.add_done_callback(lambda _: self.wait(None))


# ---------------------------------------------------------------------- how a grant is split


def test_those_who_wait_get_equal_parts(desk: Desk) -> None:
    pool = desk.pool()
    leases = [waiting(pool)[0] for _ in range(4)]
    desk.grant(40_000)
    assert [lease.in_hand for lease in leases] == [10_000] * 4


def test_what_does_not_divide_is_not_lost(desk: Desk) -> None:
    pool = desk.pool()
    leases = [waiting(pool)[0] for _ in range(3)]
    desk.grant(10_001)
    in_hand = [lease.in_hand for lease in leases]
    assert sum(in_hand) + pool.balance == 10_001
    assert max(in_hand) - min(in_hand) <= 2


def test_where_there_is_too_little_for_all_the_first_get_a_piece_and_the_rest_go_next(
    desk: Desk,
) -> None:
    pool = desk.pool()
    leases, waiters = zip(*(waiting(pool) for _ in range(5)), strict=True)
    desk.grant(2 * LEAST)
    assert [lease.in_hand for lease in leases] == [LEAST, LEAST, 0, 0, 0]
    for lease in leases[:2]:
        spend(lease, LEAST)
    desk.grant(3 * LEAST)
    assert [lease.in_hand for lease in leases] == [0, 0, LEAST, LEAST, LEAST]
    assert [waiter.done() for waiter in waiters] == [True] * 5


def test_a_few_bytes_let_one_transfer_go_on(desk: Desk) -> None:
    pool = desk.pool()
    leases = [waiting(pool)[0] for _ in range(3)]
    desk.grant(7)
    assert [lease.in_hand for lease in leases] == [7, 0, 0]


def test_whoever_moved_more_than_he_had_pays_that_before_he_goes_on(desk: Desk) -> None:
    pool = desk.pool()
    lease, first = waiting(pool)
    desk.grant(100)
    assert first.done()
    second = spend(lease, 1100)
    assert second is not None
    desk.grant(600)
    assert (lease.in_hand, second.done()) == (-400, False)
    desk.grant(500)
    assert (lease.in_hand, second.done()) == (100, True)


def test_what_the_pool_has_is_taken_a_piece_at_a_time(desk: Desk) -> None:
    pool = desk.pool()
    desk.grant(10 * MEGA)
    first, second = pool.open(0.0), pool.open(0.0)
    assert spend(first, 0) is None
    assert spend(second, 0) is None
    assert 0 < second.in_hand <= first.in_hand <= 5 * MEGA
    assert first.in_hand + second.in_hand + pool.balance == 10 * MEGA


def test_nobody_overtakes_those_who_wait(desk: Desk) -> None:
    pool = desk.pool()
    first, _ = waiting(pool)
    spend(first, 1000)  # a debt: what comes next is not enough
    desk.grant(999)
    _, later = waiting(pool)
    desk.grant(1)
    assert not later.done()


def test_whoever_asks_for_less_than_an_equal_part_leaves_the_rest(desk: Desk) -> None:
    pool = desk.pool()
    small, large = waiting(pool, 1000)[0], waiting(pool)[0]
    desk.grant(10_000)
    assert (small.in_hand, large.in_hand) == (1001, 8999)


# ---------------------------------------------------------------------- what is asked for


def asked(desk: Desk, size: int | None) -> int:
    waiting(desk.pool(), size)
    (report,) = desk.after(0.0)
    return report.demand.waiting_bytes


@pytest.mark.parametrize("size", [None, 0])
def test_a_transfer_of_unknown_size_asks_for_what_most_ones_are_content_with(
    size: int | None,
) -> None:
    assert asked(Desk(), size) == 1 << 20


def test_a_small_file_asks_for_what_it_has_and_does_not_wait_at_its_end(desk: Desk) -> None:
    lease, _ = waiting(desk.pool(), 4096)
    assert [report.demand.waiting_bytes for report in desk.after(0.0)] == [4097]
    desk.grant(4097)
    assert spend(lease, 4096) is None
    lease.close()
    assert [report.returned for report in desk.after(TICK)] == [1]


@pytest.mark.parametrize(
    ("limit", "most"), [(MEGA, 1 << 20), (400 * MEGA, 5 * MEGA), (10_000 * MEGA, 16 << 20)]
)
def test_a_large_file_asks_for_no_large_part_of_what_the_limit_allows_in_a_tick(
    limit: int, most: int
) -> None:
    assert asked(Desk(Rates(download=limit)), 1 << 30) == most


def test_a_transfer_with_more_than_was_said_asks_on(desk: Desk) -> None:
    """As one in ASCII type, whose line ends take more on the network."""
    lease, _ = waiting(desk.pool(), 1000)
    desk.grant(1001)
    assert spend(lease, 1001) is not None
    (report,) = desk.after(TICK)[-1:]
    assert report.demand.waiting_bytes >= 1 << 20


# ---------------------------------------------------------------------- ends and cancellations


def test_whoever_leaves_gives_back_what_he_has_in_hand(desk: Desk) -> None:
    pool = desk.pool()
    lease, _ = waiting(pool)
    desk.grant(10_000)
    spend(lease, 3000)
    lease.close()
    lease.close()
    assert (lease.in_hand, pool.balance) == (0, 7000)
    assert [report.returned for report in desk.after(TICK)] == [7000]


def test_whoever_leaves_while_he_waits_is_let_go(desk: Desk) -> None:
    pool = desk.pool()
    lease, waiter = waiting(pool)
    lease.close()
    assert waiter.done()
    assert not waiter.cancelled()
    assert not pool.is_waiting


def test_a_cancelled_waiter_costs_the_others_nothing(desk: Desk) -> None:
    pool = desk.pool()
    gone, cancelled = waiting(pool)
    stays, waiter = waiting(pool)
    cancelled.cancel()
    desk.grant(10_000)
    gone.close()
    assert waiter.done()
    assert stays.in_hand + pool.balance == 10_000


def test_a_cancelled_waiter_that_left_gets_nothing_any_more(desk: Desk) -> None:
    pool = desk.pool()
    gone, cancelled = waiting(pool)
    stays, _ = waiting(pool)
    cancelled.cancel()
    gone.close()
    desk.grant(10_000)
    assert (gone.in_hand, stays.in_hand) == (0, 10_000)


def test_a_lease_that_comes_when_nobody_is_left_goes_back(desk: Desk) -> None:
    """Else it is a burst whenever the user comes again, however much later."""
    pool = desk.pool()
    waiting(pool)[0].close()
    desk.after(2 * TICK)
    desk.grant(5000)
    assert sum(report.returned for report in desk.after(2 * TICK)) == 5000
    assert pool.balance == 0


def test_all_is_quiet_when_nobody_is_left(desk: Desk) -> None:
    lease, _ = waiting(desk.pool())
    desk.grant(10_000)
    spend(lease, 5000)
    lease.close()
    assert [(r.returned, r.demand.total) for r in desk.after(TICK)] == [(5000, 0)]
    assert desk.after(10.0) == []
    assert desk.loop.is_idle


# ---------------------------------------------------------------------- reports


def test_no_message_is_sent_where_no_limit_applies() -> None:
    desk = Desk(Rates())
    assert desk.leases.pools("alice", Rates()) is None
    desk.loop.run(1.0)
    assert desk.sent == []


def test_no_message_is_sent_for_a_user_who_transfers_nothing(desk: Desk) -> None:
    desk.pool("alice", Rates(upload=1000, download=1000))
    desk.loop.run(1.0)
    assert desk.sent == []


def test_a_transfer_that_has_to_wait_is_reported_at_once(desk: Desk) -> None:
    waiting(desk.pool())
    (report,) = desk.after(0.0)
    assert (report.login, report.direction, report.demand.waiting) == ("alice", DOWNLOAD, 1)
    assert report.demand.waiting_bytes > 0


def test_those_who_begin_to_wait_in_one_turn_are_reported_together(desk: Desk) -> None:
    for login in ("alice", "bob"):
        waiting(desk.pool(login))
        waiting(desk.pool(login))
    desk.loop.run(0.0)
    (message,) = desk.messages
    assert [(each.login, each.demand.waiting) for each in message.reports] == [
        ("alice", 2),
        ("bob", 2),
    ]


def test_where_there_is_not_enough_for_all_nobody_hurries(desk: Desk) -> None:
    lease, _ = waiting(desk.pool())
    desk.loop.run(0.0)
    desk.grant(1000, contended=True)
    spend(lease, 1000)
    assert desk.after(TICK * 0.9) == []
    assert len(desk.after(TICK * 0.2)) == 1


def test_where_there_is_enough_whoever_waits_hurries(desk: Desk) -> None:
    lease, _ = waiting(desk.pool())
    desk.loop.run(0.0)
    for _ in range(3):
        desk.grant(1000, contended=False)
        assert spend(lease, 1000) is not None
        assert len(desk.after(0.006)) == 1


def test_all_pools_are_reported_in_one_message_a_tick(desk: Desk) -> None:
    for number in range(100):
        waiting(desk.pool(f"user-{number}"))
    desk.loop.run(0.0)
    desk.leases.contended = (True, True)
    desk.sent.clear()
    desk.loop.run(3.5 * TICK)
    assert [len(message.reports) for message in desk.messages] == [100] * 3


def test_more_pools_than_fit_are_told_in_several_messages(desk: Desk) -> None:
    logins = {f"user-{number}" for number in range(1201)}
    for login in logins:
        waiting(desk.pool(login))
    desk.loop.run(0.0)
    assert len(desk.messages) > 1
    assert sorted(report.login for report in desk.reports) == sorted(logins)
    fits(desk.messages)


def test_messages_fit_however_long_the_names_are(desk: Desk) -> None:
    for number in range(500):
        waiting(desk.pool(f"{number:03}".rjust(250, "ü")))
    desk.loop.run(TICK)
    assert len(desk.reports) >= 500
    fits(desk.messages)


def fits(messages: list[Reports]) -> None:
    """A datagram that is too large would cost the worker its life."""
    assert max(len(msgspec.msgpack.encode(message)) for message in messages) <= MAX_MESSAGE


def test_a_transfer_is_reported_by_what_it_moved(desk: Desk) -> None:
    pool = desk.pool()
    lease, _ = waiting(pool)
    desk.grant(100_000)
    desk.loop.run(TICK)
    spend(lease, 40_000)
    (report,) = desk.after(TICK)
    assert (report.demand.waiting, report.demand.slow) == (0, 1)
    assert 40_000 <= report.demand.slow_bytes <= 80_000


def test_whoever_was_held_back_asks_for_more_than_he_moved(desk: Desk) -> None:
    lease, _ = waiting(desk.pool())
    desk.grant(10 * MEGA)
    spend(lease, 10 * MEGA)
    (report,) = desk.after(TICK)[-1:]
    assert report.demand.waiting == 1
    assert report.demand.waiting_bytes > 10 * MEGA


def test_what_a_transfer_holds_that_stands_still_is_for_the_others(desk: Desk) -> None:
    lease, _ = waiting(desk.pool())
    desk.grant(50_000)
    desk.loop.run(TICK)
    assert [report.returned for report in desk.after(TICK)] == [50_000]
    assert lease.in_hand == 0
    assert spend(lease, 0) is not None


def test_nothing_is_reported_twice_or_forgotten_over_a_long_while(desk: Desk) -> None:
    """What was granted is moved, in hand, in the pool, or given back; never anything else."""
    pool = desk.pool()
    eaters = [Eater(desk, pool) for _ in range(3)]
    granted = returned = 0
    for tick in range(100):
        size = (tick * 7919) % 60_000
        desk.grant(size)
        granted += size
        returned += sum(report.returned for report in desk.after(0.031))
    held = pool.balance + sum(lease.in_hand for lease in pool.transfers)
    assert granted == sum(eater.moved for eater in eaters) + returned + held
    assert returned == 0


# ---------------------------------------------------------------------- users' limits


def told(rates: Rates) -> ToldRates:
    return ToldRates(upload=rates.upload, download=rates.download)


def limits_told(desk: Desk) -> list[UserLimits]:
    return [message for message in desk.sent if isinstance(message, UserLimits)]


def test_a_user_s_limits_are_told_once_and_before_any_report(desk: Desk) -> None:
    rates = Rates(upload=1000, download=2000)
    eaters = []
    for _ in range(5):
        eaters.append(Eater(desk, desk.pool("alice", rates)))
        desk.loop.run(3 * TICK)
        desk.grant(5000)
    assert limits_told(desk) == [UserLimits("alice", told(rates))]
    assert desk.sent[0] == UserLimits("alice", told(rates))
    assert len(desk.messages) >= 10


def test_a_user_s_limits_are_told_again_after_a_while_without_transfers(desk: Desk) -> None:
    """The supervisor forgets users for whom nothing moves."""
    pool = desk.pool("alice", Rates(upload=1000, download=2000))
    for _ in range(2):
        waiting(pool)[0].close()
        waiting(pool)[0].close()
        desk.sent.clear()
        waiting(pool)
        desk.loop.run(TICK)
        for lease in tuple(pool.transfers):
            lease.close()
        desk.loop.run(5.0)
        assert limits_told(desk) == [UserLimits("alice", ToldRates(upload=1000, download=2000))]


def test_a_user_s_limits_are_told_again_by_a_worker_that_stood_still(desk: Desk) -> None:
    """For the supervisor nothing moved meanwhile."""
    rates = Rates(upload=1000, download=2000)
    waiting(desk.pool("alice", rates))
    desk.loop.run(3 * TICK)
    desk.sent.clear()
    desk.loop.stand_still(5.0)
    desk.loop.run(TICK)
    assert desk.sent[0] == UserLimits("alice", told(rates))
    desk.loop.run(3 * TICK)
    assert limits_told(desk) == [UserLimits("alice", told(rates))]


def test_of_a_user_without_limits_that_is_told_too(desk: Desk) -> None:
    """There may have been one before, of which only the supervisor knows."""
    waiting(desk.pool("alice", Rates()))
    desk.loop.run(3 * TICK)
    assert limits_told(desk) == [UserLimits("alice", ToldRates())]


def test_limits_that_the_user_manager_changed_are_told_while_the_user_transfers(
    desk: Desk,
) -> None:
    """As in a single process, where the next login changes them for all sessions of the user."""
    for rates in (Rates(upload=1000, download=2000), Rates(upload=5, download=6), Rates()):
        waiting(desk.pool("alice", rates))
        desk.loop.run(3 * TICK)
    assert [each.rates for each in limits_told(desk)] == [
        *(ToldRates(upload=1000, download=2000), ToldRates(upload=5, download=6), ToldRates())
    ]


# ---------------------------------------------------------------------- limits changed by order


def test_a_limit_of_the_server_may_be_set_where_there_was_none() -> None:
    desk = Desk(Rates())
    desk.leases.order(None, Rates(download=1000))
    pools = desk.leases.pools("alice", Rates())
    assert pools is not None
    assert [desk.leases.rate(pool) for pool in pools] == [None, 1000]
    assert [pool.is_limited for pool in pools] == [False, True]
    waiting(pools[DOWNLOAD])
    assert len(desk.after(0.0)) == 1


def test_a_limit_of_the_server_may_be_lifted() -> None:
    desk = Desk(Rates(download=1000))
    desk.leases.order(None, Rates())
    assert desk.leases.pools("alice", Rates()) is None


@pytest.mark.parametrize("ordered", [Rates(download=500), Rates()])
def test_an_order_counts_more_than_what_the_user_manager_says(ordered: Rates) -> None:
    desk = Desk(Rates())
    desk.leases.order("alice", ordered)
    pools = desk.leases.pools("alice", Rates(download=1000))
    assert (pools and desk.leases.rate(pools[DOWNLOAD])) == ordered.download


@pytest.mark.parametrize("rates", [Rates(), Rates(download=2000)])
def test_an_order_that_is_undone_leaves_what_the_user_manager_says(
    desk: Desk, rates: Rates
) -> None:
    desk.leases.order("alice", Rates(download=500))
    pool = desk.pool("alice", rates)
    waiting(pool)
    desk.loop.run(3 * TICK)
    assert desk.leases.rate(pool) == 500
    desk.sent.clear()
    desk.leases.order("alice", None)
    assert limits_told(desk) == [UserLimits("alice", told(rates))]  # at once, since it transfers
    assert desk.leases.rate(pool) == (rates.download or MEGA)


def test_an_order_that_was_never_given_can_be_undone(desk: Desk) -> None:
    waiting(desk.pool("alice", Rates(download=2000)))
    desk.loop.run(3 * TICK)
    desk.sent.clear()
    desk.leases.order("alice", None)
    assert desk.sent == []


@pytest.mark.parametrize("user", [None, 0, 500, 10 * MEGA])
def test_the_tightest_limit_is_the_one_that_counts(desk: Desk, user: int | None) -> None:
    pool = desk.pool("alice", Rates(download=user))
    assert desk.leases.rate(pool) == min(user or MEGA, MEGA)


def test_a_groups_limit_is_one_of_its_users() -> None:
    desk = Desk(Rates(), groups={"staff": Rates(download=MEGA)})
    assert desk.leases.pools("carol", Rates()) is None
    pool = desk.pool("alice", Rates(download=2 * MEGA), group="staff")
    assert desk.leases.rate(pool) == MEGA
    desk.leases.order_group("staff", Rates(download=500))
    assert desk.leases.rate(pool) == 500
    desk.leases.order_group("staff", Rates())
    assert desk.leases.rate(pool) == 2 * MEGA


def test_a_reload_that_puts_a_user_into_a_group_moves_the_sessions_of_old_workers() -> None:
    groups = {"staff": Rates(download=MEGA)}
    quotas = RemoteQuotas(VirtualLoop().as_loop, 1, SpeedLimits(groups=groups))
    account = AccountSpeeds("alice")
    assert quotas.speed_limits(account) is None
    quotas.leases.order("alice", Rates(), "staff")
    limits = quotas.speed_limits(account)
    (pool,) = [each for each in quotas.leases._known_pools("alice") if each.direction == DOWNLOAD]
    assert limits is not None
    assert quotas.leases.rate(pool) == MEGA
    quotas.leases.order("alice", Rates())
    assert quotas.speed_limits(account) is None


# ---------------------------------------------------------------------- silence


def passing(eaters: list[Eater], start: float, end: float) -> int:
    return sum(n for eater in eaters for when, n in eater.moments if start <= when < end)


def test_a_silent_supervisor_is_waited_for_no_longer_than_a_few_ticks(desk: Desk) -> None:
    eater = Eater(desk, desk.pool())
    desk.loop.run(SILENCE - 0.001)
    assert eater.moved == 0
    desk.loop.run(TICK + 0.002)
    assert eater.moved > 0


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("logins", [("alice",), ("alice", "bob", "carol")])
def test_in_silence_the_transfers_go_on_with_the_worker_s_share(
    workers: int, logins: tuple[str, ...]
) -> None:
    desk = Desk(Rates(download=MEGA), workers)
    eaters = [Eater(desk, desk.pool(login)) for login in logins for _ in range(2)]
    desk.loop.run(5.0)
    share = MEGA / workers
    assert passing(eaters, 1.0, 5.0) == pytest.approx(4 * share, rel=0.05)
    for tenth in range(40):
        assert passing(eaters, tenth / 10, tenth / 10 + 1.0) <= share * (1.0001 + TICK)
    moved = [eater.moved for eater in eaters]
    assert max(moved) - min(moved) <= share * TICK


def test_in_silence_a_user_has_no_more_than_his_limit_s_share() -> None:
    desk = Desk(Rates(download=100 * MEGA), workers=2)
    eaters = [Eater(desk, desk.pool("alice", Rates(download=200_000))) for _ in range(5)]
    desk.loop.run(3.0)
    assert passing(eaters, 1.0, 3.0) == pytest.approx(2 * 100_000, rel=0.05)
    assert passing(eaters, 0.0, 3.0) <= 3 * 100_000


def test_in_silence_a_group_has_no_more_than_its_limits_share() -> None:
    desk = Desk(Rates(), workers=2, groups={"staff": Rates(download=MEGA)})
    alone = [Eater(desk, desk.pool("carol", Rates(download=200_000)))]
    staff = [Eater(desk, desk.pool(login, group="staff")) for login in ("alice", "bob")]
    desk.loop.run(3.0)
    assert passing(staff, 1.0, 3.0) == pytest.approx(2 * MEGA / 2, rel=0.05)
    assert passing(staff, 0.0, 3.0) <= 3 * MEGA / 2
    assert passing(alone, 1.0, 3.0) == pytest.approx(2 * 200_000 / 2, rel=0.05)


def test_in_silence_both_directions_have_a_share_of_their_own() -> None:
    desk = Desk(Rates(upload=MEGA, download=MEGA), workers=2)
    pools = desk.leases.pools("alice", Rates())
    assert pools is not None
    eaters = [Eater(desk, pool) for pool in pools]
    desk.loop.run(3.0)
    for eater in eaters:
        assert passing([eater], 1.0, 3.0) == pytest.approx(MEGA, rel=0.05)


def test_who_is_heard_again_is_waited_for_again(desk: Desk) -> None:
    eater = Eater(desk, desk.pool())
    desk.loop.run(1.0)
    before = eater.moved
    desk.grant(100)
    assert desk.loop.now == 1.0
    desk.loop.run(SILENCE - 2 * TICK)
    assert eater.moved == before + 100


def test_whoever_waits_after_a_quiet_while_does_not_take_that_for_silence() -> None:
    """The supervisor says nothing to whom nobody waits for; that is no reason to go on alone."""
    desk = Desk(Rates(download=MEGA), workers=1)
    lease, _ = waiting(desk.pool())
    desk.loop.run(0.0)
    desk.grant(1000)
    desk.loop.run(10 * SILENCE)  # the client takes nothing: what was granted goes back
    assert spend(lease, 0) is not None
    for _ in range(3):
        desk.loop.run(TICK)
        assert lease.in_hand == 0


def test_in_silence_a_transfer_that_waits_costs_few_messages(desk: Desk) -> None:
    """They pile up in the channel, and the supervisor has to read them all when it goes on."""
    for login in ("alice", "bob", "carol"):
        Eater(desk, desk.pool(login))
    desk.loop.run(0.0)
    desk.grant(1000, contended=False)
    desk.sent.clear()
    desk.loop.run(2.0)
    assert len(desk.messages) <= 2 * 2.0 / TICK


def test_a_lease_is_let_go_in_a_real_loop_too() -> None:
    """The loop above is made up: once with a real one."""

    async def run() -> None:
        sent: list[Message] = []
        loop = asyncio.get_running_loop()
        leases = RemoteLeases(loop, 1, SpeedLimits(server=Rates(download=MEGA)), sent.append)
        pools = leases.pools("alice", Rates())
        assert pools is not None
        lease = pools[DOWNLOAD].open(loop.time())
        waiter = spend(lease, 0)
        assert waiter is not None
        await until_sent(sent)
        leases.on_grants(Grants((Grant("alice", DOWNLOAD, 10_000),), (False, False)))
        async with asyncio.timeout(20):
            await waiter
        assert lease.in_hand == 10_000
        lease.close()

    asyncio.run(run())


async def until_sent(
    sent: list[Message], is_there: Callable[[list[Message]], object] = len
) -> None:
    async with asyncio.timeout(20):
        while not is_there(sent):
            await asyncio.sleep(0)
