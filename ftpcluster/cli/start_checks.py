"""Checks by trial, for ``run`` and ``check``: of sockets to bind, and of files to write."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from contextlib import ExitStack
from itertools import combinations, takewhile

from ftpcluster.cli.logfiles import why_not
from ftpcluster.cli.state_directory import is_state_directory
from ftpcluster.config import Config, Listen
from ftpcluster.config.lines import Path
from ftpcluster.config.naming import quoted
from ftpcluster.config.progress import looking_at
from ftpcluster.config.sources import Sources
from ftpcluster.logfile import try_to_open
from ftpcluster.net.active import why_no_source_port
from ftpcluster.net.listeners import CannotListen, listen, listen_on_all, may_bind
from ftpcluster.privileges import may_write_in, parse_run_as
from ftpcluster.safe_paths import UnsafePath, acting_for

_LONGEST_SOCKET = 107
"""Bytes of the path of a UNIX socket: unix(7)."""
_TRIES = 3
"""Free ports that are tried: one that is free on an address may be taken on another one."""
_EVERYWHERE = {"0.0.0.0": 4, "::": 6}


def check_start(config: Config, sources: Sources) -> None:
    """Refuse settings with which a start would fail."""
    for each in (
        _check_log_files, _check_logs_apart, _check_ban_file, _check_metrics, _check_admin_socket,
        _check_addresses, _check_privileged_ports, _check_overlaps, _check_ports,
        _check_masquerade, _check_active_port,
    ):  # fmt: skip
        each(config, sources)


def _check_log_files(config: Config, sources: Sources) -> None:
    knows_user = sources.is_sound(("run_as",))
    run_as = config.run_as if knows_user else None
    identity = None if run_as is None else parse_run_as(run_as)
    for name in ("file", "transfers"):
        path = ("log", name)
        file = getattr(config.log, name) if sources.is_sound(path) else None
        if file is not None:
            looking_at(f"{file} (log.{name})")
            try:
                try_to_open(file, identity)
            except OSError as error:
                # the user whose directory that is may be the one whom run_as means
                if knows_user or not isinstance(error, UnsafePath):
                    sources.refuse(path, why_not(error), about=file)


def _check_logs_apart(config: Config, sources: Sources) -> None:
    """Refuse a file with two purposes: log lines would be read as configuration or transfers."""
    known = {} if sources.file is None else {os.path.realpath(sources.file): "the configuration"}
    for table, name in (("log", "file"), ("log", "transfers"), ("ban", "file")):
        path = (table, name)
        file = getattr(getattr(config, table), name) if sources.is_sound(path) else None
        if file is not None:
            other = known.setdefault(os.path.realpath(file), f"{table}.{name}")
            if other != f"{table}.{name}":
                sources.refuse(path, f"is {other}, too; name another file", about=file)


def _check_ban_file(config: Config, sources: Sources) -> None:
    path, file = ("ban", "file"), config.ban.file
    if file is None or not sources.is_sound(path, ("run_as",)):
        return
    looking_at(f"{file} (ban.file)")
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            sources.refuse(path, "is no regular file; name a file that may be made", about=file)
            return
    except FileNotFoundError:
        pass
    except OSError as error:
        sources.refuse(path, f"cannot be used: {error.strerror}", about=file)
        return
    directory = os.path.dirname(os.path.abspath(file))
    try:
        if config.run_as is None:
            with acting_for(file, None):
                pass
    except UnsafePath as error:
        sources.refuse(path, str(error), about=file)
        return
    if not os.path.isdir(directory):
        sources.refuse(path, "its directory is not there; make it", about=file)
    elif config.run_as is None or os.geteuid() != 0:
        if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            sources.refuse(
                path, "not permitted; let the user who starts the server write there", about=file
            )
    elif not is_state_directory(directory):
        identity = parse_run_as(config.run_as)
        if not may_write_in(identity, directory):
            how = f"`chown {identity.name} {shlex.quote(directory)}`, or name another directory"
            who = f"{quoted(identity.name)} (run_as) may not write in its directory"
            sources.refuse(path, f"{who}; {how}", about=file)


def _check_metrics(config: Config, sources: Sources) -> None:
    path = ("metrics", "listen")
    if sources.is_sound(path) and config.metrics.listen is not None:
        try:
            import prometheus_client.core  # noqa: F401
        except ImportError:
            sources.refuse(path, "needs prometheus-client: pip install 'ftpcluster[metrics]'")


def _check_admin_socket(config: Config, sources: Sources) -> None:
    path = ("admin", "socket")
    place = config.admin.socket
    if place is None or not sources.is_sound(path, ("admin", "enabled")):
        return
    if not config.admin.enabled:
        return
    looking_at(f"{place} (admin.socket)")
    if len(os.fsencode(place)) > _LONGEST_SOCKET:
        sources.refuse(path, f"longer than {_LONGEST_SOCKET} bytes, as no socket's path may be")
        return
    try:
        with acting_for(place, None):
            if not stat.S_ISSOCK(os.lstat(place).st_mode):
                sources.refuse(
                    path, "there is something else; remove it, or name another path", about=place
                )
    except FileNotFoundError:
        _check_directory(path, place, sources)
    except UnsafePath as error:
        sources.refuse(path, str(error), about=place)
    except OSError as error:
        sources.refuse(path, f"cannot be used: {error.strerror}", about=place)


def _check_directory(path: Path, place: str, sources: Sources) -> None:
    """Try to make the missing directories, as a start does, and remove them again."""
    missing = []
    directory = parent = os.path.dirname(os.path.abspath(place))
    while not os.path.lexists(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    made = []
    try:
        for each in reversed(missing):
            os.mkdir(each)
            made.append(each)
        if not os.access(parent, os.W_OK | os.X_OK, effective_ids=True):
            sources.refuse(path, "not permitted; let the user who starts the server write there")
    except OSError as error:
        sources.refuse(path, f"its directory cannot be made: {error.strerror}", about=place)
    finally:
        for each in reversed(made):
            os.rmdir(each)


def _brings_sockets() -> bool:
    """Whether a service manager has opened the sockets; then none is bound."""
    return "LISTEN_FDS" in os.environ


def _check_addresses(config: Config, sources: Sources) -> None:
    """Refuse addresses of other machines. Ports are not tried: this server may have them."""
    for index, each in enumerate(config.listen or ()):
        path: Path = ("listen", index)
        if not sources.is_sound(path) or _brings_sockets():
            continue
        for address in each.address or ():
            try:
                looking_at(f"the name service, which is asked for {address} (listen)")
                listen(address, 0).close()
            except CannotListen as error:
                sources.refuse((*path, "address"), str(error))


def _check_privileged_ports(config: Config, sources: Sources) -> None:
    """Refuse ports that only root may bind. A port that is taken may be this server's own."""
    ports: list[tuple[Path, int]] = [
        (("listen", index, "port"), each.port) for index, each in enumerate(config.listen or ())
    ]
    if config.metrics.listen is not None:
        ports.append((("metrics", "listen"), config.metrics.listen[1]))
    for path, port in ports:
        is_ours = path[0] == "listen" and _brings_sockets()
        if sources.is_sound(path) and not is_ours and not may_bind(port):
            sources.refuse(
                path,
                f"port {port} is not permitted; start the server as root or with "
                "CAP_NET_BIND_SERVICE (AmbientCapabilities= of systemd), or choose a port from "
                "1024 on",
            )


def _check_overlaps(config: Config, sources: Sources) -> None:
    """Refuse a port that one listener has on all addresses, and another on one of them."""
    numbered = [
        (index, each)
        for index, each in enumerate(config.listen or ())
        if sources.is_sound(("listen", index))
    ]
    for (first, one), (second, other) in combinations(numbered, 2):
        if one.port == other.port != 0 and not _brings_sockets():
            both = _families(one, everywhere=True) & _families(other, everywhere=False)
            both |= _families(one, everywhere=False) & _families(other, everywhere=True)
            if both:
                sources.refuse(
                    ("listen", second),
                    f"port {other.port} is that of listen[{first}], too, and one of them has all "
                    "addresses: name addresses, or another port",
                )


def _families(listener: Listen, *, everywhere: bool) -> set[int]:
    """The IP versions of which a listener has all addresses (``everywhere``), or single ones."""
    addresses = listener.address or tuple(_EVERYWHERE)
    return {
        6 if ":" in address else 4
        for address in addresses
        if (address in _EVERYWHERE) is everywhere
    }


def _check_ports(config: Config, sources: Sources) -> None:
    """Try the listeners of one port together, at a port that is free now."""
    places: dict[int, list[tuple[Path, tuple[str, ...]]]] = {}
    for index, each in enumerate(config.listen or ()):
        if not _brings_sockets():
            path: Path = ("listen", index)
            places.setdefault(each.port, []).append((path, each.address or ()))
    if config.metrics.listen is not None:
        host, port = config.metrics.listen
        places.setdefault(port, []).append((("metrics", "listen"), (host,)))
    for port, some in places.items():
        if all(sources.is_sound(path) for path, _ in some):
            tries = (_listened_together(some, is_one_port=port != 0) for _ in range(_TRIES))
            wrong = [*takewhile(bool, tries)]
            if len(wrong) == _TRIES and wrong[-1] is not None:
                sources.refuse(*wrong[-1])


def _listened_together(
    places: list[tuple[Path, tuple[str, ...]]], *, is_one_port: bool
) -> tuple[Path, str] | None:
    """Which place cannot be listened on beside those before it, and why."""
    with ExitStack() as stack:
        port = 0
        for path, addresses in places:
            looking_at(f"addresses to listen on: {', '.join(addresses) or 'all'}")
            try:
                for sock in listen_on_all(addresses, port):
                    stack.enter_context(sock)
                    port = sock.getsockname()[1] if is_one_port else 0
            except CannotListen as error:
                cause = error.__cause__
                if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
                    return path, "its port is taken by another address or listener of this file"
                return path, str(error)
    return None


def _check_masquerade(config: Config, sources: Sources) -> None:
    path = ("data", "masquerade")
    if sources.is_sound(path) and config.data.masquerade == "0.0.0.0":
        sources.refuse(path, "0.0.0.0 is no address that a client could connect to")


def _check_active_port(config: Config, sources: Sources) -> None:
    path, port = ("data", "active_port"), config.data.active_port
    if sources.is_sound(path, ("data", "active")) and config.data.active and port is not None:
        why = why_no_source_port(port)
        if why is not None:
            sources.refuse(path, why)
