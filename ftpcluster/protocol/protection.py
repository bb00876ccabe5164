"""Whether and when a control connection is protected by TLS (RFC 4217)."""

from __future__ import annotations

from enum import Enum


class Protection(Enum):
    """How connections to a listener begin. Without a certificate EXPLICIT means the same as OFF."""

    EXPLICIT = "explicit"  # as plain text; AUTH TLS protects them
    IMPLICIT = "implicit"  # with TLS
    OFF = "off"  # as plain text, and AUTH is refused
