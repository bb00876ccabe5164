"""The file in which bans outlive the server: its format, and calls that may block.

The first line says when the file was written: by the wall clock, and by the clock of that boot of
the machine. Then there is a line for each ban, with the seconds that were left of it. Within one
boot the time since then is that of its clock, which nobody sets, so that a step of the wall clock
neither ends a ban nor makes it longer. After a reboot it is that of the wall clock. If that seems
to have gone back, no time has passed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ftpcluster.protocol.address import Bits
from ftpcluster.quota.bans import Ban, bits_of_network

_VERSION = 1
_MOST_BYTES = 64 << 20
"""More than all bans that there can be."""
_LONGEST_REASON = 1000
_MOST_SECONDS = 10**10
_NEW = ".new"
_MODE = 0o600
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Moment(NamedTuple):
    """``now``: the loop's clock. ``uptime``: seconds of this boot, suspended or not."""

    now: float
    wall: float
    boot: str
    uptime: float


def moment(now: float) -> Moment:
    """This moment by all clocks; ``now`` is the loop's."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # a container without it: then the wall clock has to do
        boot = ""
    return Moment(now, time.time(), boot, time.clock_gettime(time.CLOCK_BOOTTIME))


class _Head(msgspec.Struct):
    version: int
    bans: int
    written: float
    boot: str
    uptime: float


class _Line(msgspec.Struct):
    network: str
    left: float | None
    by_hand: bool
    reason: str


class Kept(NamedTuple):
    """The bans of a file, as ``Bans.restore`` takes them: to parse thousands takes a while.

    ``wrong``: what was wrong in it; ``aside``: where it is now.
    """

    bans: Sequence[tuple[Bits, Ban]] = ()
    wrong: str = ""
    aside: str = ""


# ---------------------------------------------------------------------- the format


def encode(bans: Sequence[Ban], at: Moment) -> bytes:
    """A file with bans; their ends are times of the loop's clock."""
    encoder = msgspec.json.Encoder()
    lines: list[object] = [_Head(_VERSION, len(bans), at.wall, at.boot, at.uptime)]
    for ban in bans:
        left = None if ban.until is None else round(ban.until - at.now, 3)
        lines.append(_Line(ban.network, left, ban.is_manual, ban.reason))
    return b"\n".join(map(encoder.encode, lines)) + b"\n"


def decode(data: bytes, at: Moment) -> Kept:
    """The bans that hold still; of a damaged file those that can be read."""
    lines = data.splitlines()
    wrong = []
    head = None
    try:
        head = msgspec.json.decode(lines[0] if lines else b"", type=_Head)
        if head.version != _VERSION:
            return Kept((), f"it is of version {head.version}, and this server knows {_VERSION}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        wrong.append(f"line 1: {error}")
    gone = 0.0 if head is None else _elapsed(head, at)
    decoder = msgspec.json.Decoder(_Line)
    bans = []
    for number, line in enumerate(lines[1:], 2):
        try:
            bans.append(_ban(decoder.decode(line), at.now - gone))
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            wrong.append(f"line {number}: {error}")
    if head is not None and not wrong and head.bans != len(bans):
        wrong.append(f"it has {len(bans)} bans, and once had {head.bans}")
    more = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    held = tuple(ban for ban in bans if ban[1].holds(at.now))
    return Kept(held, "".join(wrong[:1]) + more)


def _elapsed(head: _Head, at: Moment) -> float:
    if head.boot and head.boot == at.boot and head.uptime <= at.uptime:
        return at.uptime - head.uptime
    return max(0.0, at.wall - head.written)


def _ban(line: _Line, written: float) -> tuple[Bits, Ban]:
    """Raises ValueError for what this server would not have written."""
    bits = bits_of_network(line.network)
    if line.left is not None and not -_MOST_SECONDS <= line.left <= _MOST_SECONDS:
        raise ValueError("the time that is left is no such time")
    if not line.reason.isprintable() or len(line.reason) > _LONGEST_REASON:
        raise ValueError("the reason is no short line of text")
    until = None if line.left is None else written + line.left
    return bits, Ban(line.network, until, line.reason, line.by_hand)


# ---------------------------------------------------------------------- calls that may block


def read(path: str, at: Moment) -> Kept:
    """The bans in a file; none where there is no file. Raises OSError.

    A damaged file is renamed, so that nothing in it is lost when the next one is written.
    """
    try:
        data = _content(path)
    except FileNotFoundError:
        return Kept()
    kept = Kept((), "it is too large") if data is None else decode(data, at)
    if not kept.wrong:
        return kept
    aside = f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(at.wall))}"
    os.rename(path, aside)
    return kept._replace(aside=aside)


def _content(path: str) -> bytes | None:
    """Raises OSError. None where it has more than there can be bans."""
    with open(os.open(path, _READ), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "it is no regular file")
        data = file.read(_MOST_BYTES + 1)
    return None if len(data) > _MOST_BYTES else data


def write(path: str, bans: Sequence[Ban], at: Moment) -> float:
    """Replace a file: there is the old or the new one at any time. Raises OSError.

    Returns the seconds of CPU time that it took.
    """
    begun, new = time.thread_time(), path + _NEW
    with contextlib.suppress(FileNotFoundError):  # of a server that was killed meanwhile
        os.unlink(new)
    try:
        with open(os.open(new, _WRITE, _MODE), "wb") as file:
            file.write(encode(bans, at))
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
    return time.thread_time() - begun


def files_of(path: str) -> tuple[str, str]:
    """The files that there may be."""
    return path, path + _NEW
