"""``ftpcluster user``: changes users in files of their own, and tells the server."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ftpcluster.admin.client import AdminConnection, NoServer, NotRunning, OrderRefused
from ftpcluster.admin.requests import ChangedUser, Done
from ftpcluster.cli.admin import as_json_option, connected, of_server
from ftpcluster.cli.paths import a_file
from ftpcluster.cli.standard_streams import say
from ftpcluster.cli.user_accounts import AccountFiles, Change, ListedUser, file_of
from ftpcluster.cli.user_directory import OpenDirectory, editing
from ftpcluster.cli.user_options import (
    account_files,
    complete_assignment,
    complete_key,
    complete_login,
    known_key,
    new_password,
    of_assignments,
    of_options,
    options_of_keys,
    refuse_to_ask,
)
from ftpcluster.cli.user_tables import created, edited, users_in
from ftpcluster.cli.user_views import print_user, print_users
from ftpcluster.config import PLAIN, ConfigError
from ftpcluster.config.load import admin_socket
from ftpcluster.config.naming import quoted
from ftpcluster.passwords import hash_password
from ftpcluster.protocol.text import visible

_LATER = PLAIN + "asked for later"
"""Stands for a password while everything else is checked."""


@click.group()
def user() -> None:
    """Add, change and remove users, each in a file of its own; the server is told at once.

    The files are in the directory of the key `users` ("users.d/*.toml"). Where no server runs a
    change holds from its start on.
    """


login_argument = click.argument("login", metavar="NAME", shell_complete=complete_login)
password_option = click.option(
    "--password-stdin", "from_stdin", is_flag=True, help="The password is the first line of stdin"
)
file_option = click.option(
    "-c", "--config", "file", type=a_file, metavar="FILE", help="[default: ftpcluster.toml]"
)


@user.command()
@click.argument("login", metavar="NAME")
@of_server
@password_option
@options_of_keys
def add(
    file: Path | None, path: str | None, login: str, *, from_stdin: bool, **given: str | None
) -> None:
    """Add a user. The password is asked for, unless --password-stdin or --password-file has it.

    Values are written as in the file: 10MB, 2027-01-31, true, ["192.0.2.0/24"].
    """
    work = _Work(file, path, login)
    change = Change(login, of_options(given), is_new=True)
    if "password_file" in change.values:
        if from_stdin:
            raise ConfigError("--password-stdin: --password-file is given, too: leave one out")
        work.do(change)
    else:
        work.do_with_password(change, from_stdin=from_stdin)


@user.command()
@login_argument
@of_server
@password_option
def passwd(file: Path | None, path: str | None, login: str, *, from_stdin: bool) -> None:
    """Give a user another password. It is asked for, unless --password-stdin has it."""
    change = Change(login, without=("password_file",))
    _Work(file, path, login).do_with_password(change, from_stdin=from_stdin)


@user.command(name="set")
@login_argument
@click.argument(
    "assignments", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_assignment
)
@click.option(
    "--unset",
    "unset",
    multiple=True,
    metavar="KEY",
    shell_complete=complete_key,
    help="Remove this key; may be repeated",
)
@of_server
def set_(
    file: Path | None,
    path: str | None,
    login: str,
    assignments: tuple[str, ...],
    unset: tuple[str, ...],
) -> None:
    """Change what a user has: root=/srv/ftp/alice download=10MB.

    Values are written as in the file. What is removed comes from the group or the defaults again.
    """
    values = of_assignments(assignments)
    without = tuple(dict.fromkeys(known_key(each) for each in unset))
    if both := [each for each in without if each in values]:
        raise ConfigError(f"{both[0]}: is set and removed: leave one out")
    if not values and not without:
        raise ConfigError(f"set {login}: expected KEY=VALUE, or --unset KEY")
    _Work(file, path, login).do(Change(login, values, without))


@user.command()
@login_argument
@of_server
def enable(file: Path | None, path: str | None, login: str) -> None:
    """Let a user log in again."""
    _Work(file, path, login).do(Change(login, {"enabled": True}))


@user.command()
@login_argument
@of_server
def disable(file: Path | None, path: str | None, login: str) -> None:
    """Let a user no longer log in; sessions end."""
    _Work(file, path, login).do(Change(login, {"enabled": False}))


@user.command()
@login_argument
@of_server
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask")
def remove(file: Path | None, path: str | None, login: str, *, is_sure: bool) -> None:
    """Remove a user. Its files stay."""
    work = _Work(file, path, login)
    change = Change(login, is_removal=True)
    work.try_out(change)
    if not is_sure:
        refuse_to_ask(f"remove {login}: nobody is asked without a terminal: give --yes")
        click.confirm(f"Remove the user {visible(login)}?", abort=True, err=True)
    work.do(change)


@user.command(name="list")
@file_option
@as_json_option
def list_(file: Path | None, *, as_json: bool) -> None:
    """Show all users: where each is, and what is wrong with those that cannot log in."""
    accounts, doubts = account_files(file, os.environ).accounts()
    for line in doubts:
        say(f"ftpcluster: warning: {visible(line)}")
    print_users(accounts, as_json=as_json)


@user.command()
@login_argument
@file_option
@as_json_option
def show(file: Path | None, login: str, *, as_json: bool) -> None:
    """Show what holds for a user, and where that comes from. A password is not shown."""
    print_user(account_files(file, os.environ).values_of(login), as_json=as_json)


def _with_password(change: Change, password: str) -> Change:
    """A change that sets the password, too."""
    return replace(change, values={**change.values, "password": password})


class _Work:
    """A change of one user's file. Raises ConfigError before anything is changed."""

    def __init__(self, file: Path | None, socket: str | None, login: str) -> None:
        self._files: AccountFiles = account_files(file, os.environ)
        self._login = login
        if socket is None:
            socket = admin_socket(self._files.file, self._files.environment)
        self._socket = socket

    def try_out(self, change: Change) -> None:
        """Find what keeps a change from being made, without making it."""
        directory = self._files.directory_of(self._login)
        self._files.checked(change, file_of(directory, self._login))

    def do_with_password(self, change: Change, *, from_stdin: bool) -> None:
        """Make a change that sets a new password, too."""
        draft = _with_password(change, _LATER)
        if not from_stdin:
            self.try_out(draft)  # nobody types one in vain
        self.do(draft, new_password(from_stdin=from_stdin))

    def do(self, change: Change, password: str | None = None) -> None:
        """Make a change, and tell the server. ``password`` is hashed where all else is right."""
        directory = self._files.directory_of(self._login)
        target = file_of(directory, self._login)
        shown = os.path.relpath(target) if target.startswith(os.getcwd() + "/") else target
        with editing(directory) as opened:
            account = self._files.checked(change, target)
            if password is not None:
                change = _with_password(change, hash_password(password))
            if change.is_removal:
                self._remove(opened, target, shown)
            else:
                self._write(opened, account, change, target, shown)
        done = "removed" if change.is_removal else "written"
        click.echo(visible(f"{shown} is {done}"))
        self._tell(f"{shown} is {done}, but that is not in force")

    def _write(
        self,
        opened: OpenDirectory,
        account: ListedUser | None,
        change: Change,
        target: str,
        shown: str,
    ) -> None:
        name = os.path.basename(target)
        found = opened.read(name)
        text, status = found if found is not None else ("", None)
        if account is None:
            if users_in(text, shown):
                raise ConfigError(
                    f"{shown}: is there already, and has other users: edit it by hand, or rename it"
                )
            first = {key: change.values[key] for key in ("password",) if key in change.values}
            text = created(text, {"login": self._login, **first, **change.values})
        else:
            text = edited(text, shown, account.path, change.values, change.without)
        opened.write(name, text, status, self._main_status())

    def _remove(self, opened: OpenDirectory, target: str, shown: str) -> None:
        found = opened.read(os.path.basename(target))
        if found is None:
            raise ConfigError(f"{shown}: was removed meanwhile")
        if users_in(found[0], shown) > 1:
            raise ConfigError(
                f"{shown}: has other users, too: remove the table of {quoted(self._login)} by hand"
            )
        opened.remove(os.path.basename(target), found[1])

    def _main_status(self) -> os.stat_result | None:
        return None if self._files.file is None else os.stat(self._files.file)

    def _tell(self, but: str) -> None:
        """Tell the server. Raises OrderRefused, NoServer where it does not do as the file says."""
        try:
            with connected(None, self._socket) as connection:
                reply = _ask(connection, self._login)
        except NotRunning as error:
            click.echo(visible(f"no server was told, so it holds from the next start on: {error}"))
        except NoServer as error:
            raise NoServer(f"{but}: {error}") from None
        except OrderRefused as error:
            why = str(error).removeprefix("not in force: ")
            raise OrderRefused(f"{but}: {why}") from None
        else:
            click.echo(visible(reply.text))


def _ask(connection: AdminConnection, login: str) -> Done:
    reply: Any = connection.ask(ChangedUser(login))
    assert isinstance(reply, Done)
    return reply
