"""``ftpcluster init``: a configuration file to begin with."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from ftpcluster.cli.paths import a_file
from ftpcluster.config.example import example

_MODE = 0o600  # the file is going to hold passwords


@click.command()
@click.argument("file", type=a_file, default=Path("ftpcluster.toml"))
def init(file: Path) -> None:
    """Write a configuration file with all keys in it, explained [default: ftpcluster.toml]."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        with open(fd, "wb") as stream:
            stream.write(example().encode())
    except FileExistsError:
        raise click.ClickException(
            f"{file} exists; nothing was written. Give another name, or move it away"
        ) from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from None
    name = shlex.quote(str(file))
    click.echo(
        f"{file} is written; add accounts to it, then `ftpcluster run -c {name}` serves as it says"
    )
