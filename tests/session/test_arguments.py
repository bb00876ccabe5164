"""Command lines: verbs, arguments, their bounds and bytes (protocol.md, “Arguments”)."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from pathlib import Path

import pytest

from ftpcluster.session.commands.table import ROWS
from ftpcluster.session.row import Argument
from tests.support.dialogue import Dialogue

SPECIFIED = [
    *("ALLO", "APPE", "DELE", "EPRT", "MDTM", "MFMT", "MKD", "MODE", "OPTS", "PORT"),
    *("REST", "RETR", "RMD", "RNFR", "RNTO", "SITE", "SIZE", "STOR", "STRU", "TYPE"),
    *("USER", "XMKD", "XRMD"),
]
"""Verbs that have to refuse to be without an argument."""
NEEDED = sorted(
    {"SITE CHMOD", *SPECIFIED}
    | {
        row.verb
        for row in ROWS
        if row.argument in (Argument.REQUIRED, Argument.NEEDS_WORDS) and row.sequence is None
    }
)
REFUSED = ["ABOR", "CDUP", "FEAT", "PASV", "PWD", "REIN", "SYST", "XCUP", "XPWD"]
UNAUTHENTICATED = {
    "FEAT": 211,
    "HELP": 214,
    "NOOP": 200,
    "STAT": 211,
    "SYST": 215,
    "SITE HELP": 214,
    "USER user": 331,
    "REIN": 220,
    "OPTS UTF8 ON": 200,
    "CLNT test": 200,
    "HOST localhost": 220,
    "PBSZ 0": 200,
    "PROT P": 200,
    "QUIT": 221,
}
"""What is answered before the login, and how; AUTH and CCC need TLS, PASS needs USER."""
_WITH_ARGUMENTS = [
    *("ACCT a", "CWD a", "XCWD a", "CDUP", "XCUP", "PWD", "XPWD", "PORT 127,0,0,1,200,1", "PASV"),
    *("EPRT |1|127.0.0.1|50000|", "EPSV", "EPSV ALL", "TYPE I", "STRU F", "MODE S", "RETR a"),
    *("STOR a", "STOU", "APPE a", "ALLO 1", "REST 1", "RNFR a", "RNTO a", "ABOR", "DELE a"),
    *("RMD a", "XRMD a", "MKD a", "XMKD a", "LIST", "NLST", "MLSD", "MLST", "STAT a", "SITE"),
    *("SITE CHMOD 644 a", "SITE UTIME 20200101000000 a", "SITE SYMLINK a b", "SITE FOO", "SIZE a"),
    *("MDTM a", "MFMT 20200101000000 a", "HASH a", "RANG 1 2", "XCRC a", "XMD5 a", "XSHA1 a"),
    *("XSHA256 a", "AVBL", "OPTS MLST size;", "OPTS HASH MD5"),
]
USERS_ONLY = [
    *_WITH_ARGUMENTS,
    *sorted(
        {row.verb for row in ROWS if row.login} - {line.split()[0] for line in _WITH_ARGUMENTS}
    ),
]
NEVER_IMPLEMENTED = ["SMNT", "ADAT", "MIC", "CONF", "ENC", "LANG", "LPRT", "LPSV"]
CONTROLS = re.compile(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]")


@pytest.mark.parametrize("verb", NEEDED)
def test_an_argument_that_is_missing_is_a_syntax_error(client: Dialogue, verb: str) -> None:
    """“501 where one is missing: …”"""
    client.says(verb, 501)
    client.says(f"{verb} ", 501)
    client.says("PWD", 257)


@pytest.mark.parametrize("verb", REFUSED)
def test_an_argument_too_many_is_a_syntax_error(client: Dialogue, verb: str) -> None:
    """“501 where one is too many: …”"""
    client.says(f"{verb} argument", 501)
    client.says("PWD", 257)


@pytest.mark.parametrize("line", UNAUTHENTICATED)
def test_unauthenticated_clients_are_answered_what_concerns_no_files(port: int, line: str) -> None:
    """“Before login everything is 530 except …”"""
    with Dialogue(port) as client:
        client.says(line, UNAUTHENTICATED[line])


@pytest.mark.parametrize("line", ["AUTH TLS", "CCC"])
def test_unauthenticated_clients_are_told_that_there_is_no_tls(port: int, line: str) -> None:
    """“Before login everything is 530 except … AUTH PBSZ PROT CCC”"""
    with Dialogue(port) as client:
        client.says(line, 502, 503)


@pytest.mark.parametrize("line", USERS_ONLY)
def test_all_else_needs_a_login(port: int, line: str) -> None:
    """“Before login everything is 530 except …”: also behind USER, and a bad argument too."""
    with Dialogue(port) as client:
        client.says(line, 530)
        client.says("USER user", 331)
        client.says(line, 530)


@pytest.mark.parametrize("verb", ["CWD", "XCWD"])
def test_changing_to_nowhere_is_changing_to_the_root(client: Dialogue, verb: str) -> None:
    """“CWD without one goes to “/”.”"""
    client.says("MKD directory", 257)
    client.says("CWD directory", 250)
    client.says(verb, 250)
    assert client.says("PWD", 257).startswith('257 "/"')


@pytest.mark.parametrize("verb", ["FOO", "XYZZY", "RETRIEVE", "A", "ÄÖÜ", " ", "NOOPNOOP"])
def test_an_unknown_verb_is_refused(client: Dialogue, verb: str) -> None:
    """“Unknown verb 500 or 502”"""
    client.says(verb, 500, 502)
    client.says("PWD", 257)


@pytest.mark.parametrize("verb", NEVER_IMPLEMENTED)
def test_a_known_verb_that_is_not_implemented_is_refused_as_such(
    client: Dialogue, verb: str
) -> None:
    """“known but not implemented 502”"""
    client.says(f"{verb} x", 502)


@pytest.mark.parametrize("line", ["noop", "Noop", "nOOp"])
def test_verbs_are_taken_in_any_case(client: Dialogue, line: str) -> None:
    """“Verbs in any case.”"""
    client.says(line, 200)


def test_an_unknown_type_is_an_unknown_parameter(client: Dialogue) -> None:
    """“unknown parameter 504 (TYPE FOO 502 or 504)”"""
    client.says("TYPE FOO", 502, 504)


def test_a_line_may_have_four_thousand_bytes(client: Dialogue) -> None:
    """“A line is at most 4 KiB”: this one is understood, though no file has such a name."""
    client.says("SIZE " + "x" * 4000, 550, 553)


@pytest.mark.parametrize("length", [4200, 9000, 60_000])
def test_a_line_that_is_too_long_is_discarded_to_its_newline(client: Dialogue, length: int) -> None:
    """“longer 500, the rest discarded to the newline”"""
    client.send("NOOP " + "x" * length + "\r\nPWD")
    client.expects(500)
    client.expects(257)


@pytest.mark.parametrize("logged_in", [True, False])
def test_too_much_without_a_newline_ends_the_session(port: int, logged_in: bool) -> None:
    """“at 64 KiB the session ends”"""
    with Dialogue(port) as client:
        if logged_in:
            client.logs_in()
        # the end may overtake what is still being sent, and a reset the last reply
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                client.sock.sendall(b"x" * 1000)
        with contextlib.suppress(ConnectionError):
            while client.sock.recv(4096):
                pass
        assert client.is_closed()


@pytest.mark.parametrize("byte", ["\0", "\r"])
@pytest.mark.parametrize("verb", ["CWD", "MKD", "RETR", "STOR", "DELE", "SIZE", "USER", "LIST"])
def test_control_characters_that_end_strings_and_lines_are_refused(
    client: Dialogue, root: Path, verb: str, byte: str
) -> None:
    """“NUL, CR or LF inside an argument 501.”"""
    client.says(f"{verb} a{byte}b", 501)
    assert not list(root.iterdir())
    client.says("NOOP", 200)


def test_a_bare_newline_ends_a_line_too(client: Dialogue) -> None:
    """“discarded to the newline”: the newline is what ends a line."""
    client.sock.sendall(b"NOOP\nPWD\n")
    client.expects(200)
    client.expects(257)


@pytest.mark.parametrize(
    "prefix", [b"\xff\xf4", b"\xff\xf2", b"\xff\xf4\xff\xf2", b"\xff\xfb\x01\xff\xf4\xff\xf2"]
)
def test_telnet_commands_before_a_verb_are_removed(client: Dialogue, prefix: bytes) -> None:
    """“Telnet IP/Synch before a verb … is removed”"""
    client.says(prefix + b"ABOR", 225, 226)
    client.says(prefix + b"NOOP", 200)


def test_telnet_commands_may_come_as_urgent_data(client: Dialogue) -> None:
    """“Telnet IP/Synch before a verb (also as urgent data) is removed”"""
    client.sock.sendall(b"\xff\xf4\xff")
    client.sock.send(b"\xf2", socket.MSG_OOB)
    client.sock.sendall(b"ABOR\r\n")
    client.expects(225, 226)
    client.says("NOOP", 200)


def test_a_doubled_telnet_escape_is_one_byte(client: Dialogue, root: Path) -> None:
    """“FF FF is one FF”"""
    client.says(b"MKD a\xff\xffb", 257)
    assert os.listdir(os.fsencode(root)) == [b"a\xffb"]


@pytest.mark.parametrize(
    "name",
    [b"caf\xe9", b"\x80\xfe", "Jürgen’s 文件".encode(), b"mixed \xc3\xbc \xfc", "e\u0301".encode()],
)
def test_names_are_bytes_both_ways(client: Dialogue, root: Path, name: bytes) -> None:
    """“File names are bytes: what is not UTF-8 survives both ways (surrogateescape).”"""
    client.uploads(b"STOR " + name, b"content")
    assert os.listdir(os.fsencode(root)) == [name]
    assert client.downloads("NLST") == name + b"\r\n"
    assert client.downloads("LIST").endswith(b" " + name + b"\r\n")
    assert client.downloads("MLSD").endswith(b"; " + name + b"\r\n")
    reply = client.says(b"MLST " + name, 250)
    assert b"; /" + name + b"\n" in reply.encode("utf-8", "surrogateescape")
    assert client.downloads(b"RETR " + name) == b"content"


def test_a_current_directory_is_named_by_its_bytes(client: Dialogue) -> None:
    """“what is not UTF-8 survives both ways”: in 257 as well."""
    made = client.says(b"MKD caf\xe9", 257)
    assert made.startswith('257 "/caf\udce9"')
    client.says(b"CWD caf\xe9", 250)
    assert client.says("PWD", 257).startswith('257 "/caf\udce9"')


@pytest.mark.parametrize(
    ("name", "quoted"), [('a"b', '"/a""b"'), ('"', '"/"""'), ('""', '"/"""""'), ('"a"', '"/""a"""')]
)
def test_quotes_are_doubled(client: Dialogue, root: Path, name: str, quoted: str) -> None:
    """“Quotes are doubled in 257.”"""
    assert client.says(f"MKD {name}", 257).startswith(f"257 {quoted}")
    assert [path.name for path in root.iterdir()] == [name]
    client.says(f"CWD {name}", 250)
    assert client.says("PWD", 257).startswith(f"257 {quoted}")


@pytest.mark.parametrize("name", [" leading", "trailing ", "two  spaces", "-dash", "x" * 255])
def test_odd_names_are_taken_as_they_are(client: Dialogue, root: Path, name: str) -> None:
    """“File names are bytes”: spaces and dashes are nothing special."""
    client.uploads(f"STOR {name}", b"content")
    assert [path.name for path in root.iterdir()] == [name]
    assert client.downloads(f"RETR {name}") == b"content"


@pytest.mark.parametrize("command", ["LIST -a", "NLST -a", "MLSD"])
@pytest.mark.parametrize(
    "name",
    [
        "a\r\n-rw-r--r--   1 root     root            0 Jan  1 00:00 forged",
        "a\ntype=file;perm=r;size=0; forged",
        "a\rb",
        "a\x1b[2Jb",
        "\x7f\x08\x01",
    ],
)
def test_a_name_cannot_forge_a_line(client: Dialogue, root: Path, command: str, name: str) -> None:
    """“Control characters never reach a log or a listing unescaped.”"""
    (root / name).write_bytes(b"")
    listing = client.downloads(command)
    assert listing.count(b"\n") == listing.count(b"\r") == 1
    assert not CONTROLS.search(listing)


def test_control_characters_stay_out_of_facts_and_announcements(
    client: Dialogue, root: Path
) -> None:
    """“Control characters never reach a log or a listing unescaped.”: in MLST, nor in 150."""
    (root / "a\x1b[2Jb").write_bytes(b"content")
    assert "\x1b" not in client.says("MLST a\x1b[2Jb", 250)
    with client.passive():
        assert "\x1b" not in client.says("RETR a\x1b[2Jb", 150)
    client.expects(226)
