"""The command line, ``ftpcluster``: its commands, and how wrong input ends."""

from __future__ import annotations

import socket
import sys

import click

from ftpcluster.admin.client import NoServer, OrderRefused
from ftpcluster.cli.admin import ban, bans, drain, kick, limit, reload, stop, unban, who
from ftpcluster.cli.check import check
from ftpcluster.cli.hash import hash_
from ftpcluster.cli.init import init
from ftpcluster.cli.run import run
from ftpcluster.cli.schema import schema
from ftpcluster.cli.standard_streams import is_full, say
from ftpcluster.cli.top import top
from ftpcluster.config import ConfigError
from ftpcluster.native import DESCRIPTION
from ftpcluster.net.listeners import CannotListen
from ftpcluster.privileges import CannotRunAs
from ftpcluster.protocol.text import visible
from ftpcluster.runtime import open_standard_streams
from ftpcluster.supervisor.admin_server import CannotBind
from ftpcluster.supervisor.forking import ForkServer

NOT_DONE = 1
WRONG_USAGE = 2
INTERRUPTED = 130
_USER = "user"


class _Commands(click.Group):
    """The commands. ``user`` is imported when it is called: a start must not wait for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), _USER])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != _USER:
            return super().get_command(ctx, cmd_name)
        from ftpcluster.cli.user import user

        return user


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="ftpcluster", message=f"%(prog)s %(version)s {DESCRIPTION}")
def cli() -> None:
    """An FTP server cluster: many processes, exact limits."""


SERVING = (run, check, init, schema, hash_)
STEERING = (who, top, kick, limit, ban, unban, bans, drain, reload, stop)
for command in (*SERVING, *STEERING):
    cli.add_command(command)


def main(fork_server: tuple[int, socket.socket] | None = None) -> None:
    """Run a command; wrong input ends in one line on stderr and exit code 2, never a traceback.

    ``fork_server``: the pid of the fork server, and the socket for requests to it.
    """
    open_standard_streams()
    forks = _of(fork_server)
    try:
        status = cli.main(prog_name="ftpcluster", standalone_mode=False, obj=forks)
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        status = WRONG_USAGE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "ftpcluster"
        status = _complain(f"{error.format_message().rstrip('.')}; see `{command} --help`")
    except click.ClickException as error:
        status = _complain(error.format_message())
    except ConfigError as error:
        status = _complain(*error.lines)
    except (CannotListen, CannotRunAs, CannotBind) as error:
        status = _complain(str(error))
    except (NoServer, OrderRefused) as error:
        _complain(str(error))
        status = NOT_DONE
    except OSError as error:
        if not is_full(error):
            raise
        _complain(f"stdout cannot be written: {error.strerror}")
        status = NOT_DONE
    except (click.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    sys.exit(status)


def _of(fork_server: tuple[int, socket.socket] | None) -> ForkServer | None:
    try:
        return None if fork_server is None else ForkServer(*fork_server)
    except OSError:  # it cannot be watched: it ends with its socket
        return None


def _complain(*messages: str) -> int:
    for message in messages:
        line = visible(" ".join(message.split()))
        say(f"ftpcluster: error: {line}")
    return WRONG_USAGE
