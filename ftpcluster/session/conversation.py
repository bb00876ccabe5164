"""Who talks to whom, and how."""

from __future__ import annotations

import msgspec

from ftpcluster.protocol.protection import Protection


class Conversation(msgspec.Struct, frozen=True):
    """Who talks to whom, and how: addresses and the session's number, for logs and for 227.

    ``proxy``: the address of the proxy in between; data connections may come through it, too.
    ``reached``: the proxy's IPv4 address that the client connected to, where that is known.
    ``any_address``: whether data connections may come from other addresses than the peer's.
    """

    session: int
    peer: str
    peer_port: int
    tls: Protection = Protection.EXPLICIT
    proxy: str | None = None
    reached: str | None = None
    any_address: bool = False
