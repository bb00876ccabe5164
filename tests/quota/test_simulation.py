"""Shared limits in virtual time: real leases and a real supervisor's speed, made-up transfers.

``tests.support.simulation`` has the large scenes; these are small, and can fail.
"""

from __future__ import annotations

import itertools

import pytest

from ftpcluster.quota.limit_tree import TICK
from ftpcluster.quota.rates import DOWNLOAD, Rates
from tests.support.simulation import Scene, Simulation, Transfer, jain

LIMIT = 100_000_000
PAUSE = 0.25
SMOOTH_FROM = 100_000
"""Bytes per second from which a transfer must not pause for longer than that."""


def restarted(simulation: Simulation, after: float) -> Simulation:
    simulation.loop.run(after)
    simulation.restart_clocks()
    return simulation


def test_transfers_that_come_and_go_keep_the_limit_and_their_fair_parts() -> None:
    """8 workers, 400 transfers at a time of clients of all speeds, 2 probes on each worker."""
    simulation = restarted(Simulation(Scene(LIMIT, workers=8, transfers=400, probes=2)), 1.0)
    simulation.loop.run(5.0)
    assert 0.95 <= simulation.total(5.0) <= 1.02
    assert simulation.most_in(1.0) <= 1.1
    probes = simulation.probes
    assert jain([probe.moved for probe in probes]) >= 0.98
    assert min(probe.moved for probe in probes) / 5.0 >= SMOOTH_FROM
    assert max(probe.longest_pause for probe in probes) <= PAUSE


def test_many_users_share_a_limit_fairly_however_many_transfers_each_has() -> None:
    simulation = Simulation(Scene(LIMIT, workers=8, transfers=0, probes=0))
    workers = list(simulation.workers.values())
    users = [
        [simulation.begin(workers[(user + n) % 8], f"user-{user}", float("inf"), 1e9)
         for n in range(1 + user % 4)]
        for user in range(12)
    ]  # fmt: skip
    restarted(simulation, 1.0).loop.run(5.0)
    assert 0.95 <= simulation.total(5.0) <= 1.02
    totals = [sum(transfer.moved for transfer in transfers) for transfers in users]
    # what they moved in the first second is counted too; it is fair as well
    assert jain(totals) >= 0.98
    for transfers in users:
        assert jain([transfer.moved for transfer in transfers]) >= 0.98


def test_limits_of_users_and_of_the_server_hold_at_the_same_time() -> None:
    scene = Scene(LIMIT, workers=4, transfers=0, probes=0, user_limit=LIMIT // 10)
    simulation = Simulation(scene)
    workers = list(simulation.workers.values())
    capped = [simulation.begin(worker, "capped", float("inf"), 1e9) for worker in workers]
    free = []
    for number, worker in enumerate(workers):
        pools = worker.leases.pools(f"free-{number}", Rates())
        assert pools is not None
        free.append(Transfer(simulation, worker, pools[DOWNLOAD], float("inf"), 1e9))
    simulation.loop.run(1.0)
    for transfer in capped + free:
        transfer.restart_clocks()
    restarted(simulation, 0.0).loop.run(5.0)
    of_the_user = sum(transfer.moved for transfer in capped) / 5.0
    assert 0.95 * LIMIT / 10 <= of_the_user <= 1.02 * LIMIT / 10
    assert 0.95 <= simulation.total(5.0) <= 1.02
    assert jain([transfer.moved for transfer in capped]) >= 0.98
    assert jain([transfer.moved for transfer in free]) >= 0.98


def test_groups_and_users_have_equal_parts_of_what_the_servers_limit_leaves_them() -> None:
    """A group at its limit, one that the server's limit holds, and a user of none."""
    users = {"small": ("alice", "bob"), "large": ("carol", "dave", "erin"), "": ("frank",)}
    groups = {"small": LIMIT // 10, "large": LIMIT}
    group_of = {login: name for name, logins in users.items() if name for login in logins}
    scene = Scene(LIMIT, workers=4, transfers=0, probes=0, groups=groups, group_of=group_of)
    simulation = Simulation(scene)
    workers = itertools.cycle(simulation.workers.values())
    transfers = {
        login: [simulation.begin(next(workers), login, float("inf"), 1e9) for _ in range(1 + n)]
        for logins in users.values()
        for n, login in enumerate(logins)
    }
    simulation.loop.run(1.0)
    for transfer in itertools.chain(*transfers.values()):
        transfer.restart_clocks()
    restarted(simulation, 0.0).loop.run(5.0)
    moved = {login: sum(each.moved for each in mine) for login, mine in transfers.items()}
    small, large, alone = (sum(moved[login] for login in logins) for logins in users.values())
    assert 0.95 <= small / (5 * LIMIT / 10) <= 1.02
    assert large == pytest.approx(alone, rel=0.03)
    assert 0.95 <= simulation.total(5.0) <= 1.02
    for logins in users.values():
        assert jain([moved[login] for login in logins]) >= 0.98


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_limit_that_is_not_reached_holds_nobody_back(part: float) -> None:
    simulation = Simulation(Scene(LIMIT, workers=4, transfers=0, probes=0))
    workers = list(simulation.workers.values())
    speed = LIMIT * part / 20
    transfers = [
        simulation.begin(workers[n % 4], f"user-{n % 3}", float("inf"), speed) for n in range(20)
    ]
    simulation.loop.run(1.0)
    for transfer in transfers:
        transfer.restart_clocks()
    restarted(simulation, 0.0).loop.run(3.0)
    for transfer in transfers:
        assert transfer.moved / 3.0 == pytest.approx(speed, rel=0.03)
        assert transfer.longest_pause <= PAUSE


def test_a_small_file_does_not_wait_for_a_user_who_is_at_his_own_limit() -> None:
    simulation = Simulation(Scene(LIMIT, workers=2, transfers=0, probes=0, user_limit=LIMIT // 100))
    first, second = simulation.workers.values()
    simulation.begin(first, "capped", float("inf"), 1e9)
    simulation.loop.run(1.0)
    for number in range(20):
        pools = second.leases.pools(f"free-{number}", Rates())
        assert pools is not None
        transfer = Transfer(simulation, second, pools[DOWNLOAD], 4096, 1e9)
        simulation.loop.run(0.005)
        assert transfer.is_over
        simulation.loop.run(0.0171)


def test_a_worker_that_dies_leaves_its_part_to_the_others() -> None:
    simulation = restarted(Simulation(Scene(LIMIT, workers=4, transfers=16, probes=4)), 1.0)
    simulation.kill(1)
    simulation.loop.run(5.0)
    assert 0.95 <= simulation.total(5.0) <= 1.02
    assert simulation.most_in(1.0) <= 1.1
    alive = [probe for probe in simulation.probes if not probe.is_over]
    assert len(alive) == 12
    assert jain([probe.moved for probe in alive]) >= 0.98


@pytest.mark.parametrize("users", [1, 5])
def test_a_limit_that_is_changed_holds_within_moments(users: int) -> None:
    simulation = Simulation(Scene(LIMIT, workers=4, transfers=0, probes=0))
    for worker in simulation.workers.values():
        for user in range(users):
            simulation.begin(worker, f"user-{user}", float("inf"), 1e9)
    simulation.loop.run(1.0)
    simulation.set_limit(LIMIT // 10)
    simulation.loop.run(0.2)
    simulation.restart_clocks()
    simulation.loop.run(2.0)
    assert simulation.total(2.0) == pytest.approx(0.1, rel=0.05)
    simulation.set_limit(LIMIT)
    simulation.loop.run(0.2)
    simulation.restart_clocks()
    simulation.loop.run(2.0)
    assert simulation.total(2.0) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("users", [1, 5])
@pytest.mark.parametrize("moment", [n * TICK / 5 for n in range(5)])
def test_a_supervisor_that_stands_still_costs_no_limit_and_stops_nobody(
    users: int, moment: float
) -> None:
    simulation = Simulation(Scene(LIMIT, workers=4, transfers=0, probes=0))
    transfers = [
        simulation.begin(worker, f"user-{n % users}", float("inf"), 1e9)
        for worker in simulation.workers.values()
        for n in range(5)
    ]
    restarted(simulation, 1.0).loop.run(0.5 + moment)
    simulation.supervisor.stop(2.0)
    for transfer in transfers:
        transfer.restart_clocks()
    simulation.loop.run(2.0)
    assert all(transfer.moved for transfer in transfers)
    assert max(transfer.longest_pause for transfer in transfers) <= PAUSE + 2 * TICK
    simulation.loop.run(2.0)
    assert simulation.total(4.5 + moment) >= 0.9
    assert simulation.most_in(1.0) <= 1.1


def test_all_falls_silent_when_the_last_transfer_is_over() -> None:
    simulation = Simulation(Scene(LIMIT, workers=2, transfers=0, probes=0))
    for worker in simulation.workers.values():
        simulation.begin(worker, "user", 1_000_000, 1e9)
    simulation.loop.run(2.0)
    assert sum(simulation.moved.values()) == 2_000_000
    simulation.restart_clocks()
    simulation.loop.run(10.0)
    work = simulation.supervisor.work
    assert (work.received, work.sent, simulation.loop.is_idle) == (0, 0, True)
