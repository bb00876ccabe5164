"""Users, for a person and for programs: ``ftpcluster user list`` and ``show``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from ftpcluster.cli.user_accounts import Effective, ListedUser, Value
from ftpcluster.protocol.text import visible


def print_users(accounts: Iterable[ListedUser], *, as_json: bool) -> None:
    """All users, a line each."""
    if as_json:
        _print([_user(each) for each in accounts])
        return
    rows = [("LOGIN", "GROUP", "ENABLED", "EXPIRES", "IN", "WRONG")]
    for each in accounts:
        enabled = {True: "yes", False: "no", None: "?"}[each.enabled]
        expires = each.expires.isoformat() if each.expires else ""
        group = each.group or ""
        wrong = "; ".join(each.problems)
        rows.append((each.login, group, enabled, expires, _place(each), wrong))
    _print_table(rows)


def print_user(found: Effective, *, as_json: bool) -> None:
    """What holds for a user, and where it has that from."""
    account = found.account
    if as_json:
        values, shared = _values(found.values), _values(found.shared)
        _print({**_user(account), "values": values, "shared_in_group": shared})
        return
    click.echo(visible(f"{account.login}, in {_place(account)}"))
    for problem in account.problems:
        click.echo(visible(f"cannot log in: {problem}"))
    rows = [("KEY", "VALUE", "FROM", "IN")]
    rows += [(name, each.shown, each.origin, each.where) for name, each in found.values.items()]
    rows += [
        (f"{name} of all in {account.group}", each.shown, each.origin, each.where)
        for name, each in found.shared.items()
    ]
    _print_table(rows)


def _values(values: dict[str, Value]) -> dict[str, Any]:
    return {
        name: {"value": each.value, "from": each.origin, "where": each.where or None}
        for name, each in values.items()
    }


def _user(account: ListedUser) -> dict[str, Any]:
    return {
        "login": account.login,
        "group": account.group,
        "enabled": account.enabled,
        "expires": account.expires.isoformat() if account.expires else None,
        "in": _place(account),
        "problems": list(account.problems),
    }


def _place(account: ListedUser) -> str:
    """File and line, or a variable's name."""
    return account.place.rpartition(": ")[0] if account.file else account.place


def _print(value: Any) -> None:
    # in ASCII: a file may have characters that a terminal obeys
    click.echo(json.dumps(value, indent=2))


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    shown = [tuple(map(visible, row)) for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(rows[0]))]
    for row in shown:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
