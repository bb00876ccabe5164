"""The types of a ``Server``'s keywords, for type checkers.

Made from the declarations, see ``server_arguments.py``: ``python -m tests.support.documents``
writes this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from ftpcluster.compat.pathio import AbstractPathIO
from ftpcluster.net.certificates import Source


class Keywords(TypedDict, total=False):
    """Keywords of ``Server``; all of them may be left out."""

    block_size: int
    wait_future_timeout: float | None
    path_timeout: float | None
    path_io_factory: Callable[..., AbstractPathIO[Any]]
    encoding: str
    ssl: Source | None
    tls: Source | None
    system_type: str
    login_delay: float
    welcome_message: str
    proxy_protocol: Iterable[str] | None
    require_tls: bool
    require_tls_data: bool
    require_session_reuse: bool
    strict_tls_eof: bool
    data_ports: Iterable[int] | None
    ipv4_pasv_forced_response_address: str | None
    masquerade_for: Mapping[str, str] | None
    active_port: int | None
    any_address: bool
    maximum_connections: int | None
    maximum_connections_per_address: int | None
    new_connections_per_address: str | None
    write_speed_limit: int | None
    read_speed_limit: int | None
    write_speed_limit_per_connection: int | None
    read_speed_limit_per_connection: int | None
    login_timeout: float | None
    idle_timeout: float | None
    data_timeout: float
    socket_timeout: float | None
    storage_timeout: float
    keepalive: float | None
    durable_uploads: bool
    atomic_uploads: bool
    hide: Iterable[str]
    forbid: Iterable[str]
    rename_replaces: bool
    ban_failures: int | None
    ban_window: float
    ban_duration: float
    ban_allow: Iterable[str]
    ban_deny: Iterable[str]
