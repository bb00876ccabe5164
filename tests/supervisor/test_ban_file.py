"""The file of the bans: what is written is read again, and damage loses nothing."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftpcluster.quota.bans import Ban, bits_of_network
from ftpcluster.supervisor.ban_file import Kept, Moment, decode, encode, moment, read, write

THEN = Moment(now=1000.0, wall=1_800_000_000.0, boot="one", uptime=5000.0)
BANS = (
    Ban("192.0.2.7", 1600.0, "10 failed logins"),
    Ban("2001:db8::/64", 1060.0, "10 failed logins"),
    Ban("192.0.2.0/24", None, 'a "reason" of ümlauts', is_manual=True),
)


KEPT = Kept(tuple((bits_of_network(ban.network), ban) for ban in BANS))


def left(kept: Kept, at: Moment) -> list[float | None]:
    return [None if ban.until is None else round(ban.until - at.now, 3) for _, ban in kept.bans]


@pytest.mark.parametrize(
    ("later", "seconds"),
    [
        # the same boot: no matter what the wall clock was set to, or the loop's clock says
        (Moment(5.0, THEN.wall + 90, "one", 5090.0), [510.0, None]),
        (Moment(5.0, THEN.wall + 10**8, "one", 5030.0), [570.0, 30.0, None]),
        (Moment(5.0, THEN.wall - 10**8, "one", 5030.0), [570.0, 30.0, None]),
        # another boot: the wall clock says it
        (Moment(5.0, THEN.wall + 90, "two", 20.0), [510.0, None]),
        (Moment(5.0, THEN.wall + 90, "two", 9999.0), [510.0, None]),
        (Moment(5.0, THEN.wall + 10**8, "two", 20.0), [None]),
        # a wall clock that has gone back, or was not set yet, makes no ban longer
        (Moment(5.0, 0.0, "two", 20.0), [600.0, 60.0, None]),
        # what has no number of the boot, or another clock of it: a container
        (Moment(5.0, THEN.wall + 90, "", 5030.0), [510.0, None]),
        (Moment(5.0, THEN.wall + 90, "one", 4000.0), [510.0, None]),
    ],
)
def test_a_ban_has_the_time_that_is_left(later: Moment, seconds: list[float | None]) -> None:
    kept = decode(encode(BANS, THEN), later)
    assert left(kept, later) == seconds
    assert not kept.wrong


def test_bans_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "bans"
    write(str(file), BANS, THEN)
    assert read(str(file), THEN) == KEPT
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert [*tmp_path.iterdir()] == [file]
    assert read(str(tmp_path / "none"), THEN) == Kept()
    write(str(file), (), THEN)
    assert read(str(file), THEN) == Kept()


def test_the_clocks_of_this_machine_are_read() -> None:
    one, two = moment(5.0), moment(6.0)
    assert (one.now, two.now) == (5.0, 6.0)
    assert one.boot == two.boot
    assert 0 < one.uptime <= two.uptime


def damaged(tmp_path: Path, data: bytes) -> Kept:
    file = tmp_path / "bans"
    file.write_bytes(data)
    kept = read(str(file), THEN)
    assert kept.wrong
    assert not file.exists()
    assert Path(kept.aside).read_bytes() == data
    assert kept.aside == f"{file}.damaged-20270115T080000"
    return kept


@pytest.mark.parametrize(
    ("change", "count", "wrong"),
    [
        (lambda lines: [*lines[:2], b"{", *lines[3:]], 2, "line 3: "),
        (lambda lines: [b"\xff\xfe\x00", *lines[1:]], 3, "line 1: "),
        (lambda lines: lines[1:], 2, "line 1: "),
        (lambda lines: lines[:-1], 2, "it has 2 bans, and once had 3"),
        (lambda lines: [*lines[:-1], lines[-1][:20]], 2, "line 4: "),
        (lambda lines: [], 0, "line 1: "),
        (lambda lines: [b"", *lines, b"{}"], 3, "line 1: "),
        (
            lambda lines: [lines[0].replace(b'version":1', b'version":2'), *lines[1:]],
            0,
            "it is of ",
        ),
        (lambda lines: [lines[0], lines[1].replace(b".2.7", b".2.7/8"), *lines[2:]], 2, "line 2: "),
        (lambda lines: [lines[0], lines[1].replace(b"failed", b"\\n"), *lines[2:]], 2, "line 2: "),
        (lambda lines: [lines[0], lines[1].replace(b"600", b"1e99"), *lines[2:]], 2, "line 2: "),
        (lambda lines: [lines[0], lines[1].replace(b"600.0", b"NaN"), *lines[2:]], 2, "line 2: "),
        (lambda lines: [lines[0], lines[1].replace(b"failed", b"x" * 2000), *lines[2:]], 2, "line"),
    ],
)
def test_of_a_damaged_file_is_used_what_can_be_and_nothing_is_lost(
    tmp_path: Path, change: object, count: int, wrong: str
) -> None:
    assert callable(change)
    lines = change(encode(BANS, THEN).splitlines())
    kept = damaged(tmp_path, b"\n".join(lines))
    assert len(kept.bans) == count
    assert kept.wrong.startswith(wrong), kept.wrong


@given(st.randoms(use_true_random=False))
def test_no_damage_makes_an_error(chance: random.Random) -> None:
    data = bytearray(encode(BANS, THEN))
    for _ in range(chance.randint(1, 9)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    kept = decode(bytes(data[: chance.randint(0, len(data))]), THEN)
    assert len(kept.bans) <= len(BANS)


def test_what_is_larger_than_all_bans_is_put_aside(tmp_path: Path) -> None:
    file = tmp_path / "bans"
    with file.open("wb") as made:
        made.truncate(10**9)  # sparse
    kept = read(str(file), THEN)
    assert (kept.bans, kept.wrong) == ((), "it is too large")


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "."):
        with pytest.raises(OSError, match=r"no regular file|Is a directory"):
            read(str(tmp_path / name), THEN)
    assert [each.name for each in tmp_path.iterdir()] == ["fifo"]


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_the_old_file_stays_where_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file = tmp_path / "bans"
    write(str(file), BANS, THEN)
    if call == "write":
        # /dev/full is a disk without room; the name of the new file leads there by no other way
        real = os.open
        monkeypatch.setattr(os, "open", lambda *_: real("/dev/full", os.O_WRONLY))
    else:
        monkeypatch.setattr(os, call, fails)
    with pytest.raises(OSError, match=r"No space left|no room"):
        write(str(file), (), THEN)
    monkeypatch.undo()
    assert read(str(file), THEN) == KEPT
    assert [*tmp_path.iterdir()] == [file]


def fails(*_: object) -> None:
    raise OSError(errno.ENOSPC, "no room")


def test_what_a_killed_server_has_left_is_replaced_and_no_link_is_followed(tmp_path: Path) -> None:
    file, other = tmp_path / "bans", tmp_path / "other"
    (tmp_path / "bans.new").symlink_to(other)
    write(str(file), BANS, THEN)
    assert read(str(file), THEN) == KEPT
    assert not other.exists()
    assert [*tmp_path.iterdir()] == [file]
