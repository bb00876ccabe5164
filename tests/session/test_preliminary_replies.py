"""150 (protocol.md, “Transfers”): by itself, and before the first byte of data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.session.conftest import Maker
from tests.support.cluster import until
from tests.support.dialogue import Dialogue, reset
from tests.support.segments import replies_behind

SIZES = (0, 100, 50_000, 2_000_000)
COMMANDS = (*(f"RETR {size}" for size in SIZES), "LIST", "MLSD", "NLST", "NLST empty")


def fill(directory: Path) -> None:
    (directory / "empty").mkdir()
    for size in SIZES:
        (directory / str(size)).write_bytes(bytes(size))


@pytest.mark.parametrize("command", COMMANDS)
def test_150_leaves_by_itself_before_the_first_byte_of_data(
    client: Dialogue, root: Path, command: str
) -> None:
    """“150 leaves by itself, before the first byte of data and before the final reply”."""
    fill(root)
    for _ in range(5):
        with client.passive() as data:
            early, segments = replies_behind(client, f"{command}\r\n".encode(), data)
        assert early.startswith(b"150 ")
        assert segments >= 2  # or one came twice


def test_150_does_not_leave_with_the_replies_of_commands_before_it(
    client: Dialogue, root: Path
) -> None:
    fill(root)
    with client.passive() as data:
        early, segments = replies_behind(client, b"NOOP\r\nTYPE I\r\nRETR 100\r\n", data)
    assert b"\n150 " in early
    assert segments >= 3


@pytest.mark.parametrize("command", ["LIST", "RETR 50000", "RETR 2000000"])
def test_150_leaves_by_itself_where_there_is_a_speed_limit(
    serve: Maker, tmp_path: Path, command: str
) -> None:
    fill(tmp_path / "directory")
    with Dialogue(serve(read_speed_limit=100_000_000)) as client:
        client.logs_in()
        with client.passive() as data:
            early, segments = replies_behind(client, f"{command}\r\n".encode(), data)
        assert early.startswith(b"150 ")
        assert segments >= 2  # or one came twice


def test_150_of_an_upload_leaves_while_no_data_have_come(client: Dialogue) -> None:
    with client.begins("STOR stored") as data:
        data.sendall(b"stored")
    client.expects(226)


@pytest.mark.parametrize("command", ["STOR stored", "APPE stored"])
def test_an_upload_is_stored_though_its_client_is_gone_when_150_is_said(
    client: Dialogue, root: Path, command: str
) -> None:
    """Only the data connection tells how the data end."""
    with client.passive() as data:
        data.sendall(b"stored")
        client.send(command)
        reset(client.sock)
    stored = root / "stored"
    until(lambda: stored.exists() and stored.read_bytes() == b"stored")
