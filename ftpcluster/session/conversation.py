"""Who talks to whom, and how."""

from __future__ import annotations

import msgspec

from ftpcluster.protocol.protection import Protection


class Conversation(msgspec.Struct, frozen=True):
    """Who talks to whom, and how: addresses and the session's number, for logs and for 227.

    ``proxy``: the address of the proxy in between, which may bring data connections, too;
    ``reached``: the IPv4 address of the proxy's that the client went to, where that is known.
    ``any_address``: whether data connections may come from others than the peer.
    """

    session: int
    peer: str
    peer_port: int
    tls: Protection = Protection.EXPLICIT
    proxy: str | None = None
    reached: str | None = None
    any_address: bool = False
