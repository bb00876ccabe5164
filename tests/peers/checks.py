"""The table of attempts: one row each of “Abuse”."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.peers import on_connections, on_ends, on_files, on_logins, on_names, on_storms
from tests.peers.target import Broken, Lacking, Target
from tests.support.outside import picture

HOLDS = "holds"


@dataclass(frozen=True)
class Check:
    """An attempt: its row in the page, and whether it needs a strict server."""

    title: str
    attempt: Callable[[Target], None]
    strict: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt: ``cell`` is what the table says, ``reason`` what did not hold."""

    cell: str
    reason: str | None = None


CHECKS = {
    "paths": Check(
        "paths with `..`, `//`, NUL, 4 KB, absolute, through `/proc/self/root`",
        on_files.paths_that_climb,
    ),
    "links": Check("links that lead out of the directory", on_files.links_that_lead_out),
    "swapped": Check(
        "a directory and a link out that change places all the time",
        on_files.links_that_are_swapped,
    ),
    "permissions": Check(
        "every verb in directories with other permissions, `/foo` beside `/foobar`, links to them",
        on_files.permissions_of_each_directory,
    ),
    "special": Check("RETR, STOR, APPE of FIFO, socket, device", on_files.files_that_are_none),
    "auth": Check("commands slipped in behind AUTH TLS", on_connections.bytes_behind_auth),
    "stranger": Check(
        "somebody else is first at the data port", on_connections.another_host_at_the_data_port
    ),
    "strangers": Check(
        "70 others are at the data port before its client",
        on_connections.many_other_hosts_at_the_data_port,
    ),
    "bounce": Check(
        "PORT and EPRT to others, to low ports, malformed", on_connections.connections_to_others
    ),
    "lines": Check(
        "lines that are long, not UTF-8, or have odd numbers", on_connections.lines_of_all_kinds
    ),
    "behind": Check(
        "lines that wait behind a transfer, and then a byte at a time",
        on_connections.much_behind_a_transfer,
    ),
    "patterns": Check(
        "4 KB of `[…]` in STAT, sixteen at once, and others' NOOP", on_storms.costly_patterns
    ),
    "digests": Check(
        "32 digests of a sparse file of 4 GB, and others' RETR", on_storms.digests_of_one_reader
    ),
    "haste": Check(
        "uploads whose client closes both connections at once", on_ends.uploads_in_haste
    ),
    "protected": Check(
        "the end of downloads over TLS, with a client on uvloop", on_ends.protected_downloads
    ),
    "names": Check("names with CR LF and quotes", on_files.names_with_line_ends),
    "unfinished": Check("names that unfinished uploads have", on_names.names_of_unfinished_uploads),
    "moved": Check(
        "links that are moved to where they lead elsewhere", on_names.links_that_are_moved
    ),
    "drop": Check(
        "what a directory tells that may only be written",
        on_names.directories_that_are_only_written,
    ),
    "removal": Check(
        "removing directories with links in them by what MLSD says",
        on_names.directories_with_links,
    ),
    "guesses": Check("guessing passwords", on_logins.guesses, strict=True),
    "half-closed": Check(
        "guessing by USER and PASS and a half-close at once",
        on_logins.guesses_and_no_more,
        strict=True,
    ),
    "at once": Check(
        "200 guesses at once, with the right password among them",
        on_logins.guesses_at_once,
        strict=True,
    ),
    "bob": Check(
        "idle sockets that have said `USER bob`, who may have 2 sessions",
        on_logins.names_without_passwords,
        strict=True,
    ),
    "lorises": Check("a byte now and then, and no command", on_logins.lorises, strict=True),
    "chatterers": Check("a command now and then, and no login", on_logins.chatterers, strict=True),
    "ports": Check(
        "few data ports, and PASV never used", on_logins.ports_that_nobody_uses, strict=True
    ),
    "known": Check("which names are known", on_logins.names_that_are_tried),
}


def outcome(check: Check, target: Target) -> Outcome:
    """Try it. Whatever it was about, nothing outside of the directory may have changed."""
    before = picture(target.outside)
    try:
        check.attempt(target)
        if picture(target.outside) != before:
            raise Broken("a file outside was changed")
    except Broken as broken:
        return Outcome("does not", str(broken))
    except Lacking as lacking:
        return Outcome(str(lacking))
    return Outcome(HOLDS)
