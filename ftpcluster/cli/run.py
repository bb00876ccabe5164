"""``ftpcluster run``: its flags, and a supervisor that runs."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ftpcluster.cli.cluster import Cluster
from ftpcluster.cli.flags import FLAGS, Flag, Flags, take_passwords
from ftpcluster.cli.loading import load_to_start
from ftpcluster.cli.loading_again import load_again
from ftpcluster.cli.logfiles import LogFiles
from ftpcluster.cli.paths import a_directory, a_file, a_file_s_name
from ftpcluster.cli.standard_streams import have_stderr_of_our_own, say
from ftpcluster.config import ConfigError
from ftpcluster.config.environment import take_environment
from ftpcluster.config.load import load_user
from ftpcluster.config.setting import NO_LIMIT, kind_of
from ftpcluster.privileges import parse_run_as
from ftpcluster.supervisor.forking import ForkServer
from ftpcluster.supervisor.worker_lives import BootFailure

F = TypeVar("F", bound=Callable[..., Any])
_BOOT_FAILED = 1


def _options(command: F) -> F:
    """Add the flags, in the order in which they are declared."""
    for flag in reversed(FLAGS.values()):
        command = click.option(flag.name, **_type(flag), multiple=flag.repeats, help=_help(flag))(
            command
        )
    return command


def _type(flag: Flag) -> dict[str, Any]:
    """How click reads a flag's value. The key decides which values are valid."""
    if flag.annotation is bool:
        return {"is_flag": True}
    kind = kind_of(flag.annotation)
    if kind is None:
        return {"metavar": flag.metavar}
    if flag.parameter == "root":
        return {"type": a_directory, "metavar": flag.metavar}
    if kind.is_file:
        return {"type": a_file_s_name, "metavar": flag.metavar}
    if "enum" in kind.schema:
        return {"type": click.Choice(kind.schema["enum"])}
    is_number = kind.schema.get("type") == "integer"
    return {"type": int if is_number else str, "metavar": flag.metavar}


def _help(flag: Flag) -> str:
    text = flag.help[0].upper() + flag.help[1:]
    kind = kind_of(flag.annotation)
    if kind is not None and kind.has_units:
        text += f": {kind.expected}"
    if flag.repeats:
        text += "; may be repeated"
    if flag.default not in (NO_LIMIT, "off", "none"):
        text += f" [default: {flag.default}]"
    return text.replace("`", "")


@click.command()
@click.option(
    "-c",
    "--config",
    "file",
    type=a_file,
    metavar="FILE",
    help="Configuration file; flags win over it [default: none is read]",
)
@_options
@click.pass_obj
def run(forks: ForkServer | None, /, *, file: Path | None, **given: Any) -> int:
    """Serve directories over FTP.

    With no account, and no file, everybody may read, as "anonymous". Ctrl-C stops the server, a
    second one at once.
    """
    have_stderr_of_our_own()
    flags = Flags(passwords=take_passwords(os.environ), **given)
    environment = take_environment(os.environ)
    config = load_to_start(file, flags, environment)  # workers inherit sys.path
    logs = LogFiles(config.log, None if config.run_as is None else parse_run_as(config.run_as))
    logs.log_as(config.log)
    try:
        again = functools.partial(load_again, file, flags, environment)
        user = functools.partial(load_user, file, flags, environment=environment)
        cluster = Cluster(config, again, user, logs, forks)
    except BaseException:
        logs.undo()
        raise
    try:
        return cluster.run()
    except BootFailure as failure:
        if failure.reason is not None:
            raise ConfigError(failure.reason) from failure
        text = str(failure)
        if logs.log is not None:
            text = f"{failure.args[0]}; the reason is in {logs.log.path}"
        say(f"ftpcluster: error: {text}")
        return _BOOT_FAILED
