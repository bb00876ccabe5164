"""What commands set for later ones: until it is changed, or until one has used it."""

from __future__ import annotations

import msgspec

from ftpcluster.protocol.listing import FACTS


class TransferParameters(msgspec.Struct):
    """What holds until it is changed. RFC 959 section 5.1: ASCII is the default.

    ``epsv_only``: EPSV ALL was said (RFC 2428 section 4). ``facts``: those of MLSD and MLST.
    ``protected``: data connections are encrypted (PROT P).
    """

    binary: bool = False
    epsv_only: bool = False
    facts: tuple[str, ...] = FACTS
    hash_algorithm: str = "SHA-256"
    protected: bool = False


class Pending(msgspec.Struct):
    """What commands set for one later command, which uses it up. Other commands may come between.

    ``restart``: where the next transfer begins. ``hash_range``: the next HASH looks at the bytes
    from the first offset to before the second. ``rename_from``: the path of RNFR, for RNTO.
    """

    restart: int = 0
    hash_range: tuple[int, int] | None = None
    rename_from: str | None = None
