"""The limits that sessions share, from the configuration: for supervisor and workers."""

from __future__ import annotations

from ftpcluster.config import Config
from ftpcluster.config.checks import accounts
from ftpcluster.ipc.messages import sendable
from ftpcluster.quota.rates import Rates, SpeedLimits


def speed_limits(config: Config) -> SpeedLimits:
    """The speed limits of the server, and of the groups and users of the configuration."""
    return SpeedLimits(
        server=Rates(upload=config.limits.upload, download=config.limits.download),
        groups={
            sendable(group.name): Rates(upload=group.upload, download=group.download)
            for group in config.groups
        },
        users={
            sendable(login): Rates(upload=account.upload, download=account.download)
            for _, login, account in accounts(config)
        },
        group_of=groups_of_users(config),
    )


def groups_of_users(config: Config) -> dict[str, str]:
    """The group of each user who is in one."""
    return {
        sendable(user.login): sendable(user.group)
        for user in config.users
        if user.group is not None
    }
