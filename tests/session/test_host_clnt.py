"""HOST and CLNT (protocol.md, “Verbs”, “Login”; RFC 7151)."""

from __future__ import annotations

import pytest

from tests.support.dialogue import Dialogue

HOSTS = ("ftp.example.com", "localhost", "FTP.Example.COM", "127.0.0.1", "[::1]", "[2001:db8::1]")


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_may_be_named_before_the_login(port: int, name: str) -> None:
    """“Before login everything is 530 except … HOST”: 220 (RFC 7151, 3.3), and USER follows."""
    with Dialogue(port) as client:
        client.says(f"HOST {name}", 220)
        client.logs_in()


def test_another_host_may_be_named_instead(port: int) -> None:
    """RFC 7151, 3.1: HOST may come again before USER."""
    with Dialogue(port) as client:
        client.says("HOST one.example.com", 220)
        client.says("HOST two.example.com", 220)
        client.logs_in()


@pytest.mark.parametrize(
    "argument",
    [
        "",
        " ",
        "a b",
        "a/b",
        "a:21",
        "[::1",
        "::1]",
        "[]",
        "[example.com]",
        "a\x07b",
        "a@b",
        "x" * 300,
    ],
)
def test_what_is_no_host_name_is_a_syntax_error(port: int, argument: str) -> None:
    """“HOST”: 501 for a name that cannot be one (RFC 7151, 3.1)."""
    with Dialogue(port) as client:
        client.says(f"HOST {argument}", 501)
        client.says("HOST ftp.example.com", 220)


def test_a_host_is_named_before_the_user(port: int) -> None:
    """RFC 7151, 3.1: behind USER it is 503."""
    with Dialogue(port) as client:
        client.says("USER user", 331)
        client.says("HOST ftp.example.com", 503)
        client.says("PASS 12345", 230)
        client.says("HOST ftp.example.com", 503)
        client.says("PWD", 257)


def test_rein_makes_a_host_possible_again(client: Dialogue) -> None:
    """RFC 7151, 3.1: REIN begins anew, HOST included."""
    client.says("HOST ftp.example.com", 503)
    client.says("REIN", 220)
    client.says("HOST ftp.example.com", 220)
    client.logs_in()


@pytest.mark.parametrize("line", ["CLNT NcFTP 3.2.6", "CLNT", "CLNT FileZilla", "clnt Jürgen’s"])
def test_a_client_may_say_what_it_is_at_any_time(port: int, line: str) -> None:
    """“Before login everything is 530 except … CLNT”"""
    with Dialogue(port) as client:
        client.says(line, 200)
        client.logs_in()
        client.says(line, 200)


def test_a_client_s_name_is_not_said_back(client: Dialogue) -> None:
    """“Control characters never reach a log or a listing unescaped.”"""
    assert "\x1b" not in client.says("CLNT \x1b[2J", 200)
    client.says("CLNT a\rb", 501)
