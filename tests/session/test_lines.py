"""Lines that are no commands (protocol.md, “Arguments”), and QUIT in a transfer (“Transfers”)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ftpcluster.session import deadlines
from tests.session.conftest import Maker
from tests.support.dialogue import Dialogue, rest_of

EMPTY = [b"\n", b"\r\n", b"\r\r\n", b"\n\r\n\r\r\r\n"]


@pytest.fixture
def large(root: Path) -> Path:
    with (root / "large").open("wb") as file:
        file.truncate(1 << 30)
    return root / "large"


@pytest.mark.parametrize("empty", EMPTY)
def test_an_empty_line_is_skipped(port: int, empty: bytes) -> None:
    with Dialogue(port) as client:
        client.sock.sendall(empty * 30 + b"USER user\r\n" + empty + b"PASS 12345\r\n" + empty)
        client.expects(331)
        client.expects(230)
        client.says("NOOP", 200)


@pytest.mark.parametrize("end", ["\r", "\r\r\r"])
def test_carriage_returns_before_the_newline_belong_to_the_end_of_a_line(
    client: Dialogue, root: Path, end: str
) -> None:
    client.says("NOOP" + end, 200)
    client.says("MKD directory" + end, 257)
    assert (root / "directory").is_dir()


@pytest.mark.parametrize("empty", EMPTY)
def test_what_was_said_of_the_next_command_stays(
    client: Dialogue, root: Path, empty: bytes
) -> None:
    (root / "file").write_bytes(b"content")
    client.says("RNFR file", 350)
    client.sock.sendall(empty)
    client.says("RNTO other", 250)
    with client.passive() as data:
        client.says("REST 3", 350)
        client.sock.sendall(empty)
        client.says("RETR other", 150)
        assert rest_of(data) == b"tent"
    client.expects(226)


def test_a_line_of_blanks_is_refused_and_not_counted(port: int) -> None:
    with Dialogue(port) as client:
        for _ in range(15):
            client.says(" ", 500)
            client.says(" \t ", 500)
        client.says("NOOP", 200)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("empty", EMPTY)
def test_an_empty_line_holds_up_nothing_during_a_transfer(client: Dialogue, empty: bytes) -> None:
    with client.begins("RETR large", window=4096):
        client.sock.sendall(empty + b"NOOP\r\n")
        client.expects(200)
        client.sock.sendall(empty + b"PWD\r\n" + empty + b"ABOR\r\n" + empty)
        client.expects(426)
        client.expects(257)
        client.expects(226)
    client.says("NOOP", 200)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("command", ["RETR large", "STOR file"])
def test_who_says_quit_and_stands_still_is_not_waited_for(client: Dialogue, command: str) -> None:
    """“if the client neither reads nor sends data for 5 s after QUIT, 426 and 221”"""
    with client.begins(command, window=4096):
        began = time.monotonic()
        client.send("QUIT")
        client.expects(426)
        client.expects(221)
        assert client.is_closed()
        assert time.monotonic() - began > 4


@pytest.mark.parametrize("command", ["RETR large", "STOR file"])
def test_who_says_quit_and_is_slow_is_waited_for(
    serve: Maker, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Also where he reads so little that the kernel takes no more from us for a while."""
    monkeypatch.setattr(deadlines, "_STALL_CHECK", 0.1)
    monkeypatch.setattr(deadlines, "_QUIT", 1.5)
    with (serve.directory / "large").open("wb") as file:
        file.truncate(1 << 30)
    with Dialogue(serve()) as client:
        client.logs_in()
        with client.begins(command, window=65536) as data:
            client.send("QUIT")
            end = time.monotonic() + 4
            while time.monotonic() < end:
                if command.startswith("RETR"):
                    assert data.recv(10_000)
                else:
                    data.sendall(b"some")
                client.finds_silence(0.1)
            if command.startswith("STOR"):
                data.close()
            client.expects(426 if command.startswith("RETR") else 226)
        client.expects(221)
        assert client.is_closed()
