"""Where a worker process begins: what the CLI hands to the supervisor.

It imports the sessions' code only when it runs, so that the supervisor, who has to import this
module to name its functions, never loads any of it.
"""

from __future__ import annotations

import asyncio
import ctypes
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
from ftpcluster.prctl import keep_capabilities, no_new_privs
from ftpcluster.runtime import settle_collector
from ftpcluster.worker.orphan import end_with, handle_of

log = logging.getLogger(__name__)

_NOT_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals that only the supervisor obeys, also where all processes get them."""
_PR_SET_PDEATHSIG = 1
_NEEDED = (0, 1, 3, 4, 10)
"""CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER and CAP_FSETID, to serve files of any owner as root, and
CAP_NET_BIND_SERVICE for data ports below 1024. With ``run_as`` they are gone already, but for the
last one where `data.active_port` needs it."""


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
    """The coroutine that a worker process runs; it ends with its supervisor, whose pid that is.

    ``transfers``: where they are logged.
    """
    from ftpcluster.worker.worker import Worker

    loop = asyncio.get_running_loop()
    share_cores(settings.config.workers)
    if transfers is not None:
        transfers.prepare()
    if settings.config.storage.umask is not None:
        os.umask(settings.config.storage.umask)
    # what is not ours opens files that nobody knows of, may hang, or start threads, as it is made
    is_ours = runs_our_code(settings.config)
    handle = handle_of(supervisor)
    if not is_ours:
        end_with(handle)
    try:
        worker = Worker(loop, sock, settings, transfers)
    except ConfigError as error:
        report_failure(sock, str(error))
        return
    if is_ours:
        if settings.config.confine:
            worker.watch_names()
            worker.watch_roots(_confine(settings.config))
        end_with(handle)  # a thread: from here on it would be too late to be confined
    release_threads()
    settle_collector()
    await worker.serve()


def runs_our_code(config: Config) -> bool:
    """Whether workers run only our code, so that they can be confined."""
    return config.server is None and config.user_manager is None


def initialize(name: str, log_level: str, log_format: LogFormat, log_file: LogFile | None) -> None:
    """What a worker process does first: Ctrl-C is the supervisor's."""
    _leave_tracker()
    hold_threads()
    for number in _NOT_OURS:
        signal.signal(number, signal.SIG_IGN)
    if log_file is not None:
        log_file.become_stderr()
    faulthandler.enable()  # SIGABRT from the supervisor: where does every thread stand?
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NOT_OURS)
    log_to(sys.stderr.fileno(), name, log_level, log_format)
    # a stopped process would not notice that its supervisor is gone
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


def _leave_tracker() -> None:
    """Close the pipe to ``multiprocessing``'s resource tracker, which all children inherit.

    The tracker unlinks the names that it is told, when the server ends: no worker may tell it any.
    """
    tracker: Any = resource_tracker._resource_tracker
    fd, tracker._fd = tracker._fd, None
    if fd is not None:
        os.close(fd)


def _confine(config: Config) -> dict[str, tuple[int, int]]:
    """Leave this process nothing but the users' directories, and what Python needs.

    Returns device and inode of the paths that are allowed now.
    """
    from ftpcluster.worker.confinement import confine, needed_by_python
    from ftpcluster.worker.seccomp import restrict

    accounts = [*config.users, *([] if config.anonymous is None else [config.anonymous])]
    written = {each.root for each in accounts if any(p.write for p in each.permissions)}
    read = {each.root for each in accounts} - written
    allowed: dict[str, tuple[int, int]] = {}
    read_only = [*sorted(read), *needed_by_python()]
    log.debug("files: %s", confine(sorted(written), read_only, allowed))
    keep_capabilities(_NEEDED)
    log.debug("system calls: %s", restrict())
    return allowed
