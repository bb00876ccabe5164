"""What ``run`` and ``check`` begin with."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ftpcluster.cli.flags import Flags
from ftpcluster.config import Config
from ftpcluster.config.checks import warnings
from ftpcluster.config.load import load


def configured(file: Path | None, flags: Flags) -> Config:
    """The configuration; what is doubtful about it stands on stderr. Raises ConfigError.

    Modules that it names are looked for where we were started, as Python itself does.
    """
    config = load(file, flags)
    for line in warnings(file, config) if file is not None else ():
        click.echo(f"ftpcluster: warning: {line}", err=True)
    if config.server or config.user_manager:
        sys.path.insert(0, os.getcwd())
    return config
