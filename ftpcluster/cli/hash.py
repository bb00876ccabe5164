"""``ftpcluster hash``: a password's hash, for the configuration file."""

from __future__ import annotations

import sys

import click

from ftpcluster.passwords import hash_password


@click.command(name="hash")
def hash_() -> None:
    """Print the argon2id hash of a password.

    It is asked for twice; where stdin is no terminal it is its first line.
    """
    password = asked_for() if sys.stdin.isatty() else first_line()
    click.echo(hash_password(password))


def asked_for() -> str:
    """A password that is typed, twice and unseen."""
    found: str = click.prompt(
        "Password", hide_input=True, confirmation_prompt="Once more", err=True
    )
    return _not_empty(found)


def first_line() -> str:
    """The first line of stdin, as a password."""
    line = sys.stdin.buffer.readline().decode("utf-8", "surrogateescape")
    return _not_empty(line.rstrip("\r\n"))


def _not_empty(password: str) -> str:
    if not password:
        raise click.ClickException("the password is empty")
    return password
