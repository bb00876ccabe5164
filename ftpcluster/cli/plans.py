"""What the supervisor needs of a configuration: a plan for a generation of workers."""

from __future__ import annotations

from ftpcluster.cli.binding import Binder, listeners_of
from ftpcluster.cli.logfiles import LogFiles
from ftpcluster.cli.worker_start import WorkerStarter
from ftpcluster.config import Config
from ftpcluster.config.sessions import keepalive_of
from ftpcluster.ipc.messages import sendable
from ftpcluster.net.listeners import CannotListen
from ftpcluster.protocol.address import Networks
from ftpcluster.quota.arrivals import ArrivalRules
from ftpcluster.quota.bans import BanRules
from ftpcluster.quota.ledger import ConnectionLimits
from ftpcluster.supervisor.forking import ForkServer
from ftpcluster.supervisor.restart import Recycling
from ftpcluster.supervisor.worker_handle import Plan
from ftpcluster.worker.config_in_memory import Packed
from ftpcluster.worker.speed_limits import groups_of_users, speed_limits


def make_plan(
    config: Config,
    certificates: tuple[bytes, ...] | None,
    binder: Binder,
    logs: LogFiles,
    forks: ForkServer | None,
) -> Plan:
    """The plan for the supervisor. Raises CannotListen; then nothing is left open."""
    timeouts = config.timeouts
    try:
        listeners = listeners_of(config, binder)
    except CannotListen:
        binder.close()
        raise
    return Plan(
        listeners=listeners,
        workers=config.workers,
        start_process=WorkerStarter(config, Packed(config, certificates), logs, forks),
        limits=connection_limits(config),
        speeds=speed_limits(config),
        knows_all_users=config.server is None and config.user_manager is None,
        bans=BanRules(
            failures=config.ban.failures,
            window=config.ban.window,
            duration=config.ban.duration,
            allow=Networks(config.ban.allow),
        ),
        arrivals=_arrivals(config),
        shutdown_grace=timeouts.shutdown,
        drain_grace=timeouts.shutdown if timeouts.drain is None else timeouts.drain,
        names=config.data.host_names,
        keepalive=keepalive_of(config),
        worker_timeout=timeouts.worker,
        recycling=Recycling(config.recycle.memory, config.recycle.age),
    )


def _arrivals(config: Config) -> ArrivalRules:
    rate = config.limits.new_connections_per_address
    allow, deny = Networks(config.ban.allow), Networks(config.ban.deny)
    if rate is None:
        return ArrivalRules(allow=allow, deny=deny)
    return ArrivalRules(most=rate[0], period=rate[1], allow=allow, deny=deny)


def connection_limits(config: Config) -> ConnectionLimits:
    """The bounds on connections, of groups, too."""
    return ConnectionLimits(
        server=config.limits.connections,
        per_address=config.limits.connections_per_address,
        unauthenticated=config.limits.connections_not_logged_in,
        groups={
            sendable(group.name): group.connections
            for group in config.groups
            if group.connections is not None
        },
        group_of=groups_of_users(config),
    )
