"""The table about addresses that are turned away."""

from __future__ import annotations

from typing import Annotated

from ftpcluster.config.kinds import Duration, Failures, NetworkList
from ftpcluster.config.setting import Keyword, Setting, Table

LOOPBACK = ("127.0.0.0/8", "::1/128")


class BanConfig(Table, frozen=True, kw_only=True):
    """Addresses that guess passwords are turned away for a while."""

    failures: Annotated[
        Failures,
        Setting(
            "failed logins of an address (IPv6: of a /64) within `window` that ban it",
            keyword=Keyword("ban_failures", "int | None"),
        ),
    ] = 10
    window: Annotated[
        Duration,
        Setting(
            "for how long a failed login counts",
            keyword=Keyword("ban_window", "float", default=600.0),
        ),
    ] = 600
    duration: Annotated[
        Duration,
        Setting("how long a ban lasts", keyword=Keyword("ban_duration", "float", default=1800.0)),
    ] = 1800
    allow: Annotated[
        NetworkList,
        Setting(
            "never banned, never slowed down beyond the first 3 s",
            ", nor bound by `limits.new_connections_per_address`; `[]` spares nobody, "
            '`["0.0.0.0/0", "::/0"]` everybody',
            keyword=Keyword("ban_allow", "Iterable[str]", default=LOOPBACK),
        ),
    ] = LOOPBACK
    deny: Annotated[
        NetworkList,
        Setting(
            "always turned away, with 421",
            ". Where `allow` has the address, too, the narrower network decides. A reload ends no"
            " session: `ftpcluster ban` does",
            otherwise="none",
            example='["203.0.113.0/24"]',
            keyword=Keyword("ban_deny", "Iterable[str]", default=()),
        ),
    ] = ()
