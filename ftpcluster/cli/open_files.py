"""How many files a process may have open: the limit that is used, and whether it is enough."""

from __future__ import annotations

import os
import resource

from ftpcluster.config import ConfigError

_OWN_FILES = 20
_FILES_OF_A_WORKER = 4
"""Descriptors of the supervisor, while it starts workers."""


def check_open_files(workers: int) -> None:
    """Raises ConfigError where /proc is missing, or the limit too low even for the workers alone.

    With fewer descriptors anything may happen: the loop itself may wait for one, silently.
    """
    if not os.path.exists("/proc/self/fd"):
        raise ConfigError(
            "/proc is missing, which workers need: mount it (`mount -t proc p /proc`)"
        )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = _OWN_FILES + _FILES_OF_A_WORKER * workers
    if most != resource.RLIM_INFINITY and most < least:
        raise ConfigError(
            f"a process may have {most} files open, and this one needs {least} before anybody "
            f"connects, and up to three for each session: raise the limit (`ulimit -n 4096`, "
            "LimitNOFILE= of a service)"
        )


def open_more_files() -> None:
    """Each session takes up to three descriptors: use what the administrator allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
