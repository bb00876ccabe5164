"""Attempts on names: of links, of unfinished uploads, and in directories that tell nothing."""

from __future__ import annotations

import os
import shutil

from tests.peers.on_files import listed
from tests.peers.target import LIMITED, TAKEN, Broken, Client, Target

UNFINISHED = (".x.~ftpcluster-1a2b3c4d~", ".in.x.", ".pureftpd-upload.1a2b3c4d", "x.part")
"""Names that servers and clients give to uploads that are not whole yet."""


def names_of_unfinished_uploads(target: Target) -> None:
    """“Names that look like leftovers … are invisible, and RMD deletes them although 226 was
    said”: a file is stored, listed and kept, or refused"""
    with target.session() as client:
        for number, name in enumerate(UNFINISHED):
            directory = target.root / f"directory{number}"
            directory.mkdir()
            client.moves(f"STOR {directory.name}/{name}", b"content")
            if not (directory / name).exists():
                continue  # refused
            if name.encode() not in client.moves(f"MLSD {directory.name}")[1]:
                raise Broken("a file that was stored is not listed")
            client.asks(f"RMD {directory.name}")
            if not (directory / name).exists():
                raise Broken("a file that was stored is gone with RMD of its directory")


def links_that_are_moved(target: Target) -> None:
    """“A relative link moved to another directory reads what a permission there denies”"""
    secret = b"denied"
    foobar = target.root / "foobar"
    (foobar / "deep").mkdir()
    (foobar / "foo").mkdir()
    (foobar / "foo" / "file").write_bytes(b"allowed")
    (target.root / "foo" / "file").write_bytes(secret)
    (foobar / "deep" / "link").symlink_to("../foo/file")
    with target.session(LIMITED) as client:
        if client.moves("RETR foo/file")[1] == secret:
            raise Broken("RETR /foo/file is allowed")
        if client.asks("RNFR foobar/deep/link")[0] == 350:
            client.asks("RNTO foobar/link")
        if client.moves("RETR foobar/link")[1] == secret:
            raise Broken("a link that was moved reads what is denied where it leads to now")


# ---------------------------------------------------------------------- only to be written

ASKED = {
    "RNFR": "there", "MFMT 20010203040506": "there", "SITE CHMOD 600": "there", "MKD": "directory",
    "CWD": "directory", "SIZE": "there", "MDTM": "there", "MLST": "there", "STAT": "there",
    "RETR": "there", "LIST": "there",
}  # fmt: skip
"""Commands, and the name that each is said of."""
SIZE = 1234


def directories_that_are_only_written(target: Target) -> None:
    """“A directory that may only be written tells sizes and existence”

    Each command is said of a name that is there and of one that is not: the replies are the same.
    """
    wrong = []
    if told(target, "STOR drop/there", SIZE) != told(target, "STOR drop/there", SIZE + 1):
        wrong.append("REST and STOR tell how long a file is")
    verbs = [
        command.rstrip(" 0123456789")
        for command, name in ASKED.items()
        if told(target, f"{command} drop/{name}") != told(target, f"{command} drop/{name}-not")
    ]
    if told(target, "STOR drop/there", 1) != told(target, "STOR drop/there-not", 1):
        verbs.append("REST with STOR")
    if verbs:
        wrong.append(f"{listed(verbs)} tell{'s' * (len(verbs) == 1)} whether there is one")
    if wrong:
        raise Broken("; ".join(wrong))


def told(target: Target, command: str, offset: int | None = None) -> list[str]:
    """All that a client hears, but for the name that it has said."""
    drop = target.root / "drop"
    shutil.rmtree(drop)
    (drop / "directory").mkdir(parents=True)
    (drop / "there").write_bytes(b"x" * SIZE)
    name = command.rpartition("/")[2]
    heard = []
    with target.session(LIMITED) as client:
        if command.split(" ")[0] not in ("STOR", "RETR", "LIST"):
            heard.append(client.asks(command)[1])
        else:
            with client.passive() as data:
                if offset is not None:  # right before STOR: others forget it at EPSV
                    client.says(f"REST {offset}", 350)
                code, text = client.asks(command)
                heard.append(text)
                if code in TAKEN:
                    data.sendall(b"content")
                    data.close()
                    heard.append(str(client.final()))
    return [text.replace(name, "NAME") for text in heard]


# ---------------------------------------------------------------------- links are links


def directories_with_links(target: Target) -> None:
    """“MLSD says `type=dir` of a link to a directory and leaves out dangling links”: all is
    removed as lftp's ``rm -r`` and rclone's ``purge`` do it."""
    kept, links, dangling = (target.root / name for name in ("kept", "links", "dangling"))
    for directory in (kept, links, dangling):
        directory.mkdir()
    (kept / "file").write_bytes(b"precious")
    (links / "link").symlink_to("../kept")
    (dangling / "link").symlink_to("nowhere")
    wrong = []
    with target.session() as client:
        remove(client, links.name)
        if not (kept / "file").exists():
            wrong.append("the files of another directory, to which a link leads, are removed")
        remove(client, dangling.name)
        if os.path.lexists(dangling):
            wrong.append("a directory with a link that leads nowhere cannot be removed")
    if wrong:
        raise Broken("; ".join(wrong))


def remove(client: Client, directory: str) -> None:
    """Everything in a directory, and then itself, by what MLSD says of each."""
    for line in client.moves(f"MLSD {directory}")[1].decode().splitlines():
        facts, _, name = line.partition(" ")
        path = f"{directory}/{name}"
        if "type=dir;" in f"{facts.lower()};":
            remove(client, path)
        else:
            client.asks(f"DELE {path}")
    client.asks(f"RMD {directory}")
