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
    if sys.stdin.isatty():
        password = click.prompt(
            "Password", hide_input=True, confirmation_prompt="Once more", err=True
        )
    else:
        password = sys.stdin.buffer.readline().decode("utf-8", "surrogateescape").rstrip("\r\n")
    if not password:
        raise click.ClickException("the password is empty")
    click.echo(hash_password(password))
