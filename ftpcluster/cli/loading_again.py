"""How ``run`` loads its configuration again, in a process that imports no more than that needs."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

from ftpcluster.cli.aside import call_bounded_beside
from ftpcluster.cli.flags import Flags
from ftpcluster.config import Config
from ftpcluster.config.environment import Environment
from ftpcluster.config.load import load
from ftpcluster.config.sources import Sources

log = logging.getLogger(__name__)


async def load_again(file: Path | None, flags: Flags, environment: Environment) -> Config:
    """The configuration as it is now; accounts that cannot be served are logged.

    Raises ConfigError.
    """
    config, doubts = await call_bounded_beside(
        functools.partial(_load_again, file, flags, environment)
    )
    for line in doubts:
        log.warning("%s", line)
    return config


def _load_again(
    file: Path | None, flags: Flags, environment: Environment
) -> tuple[Config, list[str]]:
    doubts: list[str] = []
    note = functools.partial(_note_doubts, doubts)
    return load(file, flags, note, environment=environment), doubts


def _note_doubts(found: list[str], _: Config, sources: Sources) -> None:
    found.extend(sources.doubts)
