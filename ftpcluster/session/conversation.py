"""Who talks to whom, and how."""

from __future__ import annotations

import msgspec

from ftpcluster.protocol.protection import Protection


class Conversation(msgspec.Struct, frozen=True):
    """Who talks to whom, and how: addresses and the session's number, for logs and for 227.

    ``proxy``: the address of the proxy in between, which may bring data connections, too.
    """

    session: int
    peer: str
    peer_port: int
    tls: Protection = Protection.EXPLICIT
    proxy: str | None = None
