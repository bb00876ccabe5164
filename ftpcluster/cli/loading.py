"""How ``run`` and ``check`` load a configuration, with what holds only at a start."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from ftpcluster.cli.aside import call_bounded, call_bounded_beside
from ftpcluster.cli.flags import Flags
from ftpcluster.cli.standard_streams import say
from ftpcluster.cli.start_checks import check_start
from ftpcluster.config import Config
from ftpcluster.config.checks import warnings
from ftpcluster.config.environment import Environment
from ftpcluster.config.load import load
from ftpcluster.config.sources import Sources


def load_to_start(file: Path | None, flags: Flags, environment: Environment) -> Config:
    """The configuration; what is doubtful about it stands on stderr. Raises ConfigError.

    What a start needs beside it is there: a reload, by then no longer root, uses what is open.

    Modules that it names are looked for where we were started, as Python itself does.
    """
    config, doubts = call_bounded(functools.partial(_load, file, flags, environment))
    for line in (*environment.doubts(), *flags.doubts(), *doubts):
        say(f"ftpcluster: warning: {line}")
    if config.server or config.user_manager:
        sys.path.insert(0, flags.directory)
    return config


async def load_again(file: Path | None, flags: Flags, environment: Environment) -> Config:
    """The configuration as it is now. Raises ConfigError."""
    return await call_bounded_beside(functools.partial(load, file, flags, environment=environment))


def _load(file: Path | None, flags: Flags, environment: Environment) -> tuple[Config, list[str]]:
    doubts: list[str] = []
    find_doubts = functools.partial(_find_doubts, doubts)
    return load(file, flags, check_start, find_doubts, environment=environment), doubts


def _find_doubts(found: list[str], config: Config, sources: Sources) -> None:
    sources.check()  # nobody can say what is doubtful about what is wrong
    found.extend(warnings(config, sources))
