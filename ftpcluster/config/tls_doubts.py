"""Warnings about ``[tls]``: what is no error, but keeps clients away."""

from __future__ import annotations

from collections.abc import Iterator

from ftpcluster.config.model import Config
from ftpcluster.net.certificate_dates import doubts_about
from ftpcluster.net.tls_sessions import NO_RENEWAL, NO_RENEWAL_OF_1_3, can_renew


def tls_doubts(config: Config, certificates: tuple[bytes, ...] | None) -> Iterator[str]:
    """``certificates``: the contents of the files now, the server's own first."""
    if config.tls is None or certificates is None:
        return
    yield from doubts_about(config.tls.certificate, certificates[0])
    if config.tls.require_session_reuse and not can_renew():
        yield NO_RENEWAL_OF_1_3 if config.tls.minimum_version == "1.3" else NO_RENEWAL
