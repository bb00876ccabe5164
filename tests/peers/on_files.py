"""Attempts on files: paths, links, permissions, special files, names."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path

from tests.peers.target import LIMITED, TAKEN, UNKNOWN, Broken, Client, Target
from tests.support.outside import SECRET, Swapping, picture


def paths_that_climb(target: Target) -> None:
    """“`..`, `//`, absolute, NUL, 4 KiB components, `/proc/self/root`”"""
    outside = target.outside
    before = picture(outside)
    reached = []
    for path in (*detours(f"{outside.name}/file", f"{outside}/file"), *detours(outside.name, "/")):
        for verb in ("RETR", "LIST", "SIZE", "MLST", "APPE", "RNFR", "STOR", "DELE", "MKD"):
            with target.session() as client:  # its own: whether sessions last is another matter
                if tells(client, verb, path) or picture(outside) != before:
                    reached.append(verb)
                    before = picture(outside)
    if reached:
        raise Broken(f"{listed(reached)} reached a file outside")


def detours(relative: str, absolute: str) -> tuple[str, ...]:
    """Ways to a path beside the root and to one of the machine's."""
    return (
        *(f"../{relative}", f"/../{relative}", f"..//{relative}", f"/foo/../../{relative}"),
        *(absolute, f"//{absolute}", f"/proc/self/root{absolute}"),
        *(f"../{relative}\0", f"/\0/../../{relative}", f"{'x' * 4000}/../../{relative}"),
    )


def tells(client: Client, verb: str, path: str) -> bool:
    """Use a verb on a path; whether it told something of the files outside."""
    command = f"{verb} {path}/made" if verb == "MKD" else f"{verb} {path}"
    if verb in ("RETR", "LIST"):
        told = client.moves(command)[1]
        return SECRET in told or b"outsider" in told or b" %d " % len(SECRET) in told
    if verb in ("STOR", "APPE"):
        client.moves(command, b"forged")
        return False
    code, text = client.asks(command)
    if verb == "RNFR" and code == 350:
        client.asks("RNTO taken")
    return text == f"213 {len(SECRET)}" or f"size={len(SECRET)};" in text.lower()


def listed(verbs: list[str]) -> str:
    """Verbs in words, each once."""
    *first, last = dict.fromkeys(verbs)
    return f"{', '.join(first)} and {last}" if first else last


def links_that_lead_out(target: Target) -> None:
    """“links out of the root”"""
    root, outside = target.root, target.outside
    (root / "link").symlink_to(f"../{outside.name}")
    (root / "own").write_bytes(b"forged")
    reached = []
    with target.session() as client:
        if SECRET in client.moves("RETR link/file")[1]:
            reached.append("RETR")
        if b"outsider" in client.moves("LIST link")[1]:
            reached.append("LIST")
        client.moves("STOR link/stored", b"forged")
        if (outside / "stored").exists():
            reached.append("STOR")
        client.asks("MKD link/made")
        if (outside / "made").exists():
            reached.append("MKD")
        client.asks("DELE link/victim")
        if not (outside / "victim").exists():
            reached.append("DELE")
        if client.asks("RNFR own")[0] == 350:
            client.asks("RNTO link/given")
        if (outside / "given").exists():
            reached.append("RNTO")
    if reached:
        raise Broken(f"through a link, {listed(reached)} reached a directory outside")


def links_that_are_swapped(target: Target) -> None:
    """“links swapped at 10⁴ a second”: under RETR and STOR in turn, until either leaks."""
    root, outside = target.root, target.outside
    (root / "x").mkdir()
    (root / "x" / "file").write_bytes(b"inside")
    (root / "link").symlink_to(f"../{outside.name}")

    end = time.monotonic() + target.race
    with Swapping(root / "x", root / "link"):
        while time.monotonic() < end:
            with target.session() as client:  # a session that ends is followed by another
                while not client.has_ended and time.monotonic() < end:
                    read = client.moves("RETR x/file")[1]
                    if not client.has_ended:
                        client.moves("STOR x/stored", b"forged")
                    if SECRET in read or (outside / "stored").exists():
                        raise Broken("a directory outside was reached")


# ---------------------------------------------------------------------- permissions

READING = ("CWD {}", "SIZE {}/file", "MDTM {}/file", "MLST {}/file")
LISTING = ("LIST {}", "NLST {}", "MLSD {}", "RETR {}/file")
STORING = ("STOR {}/stored", "APPE {}/file")
WRITING = ("MKD {}/made", "RMD {}/empty", "DELE {}/file")


def permissions_of_each_directory(target: Target) -> None:
    """“permissions × /foo, /foobar, a link to each × every verb, both sides of RNFR/RNTO”

    A link may have the permissions of its own path or of what it leads to; it has to be one of
    them for all verbs alike.
    """
    none, read, everything = (False, False), (True, False), (True, True)
    with target.session(LIMITED) as client:
        judged(target, client, "/foo", (none,))
        judged(target, client, "/foobar", (everything,))
        judged(target, client, "/other", (read,))
        judged(target, client, "/to-foo", (read, none))
        judged(target, client, "/to-foobar", (read, everything))
        for source, goal in (("/foobar/file", "/foo/given"), ("/foobar/file", "/other/given")):
            plant(target.root)
            client.asks(f"RNFR {source}")
            if 200 <= client.asks(f"RNTO {goal}")[0] < 300:
                raise Broken(f"RNTO {goal} is allowed")
        plant(target.root)
        if client.asks("RNFR /foo/file")[0] == 350:
            raise Broken("RNFR /foo/file is allowed")


def judged(
    target: Target, client: Client, directory: str, rights: tuple[tuple[bool, bool], ...]
) -> None:
    """Try all verbs on a directory, and see whether all verdicts agree with one pair of rights."""
    verdicts = {}
    for template in (*READING, *LISTING, *STORING, *WRITING):
        plant(target.root)
        command = template.format(directory)
        content = b"more" if template in STORING else None
        if template in LISTING + STORING:
            code, _ = client.moves(command, content)
        else:
            code, _ = client.asks(command)
        if code == 0:
            raise Broken(f"{command}: the session ended")
        if code not in UNKNOWN:
            verdicts[command] = code < 400, template in READING + LISTING
    wrong = [
        [
            command
            for command, (allowed, reading) in verdicts.items()
            if allowed != (may_read if reading else may_write)
        ]
        for may_read, may_write in rights
    ]
    if all(wrong):
        command = min(wrong, key=len)[0]
        raise Broken(f"{command} is {'allowed' if verdicts[command][0] else 'refused'}")


def plant(root: Path) -> None:
    """The same files, whatever was done to them before."""
    for name in ("foo", "foobar", "other"):
        directory = root / name
        directory.mkdir(exist_ok=True)
        for entry in ("stored", "file", "given"):
            (directory / entry).unlink(missing_ok=True)
        shutil.rmtree(directory / "made", ignore_errors=True)
        (directory / "empty").mkdir(exist_ok=True)
        (directory / "file").write_bytes(b"content")
        if name != "other" and not (root / f"to-{name}").is_symlink():
            (root / f"to-{name}").symlink_to(name)


# ---------------------------------------------------------------------- special files, names


def files_that_are_none(target: Target) -> None:
    """“RETR, STOR, APPE of FIFO, socket, device: … nobody else waits”"""
    names = special_files(target.root)
    for name in names:
        for verb in ("RETR", "STOR", "APPE"):
            with target.session() as client, target.session() as other, client.passive() as data:
                client.sock.settimeout(target.patience)
                other.sock.settimeout(target.patience)
                try:
                    code, _ = client.asks(f"{verb} {name}")
                    data.close()
                    if code in TAKEN:
                        code = client.final()
                    if 200 <= code < 300:
                        raise Broken(f"{verb} of a {name} is obeyed")
                except TimeoutError:
                    waits = not answers(other)
                    release(target.root / name)
                    others = "and nobody else gets one" if waits else "but others get theirs"
                    raise Broken(f"{verb} of a {name} gets no answer, {others}") from None


def special_files(root: Path) -> tuple[str, ...]:
    """A file of each kind; a device only where we may make one."""
    os.mkfifo(root / "FIFO")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "socket"))
    try:
        os.mknod(root / "device", 0o20666, os.makedev(1, 3))
    except PermissionError:
        return "FIFO", "socket"
    return "FIFO", "socket", "device"


def answers(client: Client) -> bool:
    try:
        return client.asks("SYST")[0] == 215
    except TimeoutError:
        return False


def release(fifo: Path) -> None:
    """Let go whoever waits for the other end."""
    os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))


def names_with_line_ends(target: Target) -> None:
    """“names with CR LF … quotes in listings, PWD”: “no extra line, no forged entry”"""
    directory = target.root / "directory"
    directory.mkdir()
    (directory / "a file\r\n213 forged").touch()
    (target.root / 'say "hello"').mkdir()
    wrong = []
    with target.session() as client:
        for verb in ("LIST", "NLST", "MLSD"):
            if len(client.moves(f"{verb} directory")[1].splitlines()) > 1:
                wrong.append(verb)
        code, _ = client.asks("STAT directory")
        if code not in UNKNOWN and client.asks("SYST")[0] != 215:
            wrong.append("STAT")
    found = [f"a name with CR LF forges an entry in {listed(wrong)}"] if wrong else []
    with target.session() as client:
        client.says('CWD say "hello"', 250)
        if '"/say ""hello"""' not in client.says("PWD", 257):
            found.append("PWD leaves quotes as they are")
    if found:
        raise Broken("; ".join(found))
