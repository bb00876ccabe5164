"""The limits that sessions share, from the configuration: for supervisor and workers."""

from __future__ import annotations

from ftpcluster.config import Config
from ftpcluster.config.checks import accounts
from ftpcluster.ipc.messages import sendable
from ftpcluster.quota.rates import Rates, SpeedLimits


def speed_limits(config: Config) -> SpeedLimits:
    """The speed limits of the server, and of the users that the configuration knows."""
    return SpeedLimits(
        server=Rates(upload=config.limits.upload, download=config.limits.download),
        users={
            sendable(login): Rates(upload=account.upload, download=account.download)
            for _, login, account in accounts(config)
        },
    )
