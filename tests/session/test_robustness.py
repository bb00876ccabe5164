"""Whatever a client says, it gets one final reply to each line, in order, and harms nobody."""

from __future__ import annotations

import contextlib
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.session.conftest import Maker
from tests.support.dialogue import DEADLINE, Dialogue

LINES = 10_000
VERBS = [
    "QUIT",
    "SYST",
    "FEAT",
    "NOOP",
    "HELP",
    "PWD",
    "CWD",
    "CDUP",
    "TYPE",
    "MODE",
    "STRU",
    "PASV",
    "EPSV",
    "REST",
    "RETR",
    "STOR",
    "APPE",
    "LIST",
    "NLST",
    "MLSD",
    "MLST",
    "SIZE",
    "MDTM",
    "DELE",
    "MKD",
    "RMD",
    "RNFR",
    "RNTO",
    "ABOR",
    "XCWD",
    "XCUP",
    "XPWD",
    "XMKD",
    "XRMD",
    "PASS",
]
TRANSFERS = {b"RETR", b"STOR", b"APPE", b"LIST", b"NLST", b"MLSD"}
WORDS = (
    b"", b" ", b"file", b"folder", b"folder/file", b"/", b"..", b".", b"I", b"A", b"L 8", b"S",
    b"F", b"0", b"5", b"-1", b"1", b"2", b"ALL", b"-la", b"-a folder", b"caf\xe9", b"\xff\xf4",
    b"\xff", b"NOOP", b"\"", b"a\0b", b"a\rb", b"%s%n", b"{0}", b"*", "\u2028".encode(),
    "²".encode(), b"9" * 30, b"x" * 300, b"../" * 200, b"d/" * 20 + b"e",
)  # fmt: skip


class Caller:
    """Says random lines. Data connections that it asks for are made, and send nothing."""

    def __init__(self, port: int, seed: str, *, login: bool) -> None:
        self._port = port
        self._random = random.Random(seed)
        self._login = login
        self._data: socket.socket | None = None
        self._client = self._call()
        self.sessions = 1

    def _call(self) -> Dialogue:
        client = Dialogue(self._port)
        if self._login:
            client.logs_in(binary=False)
        return client

    def close(self) -> None:
        self._client.sock.close()
        self._drop()

    def _drop(self) -> None:
        if self._data is not None:
            self._data.close()
            self._data = None

    def line(self) -> bytes:
        """A line without its end."""
        choose = self._random
        if self._login and choose.random() < 0.1:
            return b"EPSV"  # for the next transfer
        verb = choose.choice(VERBS).encode()
        if choose.random() < 0.05:
            verb = choose.randbytes(choose.randrange(1, 9)).replace(b"\n", b"")
        if verb == b"QUIT" and choose.random() < 0.9:
            verb = b"NOOP"
        if choose.random() < 0.2:
            verb = verb.lower()
        argument = choose.choice(WORDS) if choose.random() < 0.75 else b""
        kind = choose.random()
        if kind < 0.15:
            argument = choose.randbytes(choose.randrange(60)).replace(b"\n", b"")
        elif kind < 0.17:
            argument = b"y" * choose.randrange(3000, 9000)
        elif kind < 0.3:
            argument += choose.choice(WORDS)
        return verb + b" " + argument if argument or choose.random() < 0.1 else verb

    def says(self, line: bytes) -> None:
        """Say a line: it gets one final reply, and none but a transfer a preliminary one."""
        client = self._client
        client.send(line)
        code, text = client.reply()
        if code == 150:
            assert line.replace(b"\xff\xf4", b"")[:4].upper() in TRANSFERS, line
            code, text = client.reply()
        assert 200 <= code < 600, (line, text)
        if code in (227, 229):
            self._drop()
            numbers = [int(number) for number in re.findall(r"\d+", text)]
            port = numbers[-1] if code == 229 else numbers[-2] * 256 + numbers[-1]
            self._data = socket.create_connection(("127.0.0.1", port), DEADLINE)
            self._data.shutdown(socket.SHUT_WR)
        elif code in (226, 425, 426):
            self._drop()
        elif code in (221, 421):
            assert client.is_closed()
            self.close()
            self._client = self._call()
            self.sessions += 1

    def is_in_step(self) -> bool:
        """Whether no reply is missing and none is left over."""
        client = self._client
        client.says("SYST", 215)
        client.says("NOOP", 200)
        client.sock.settimeout(DEADLINE)
        client.finds_silence(0)
        return True


@contextlib.contextmanager
def calling(port: int, seed: str, *, login: bool) -> Iterator[Caller]:
    caller = Caller(port, seed, login=login)
    try:
        yield caller
    finally:
        caller.close()


def test_ten_thousand_lines_get_one_reply_each(port: int, root: Path) -> None:
    """faults.md: “every verb with random arguments … after login: 500/501/…, one final reply
    each, no traceback”."""
    (root / "folder").mkdir()
    (root / "file").write_bytes(b"line\r\n" * 10)
    (root / "folder/file").write_bytes(b"content")
    with calling(port, "after login", login=True) as caller:
        for number in range(LINES):
            caller.says(caller.line())
            if number % 100 == 99:
                assert caller.is_in_step()


def test_ten_thousand_lines_before_login_get_one_reply_each(port: int, root: Path) -> None:
    """faults.md: “every verb with random arguments before … login: … one final reply each, no
    traceback”; and nothing that would need a login happens."""
    with calling(port, "before login", login=False) as caller:
        for number in range(LINES):
            caller.says(caller.line())
            if number % 100 == 99:
                assert caller.is_in_step()
    assert not list(root.iterdir())


def test_random_names_and_passwords_get_one_reply_each(serve: Maker) -> None:
    """faults.md: “every verb with random arguments before … login”, USER and PASS with them."""
    with calling(serve(login_delay=0), "guessing", login=False) as caller:
        for _ in range(500):
            for verb in (b"USER ", b"PASS "):
                caller.says(verb + (caller.line().partition(b" ")[2] or b"x"))
            assert caller.is_in_step()
        assert caller.sessions > 100


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
    for byte in b"PWD\r\nNOOP\r\nMKD folder\r\nCWD folder\r\nPWD\r\nSYST\r\n":
        client.sock.sendall(bytes([byte]))
    for code in (257, 200, 257, 250):
        client.expects(code)
    assert client.expects(257).startswith('257 "/folder"')
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
