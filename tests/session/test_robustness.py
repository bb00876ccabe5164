"""Whatever a client says, it gets one final reply to each line, in order, and harms nobody."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from pathlib import Path

import pytest

from ftpcluster.net.stream import Stream
from ftpcluster.net.tls import TLSStream
from tests.fuzz.caller import Caller
from tests.fuzz.grammar import random_line
from tests.session.conftest import Maker
from tests.support.dialogue import DEADLINE, Dialogue

LINES = pytest.mark.parametrize("lines", [4000, pytest.param(20_000, marks=pytest.mark.slow)])


def talk(port: int, seed: str, lines: int, *, login: bool) -> int:
    """Say lines at random; the number of sessions that it took."""
    chance, sessions, said = random.Random(seed), 0, 0
    trusting = ssl.create_default_context()
    while said < lines:
        sessions += 1
        with Caller(port, trusting, tls=False, login=login) as caller:
            while not caller.ended and said < lines:
                caller.says(random_line(chance))
                said += 1
                if said % 100 == 0 and not caller.ended:
                    assert caller.is_in_step()
    return sessions


@LINES
def test_thousands_of_lines_get_one_reply_each(port: int, root: Path, lines: int) -> None:
    """faults.md: “every verb with random arguments … after login: 500/501/…, one final reply
    each, no traceback”."""
    (root / "directory").mkdir()
    (root / "file").write_bytes(b"line\r\n" * 10)
    (root / "directory/file").write_bytes(b"content")
    assert talk(port, "after login", lines, login=True) > 1


@LINES
def test_thousands_of_lines_before_login_get_one_reply_each(
    port: int, root: Path, lines: int
) -> None:
    """faults.md: “every verb with random arguments before … login: … one final reply each, no
    traceback”; and nothing that would need a login happens."""
    talk(port, "before login", lines, login=False)
    assert not list(root.iterdir())


def test_random_names_and_passwords_get_one_reply_each(serve: Maker) -> None:
    """faults.md: “every verb with random arguments before … login”, USER and PASS with them."""
    port, chance, sessions = serve(login_delay=0), random.Random("guessing"), 0
    trusting = ssl.create_default_context()
    while sessions < 100:
        sessions += 1
        with Caller(port, trusting, tls=False, login=False) as caller:
            while not caller.ended:
                for verb in (b"USER ", b"PASS "):
                    if not caller.ended:
                        caller.says(verb + (random_line(chance).partition(b" ")[2] or b"x"))


# ---------------------------------------------------------------------- in order


def test_pipelined_commands_are_answered_in_order(client: Dialogue) -> None:
    """design.md, law 5: “One command at a time per session”."""
    codes = {"NOOP": 200, "PWD": 257, "SYST": 215, "SIZE missing": 550, "FOO": 500, "TYPE": 501}
    commands = [random.Random(7).choice(list(codes)) for _ in range(2000)]
    client.sock.sendall("".join(f"{command}\r\n" for command in commands).encode())
    assert [client.reply()[0] for _ in commands] == [codes[command] for command in commands]


def test_two_thousand_commands_in_one_segment_are_answered(client: Dialogue) -> None:
    """“one final reply, always”"""
    client.sock.sendall(b"NOOP\r\n" * 2000)
    for _ in range(2000):
        client.expects(200)
    client.says("SYST", 215)


def test_commands_before_the_greeting_are_answered_after_it(port: int) -> None:
    """design.md, law 5: whoever speaks first, replies come in order."""
    with Dialogue(port, greeting=None) as client:
        client.sock.sendall(b"USER user\r\nPASS 12345\r\nPWD\r\nQUIT\r\n")
        for code in (220, 331, 230, 257, 221):
            client.expects(code)
        assert client.is_closed()


def test_commands_may_come_byte_by_byte(client: Dialogue) -> None:
    """“one final reply, always”: a line is a line, however it comes."""
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in b"PWD\r\nNOOP\r\nMKD directory\r\nCWD directory\r\nPWD\r\nSYST\r\n":
        client.sock.sendall(bytes([byte]))
    for code in (257, 200, 257, 250):
        client.expects(code)
    assert client.expects(257).startswith('257 "/directory"')
    client.expects(215)


def test_replies_that_nobody_reads_are_not_lost(port: int, root: Path) -> None:
    """faults.md: “that send … and never read”: when they do read at last, all is there."""
    with Dialogue(port) as client, Dialogue(port) as other:
        client.logs_in()
        other.logs_in()
        count = 0
        client.sock.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while count < 20_000:
                client.sock.sendall(b"FEAT\r\n")
                count += 1
        client.sock.settimeout(DEADLINE)
        other.says("NOOP", 200)
        for _ in range(count):
            client.expects(211)


def test_goodbye_waits_for_a_client_that_reads_slowly(
    serve: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """“one final reply, always”: also for what the kernel had no room for when QUIT came."""
    takes = iter([BlockingIOError, BlockingIOError])
    send = Stream.send

    def reluctant(stream: Stream, data: bytes | memoryview) -> int:
        if b"221" in bytes(data) and (error := next(takes, None)) is not None:
            raise error
        return send(stream, data[: 1 << 12])

    monkeypatch.setattr(Stream, "send", reluctant)
    monkeypatch.setattr(Stream, "send_last", reluctant)
    with Dialogue(serve()) as client:
        client.logs_in()
        client.send("HELP\r\n" * 50 + "QUIT\r\nNOOP")
        for _ in range(50):
            client.expects(214)
        client.expects(221)
        assert client.is_closed()
    assert next(takes, None) is None


@pytest.mark.parametrize("command", ["AUTH TLS", "CCC"])
def test_who_changes_the_protection_without_reading_is_not_waited_for(
    serve: Maker,
    monkeypatch: pytest.MonkeyPatch,
    server_context: ssl.SSLContext,
    command: str,
) -> None:
    """The connection cannot go on as another before all is sent, and nobody would ever know."""
    send = Stream.send

    def full(stream: Stream, data: bytes | memoryview) -> int:
        if bytes(data).startswith((b"234", b"200 The control")):
            raise BlockingIOError
        return send(stream, data)

    with Dialogue(serve(tls=server_context)) as client:
        if command == "CCC":
            client.says("AUTH TLS", 234)
            trusting = ssl.create_default_context()
            trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
            client.sock = trusting.wrap_socket(client.sock, suppress_ragged_eofs=True)
            client.logs_in()
        monkeypatch.setattr(Stream, "send", full)
        monkeypatch.setattr(TLSStream, "send", full)
        client.send(command)
        assert client.is_closed()


def test_a_client_that_says_its_last_words_and_closes_is_answered(client: Dialogue) -> None:
    """“one final reply, always”: also for what came before the end of the stream."""
    client.sock.sendall(b"NOOP\r\n" * 500)
    client.sock.shutdown(socket.SHUT_WR)
    for _ in range(500):
        client.expects(200)
    assert client.is_closed()


@pytest.mark.parametrize("line", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", b"\0\r\n"])
def test_what_is_no_ftp_at_all_is_refused(port: int, line: bytes) -> None:
    """faults.md: “lines … not UTF-8 …: 500/501/…, one final reply each, no traceback”."""
    with Dialogue(port) as client:
        client.sock.sendall(line)
        client.expects(500, 502)
        client.says("NOOP", 200)
