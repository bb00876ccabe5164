"""``ftpcluster run``: its flags, and a supervisor that runs."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import click

from ftpcluster.cli.cluster import Cluster
from ftpcluster.cli.configured import configured
from ftpcluster.cli.flags import Flags, take_passwords
from ftpcluster.cli.logfiles import LogFiles
from ftpcluster.cli.paths import a_file, a_file_s_name, a_folder
from ftpcluster.cli.streams import say
from ftpcluster.config import ConfigError
from ftpcluster.config.load import load
from ftpcluster.privileges import parse_run_as
from ftpcluster.supervisor.crew import BootFailure

_BOOT_FAILED = 1


@click.command()
@click.option(
    "-c",
    "--config",
    "file",
    type=a_file,
    metavar="FILE",
    help="Configuration file; flags win over it [default: none is read]",
)
@click.option("--workers", type=int, metavar="N", help="Worker processes [default: the cores]")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="ADDR",
    help="Address to listen on, may be repeated [default: all]",
)
@click.option(
    "--port", type=int, metavar="P", help="Port; 0 for any free one [default: 2121, as root 21]"
)
@click.option(
    "--root",
    type=a_folder,
    metavar="DIR",
    help="The folder to serve [default: the current one]",
)
@click.option(
    "--user",
    "users",
    multiple=True,
    metavar="NAME:PASSWORD",
    help="An account, may be repeated. NAME alone takes the password from "
    "FTPCLUSTER_USER_<NAME> in the environment",
)
@click.option("--anonymous", is_flag=True, help="Anonymous users may read, beside the accounts")
@click.option("--writable", is_flag=True, help="Accounts may write; anonymous users never")
@click.option(
    "--data-ports", metavar="A-B", help="Ports for passive data connections [default: any]"
)
@click.option(
    "--masquerade",
    "masquerades",
    multiple=True,
    metavar="[NET=]ADDR",
    help="IPv4 address or host name that PASV names, behind NAT; NET=ADDR for clients in NET",
)
@click.option(
    "--proxy-protocol",
    "proxies",
    multiple=True,
    metavar="NET",
    help="Connections come through a proxy in NET, with the PROXY protocol; may be repeated",
)
@click.option("--server", metavar="MODULE:CLASS", help="A subclass of ftpcluster.Server to run")
@click.option(
    "--user-manager", metavar="MODULE:FACTORY", help="What makes the user manager of a worker"
)
@click.option("--tls-cert", type=a_file, metavar="FILE", help="Certificate chain (PEM): AUTH TLS")
@click.option("--tls-key", type=a_file, metavar="FILE", help="Its key [default: in the same file]")
@click.option("--implicit-tls-port", type=int, metavar="P", help="A port that begins with TLS")
@click.option("--require-tls", is_flag=True, help="Logins only with TLS")
@click.option("--max-connections", type=int, metavar="N", help="Connections of the whole server")
@click.option("--max-connections-per-user", type=int, metavar="N", help="Sessions of each user")
@click.option(
    "--max-connections-per-address", type=int, metavar="N", help="Connections of each address"
)
@click.option(
    "--download-limit", metavar="SPEED", help='What the server sends, a second: "10MB", "1GiB"'
)
@click.option("--upload-limit", metavar="SPEED", help="What the server receives, a second")
@click.option("--download-limit-per-user", metavar="SPEED", help="All sessions of a user together")
@click.option("--upload-limit-per-user", metavar="SPEED", help="All sessions of a user together")
@click.option("--run-as", metavar="USER[:GROUP]", help="Who serves, when it is started as root")
@click.option(
    "--metrics", metavar="ADDR:PORT", help="Tell Prometheus there, and /healthz and /readyz"
)
@click.option(
    "--loop",
    type=click.Choice(["uvloop", "asyncio"]),
    help="Event loop [default: uvloop]",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What is logged [default: info]",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="Lines of text, or JSON objects, one a line [default: text]",
)
@click.option(
    "--log-file",
    type=a_file_s_name,
    metavar="FILE",
    help="Where it is logged; SIGUSR1 opens it again [default: stderr]",
)
def run(*, file: Path | None, users: tuple[str, ...], **given: Any) -> int:
    """Serve folders over FTP.

    With no account, and no file, everybody may read, as "anonymous". Ctrl-C stops the server, a
    second one at once.
    """
    flags = Flags(users=users, passwords=take_passwords(users, os.environ), **given)
    config = configured(file, flags)  # workers inherit sys.path
    logs = LogFiles(config.log, None if config.run_as is None else parse_run_as(config.run_as))
    logs.log_as(config.log)
    try:
        cluster = Cluster(config, functools.partial(load, file, flags), logs)
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
