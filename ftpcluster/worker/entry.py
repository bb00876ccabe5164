"""The first functions of a worker process; the CLI hands them to the supervisor.

They import the sessions' code only when they run. The supervisor has to import this module, to name
its functions, but so it never loads that code.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
from multiprocessing import resource_tracker
from typing import Any

from ftpcluster.config import Config, ConfigError, WorkerConfig
from ftpcluster.ipc.channel import report_failure
from ftpcluster.linewriter import hold_threads, release_threads
from ftpcluster.logfile import LogFile
from ftpcluster.logs import LogFormat, log_to
from ftpcluster.passwords import share_cores
from ftpcluster.prctl import keep_capabilities, name_process, no_new_privs
from ftpcluster.runtime import settle_collector
from ftpcluster.worker.confined_files import NOTHING, Identity
from ftpcluster.worker.orphan import end_with, ending_with, handle_of, wake_at_parents_death

log = logging.getLogger(__name__)

NOT_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals that only the supervisor obeys, even if all processes get them."""
_NEEDED = (0, 1, 3, 4, 10)
"""CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER and CAP_FSETID, to serve files of any owner as root, and
CAP_NET_BIND_SERVICE for data ports below 1024. With ``run_as`` all are gone already, except the
last where `data.active_port` needs it."""


def new_uvloop() -> asyncio.AbstractEventLoop:
    """A uvloop loop without an io_uring, for a process that will be confined."""
    import uvloop

    from ftpcluster.worker.seccomp import refuse_rings

    no_new_privs()
    refuse_rings()

    return uvloop.new_event_loop()


async def run_worker(
    sock: socket.socket, settings: WorkerConfig, supervisor: int, transfers: LogFile | None
) -> None:
    """The coroutine that a worker process runs. ``supervisor`` is a pid: the worker ends with it.

    ``transfers``: the log of transfers.
    """
    from ftpcluster.worker.worker import OpenedBeforehand, Worker

    loop = asyncio.get_running_loop()
    share_cores(settings.config.workers)
    if transfers is not None:
        transfers.prepare()
    if settings.config.storage.umask is not None:
        os.umask(settings.config.storage.umask)
    handle = handle_of(supervisor)
    opened = OpenedBeforehand()
    try:
        allowed = _import_and_confine(settings.config, handle)
        end_with(handle)  # starts a thread: too late to be confined from here on
        release_threads()
        worker = Worker(loop, sock, settings, transfers, opened)
    except ConfigError as error:
        report_failure(sock, str(error))
        return
    if allowed is not None:
        worker.watch_roots(allowed)
    settle_collector()
    await worker.serve()


def _import_and_confine(config: Config, handle: int) -> dict[str, Identity] | None:
    """Import custom code, and confine this process before any of it is called.

    An import reads files that no key names: modules, and files beside them. Returns the result of
    ``_confine``; None where the configuration does not confine. Raises ConfigError.
    """
    from ftpcluster.worker import custom_classes
    from ftpcluster.worker.confinement import HasThreads

    with ending_with(handle):
        custom_classes.look(config)
    if not config.confine:
        return None
    try:
        return _confine(config)
    except HasThreads as error:
        named = [f"{key} {value}" for key in custom_classes.KEYS if (value := getattr(config, key))]
        if not named:
            raise
        raise ConfigError(
            f"{', '.join(named)}: its import starts threads, which could not be confined "
            f"({error}): start them when the object is made, or set confine = false"
        ) from None


def initialize(name: str, log_level: str, log_format: LogFormat, log_file: LogFile | None) -> None:
    """The first function of a worker process. It ignores Ctrl-C, which the supervisor handles."""
    _leave_tracker()
    name_process(name)
    hold_threads()
    for number in NOT_OURS:
        signal.signal(number, signal.SIG_IGN)
    if log_file is not None:
        log_file.become_stderr()
    faulthandler.enable()  # at SIGABRT from the supervisor, log where every thread is
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOT_OURS)
    log_to(sys.stderr.fileno(), name, log_level, log_format)
    wake_at_parents_death()


def _leave_tracker() -> None:
    """Close the pipe to ``multiprocessing``'s resource tracker, which all children inherit.

    When the server ends, the tracker unlinks every name that it got: no worker may send it one.
    """
    tracker: Any = resource_tracker._resource_tracker
    fd, tracker._fd = tracker._fd, None
    if fd is not None:
        os.close(fd)


def _confine(config: Config) -> dict[str, Identity]:
    """Confine this process to the users' directories and what custom code and Python need.

    Returns the identity of each allowed path, without Python's; NOTHING where none exists.
    """
    from ftpcluster.worker.confinement import confine, needed_by_python
    from ftpcluster.worker.seccomp import do_without_sendmsg, restrict

    accounts = [*config.users, *([] if config.anonymous is None else [config.anonymous])]
    written = {each.root for each in accounts if any(p.write for p in each.permissions)}
    read = {each.root for each in accounts} - written
    written |= set(config.open_beneath) | set(config.confine_allow.write)
    read |= set(config.confine_allow.read) - written
    allowed: dict[str, Identity] = dict.fromkeys((*written, *read), NOTHING)
    found: dict[str, Identity] = {}
    log.debug("files: %s", confine(sorted(written), [*sorted(read), *needed_by_python()], found))
    for path in allowed.keys() & found.keys():
        allowed[path] = found[path]
    keep_capabilities(_NEEDED)
    do_without_sendmsg()
    log.debug("system calls: %s", restrict())
    return allowed
