"""Login: USER, PASS, QUIT, and what may be said before (protocol.md, “Login”)."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from ftpcluster import User
from tests.session.conftest import Maker
from tests.support.cluster import until
from tests.support.dialogue import CLOCK, Dialogue

WRITING = ("DELE a", "MKD a", "XMKD a", "RMD a", "XRMD a", "STOR a", "APPE a", "RNFR a", "RNTO a")
READING = ("CWD", "XCWD a", "CDUP", "XCUP", "PWD", "XPWD", "LIST", "NLST", "MLSD", "MLST", "RETR a")
OTHERS = ("TYPE I", "MODE S", "STRU F", "PASV", "EPSV", "REST 1", "SIZE a", "MDTM a", "ABOR")


@pytest.mark.parametrize(
    "name", ["user", "anonymous", "nobody", "USER", "Jürgen", "two words", "x" * 1000]
)
def test_every_name_is_asked_for_a_password(port: int, name: str) -> None:
    """“331 for every name, known or not.”"""
    with Dialogue(port) as client:
        client.says(f"USER {name}", 331)


def test_every_name_gets_the_same_text(port: int) -> None:
    """“331 for every name, known or not.”: the text does not tell either."""
    with Dialogue(port) as client:
        texts = {client.says(f"USER {name}", 331) for name in ("user", "anonymous", "nobody")}
    assert len(texts) == 1


@pytest.mark.parametrize("line", ["PASS me@example.com", "PASS", "PASS "])
def test_anonymous_takes_any_an_empty_or_no_password(port: int, line: str) -> None:
    """“An anonymous user takes any, an empty or no password.”"""
    with Dialogue(port) as client:
        client.says("USER anonymous", 331)
        client.says(line, 230)
        client.says("PWD", 257)


def test_names_are_case_sensitive(port: int) -> None:
    """“Names are case-sensitive.”"""
    with Dialogue(port) as client:
        client.says("USER User", 331)
        client.says("PASS 12345", 530)


def test_a_password_before_a_name_is_out_of_sequence(port: int) -> None:
    """“PASS before USER 503”"""
    with Dialogue(port) as client:
        client.says("PASS 12345", 503)


def test_a_password_after_the_login_is_out_of_sequence(client: Dialogue) -> None:
    """“PASS when logged in 503.”"""
    client.says("PASS 12345", 503)
    client.says("PWD", 257)


@pytest.mark.parametrize("secret", ["wrong", "", "12345 ", "123456", "1234"])
def test_a_wrong_password_is_refused(serve: Maker, secret: str) -> None:
    """“A failed login is answered 530”"""
    with Dialogue(serve()) as client:
        client.says("USER user", 331)
        client.says(f"PASS {secret}", 530)
        client.says("PWD", 530)


def test_a_wrong_password_and_an_unknown_name_get_the_same_reply(serve: Maker) -> None:
    """library.md row 9: “an unknown login costs the same as a wrong password (…the same 530)”."""
    with Dialogue(serve()) as client:
        replies = set()
        for name in ("user", "nobody"):
            client.says(f"USER {name}", 331)
            replies.add(client.says("PASS wrong", 530))
    assert len(replies) == 1


def test_the_third_failed_login_ends_the_session(serve: Maker) -> None:
    """“the third ends the session with 421”"""
    with Dialogue(serve()) as client:
        for code in (530, 530, 421):
            client.says("USER user", 331)
            client.says("PASS wrong", code)
        assert client.is_closed()


def test_two_failed_logins_do_not_end_the_session(serve: Maker) -> None:
    """“the third ends the session”: who is right the third time gets in."""
    with Dialogue(serve()) as client:
        for _ in range(2):
            client.says("USER user", 331)
            client.says("PASS wrong", 530)
        client.logs_in()


def test_a_failed_login_is_answered_after_a_delay(serve: Maker) -> None:
    """“answered 530 after a delay”"""
    with Dialogue(serve(login_delay=0.4)) as client:
        client.says("USER user", 331)
        begin = time.monotonic()
        client.says("PASS wrong", 530)
        assert time.monotonic() - begin >= 0.4 - CLOCK


def test_the_delay_holds_no_slot_of_the_user(serve: Maker) -> None:
    """“after a delay (…without holding a user's slot)”"""
    users = [User("user", "12345", base_path=serve.directory, maximum_connections=1)]
    port = serve(users=users, login_delay=60)
    with Dialogue(port) as guesser, Dialogue(port) as honest:
        guesser.says("USER user", 331)
        guesser.send("NOOP")
        guesser.send("PASS wrong")
        guesser.expects(200)
        honest.logs_in()


@pytest.mark.parametrize("line", [*WRITING, *READING, *OTHERS])
def test_before_login_nothing_is_obeyed(port: int, line: str) -> None:
    """“Before login everything is 530 except …”"""
    with Dialogue(port) as client:
        client.says(line, 530)
        client.says("USER user", 331)
        client.says(line, 530)


@pytest.mark.parametrize(
    ("line", "code"),
    [("FEAT", 211), ("HELP", 214), ("NOOP", 200), ("SYST", 215), ("USER a", 331), ("QUIT", 221)],
)
def test_before_login_a_few_verbs_are_obeyed(port: int, line: str, code: int) -> None:
    """“everything is 530 except FEAT HELP NOOP … SYST … USER PASS QUIT”"""
    with Dialogue(port) as client:
        client.says(line, code)


def test_ten_unknown_verbs_before_login_end_the_session(port: int) -> None:
    """“Ten unknown verbs before login end the session (ALPACA).”"""
    with Dialogue(port) as client:
        for _ in range(9):
            client.says("Accept: text/html", 500, 502)
        client.says("NOOP", 200)
        client.send("Host: example.com")
        client.expects(421, 500, 502)
        assert client.is_closed()


def test_unknown_verbs_after_login_do_not_end_the_session(client: Dialogue) -> None:
    """“Ten unknown verbs before login”: afterwards there may be more."""
    for _ in range(30):
        client.says("GET / HTTP/1.1", 500, 502)
    client.says("PWD", 257)


def test_a_new_name_logs_out(client: Dialogue) -> None:
    """“USER or REIN while logged in logs out”"""
    client.says("USER user", 331)
    client.says("PWD", 530)
    client.says("PASS 12345", 230)
    client.says("PWD", 257)


def test_a_new_login_has_its_own_rights(client: Dialogue) -> None:
    """“USER … while logged in logs out”: nothing of the old login is left."""
    client.says("MKD directory", 257)
    client.says("CWD directory", 250)
    client.says("USER anonymous", 331)
    client.says("PASS", 230)
    assert '"/"' in client.says("PWD", 257)
    client.says("MKD other", 550)


def test_a_rename_is_forgotten_with_its_login(client: Dialogue) -> None:
    """“USER … while logged in logs out”: nor is what RNFR named."""
    client.says("MKD directory", 257)
    client.says("RNFR directory", 350)
    client.logs_in()
    client.says("RNTO other", 503)


def test_where_a_transfer_would_begin_is_forgotten_with_its_login(
    client: Dialogue, root: Path
) -> None:
    """“USER … while logged in logs out”: nor do REST and RANG hold for somebody else's."""
    (root / "file").write_bytes(b"0123456789")
    client.says("RANG 2 3", 350)
    client.says("REST 5", 350)
    client.logs_in()
    assert "SHA-256 0-9 " in client.says("HASH file", 213)
    assert client.downloads("RETR file") == b"0123456789"


def test_a_name_that_comes_during_a_transfer_waits_for_its_end(client: Dialogue) -> None:
    """“USER or REIN while logged in logs out; a transfer that runs completes.”"""
    with client.begins("STOR file") as data:
        client.send("NOOP\r\nUSER anonymous")
        client.expects(200)
        data.sendall(b"content")
    client.expects(226)
    client.expects(331)
    client.says("PASS", 230)
    assert client.downloads("RETR file") == b"content"


def test_logging_out_gives_the_slot_back(serve: Maker) -> None:
    """“USER … while logged in logs out”: the user's slot comes back with it."""
    users = [User("user", "12345", base_path=serve.directory, maximum_connections=1)]
    port = serve(users=users)
    with Dialogue(port) as first, Dialogue(port) as second:
        first.logs_in()
        first.says("USER other", 331)
        second.logs_in()


def test_goodbye_is_said_before_login_too(port: int) -> None:
    """“QUIT” is among what may be said before login; 221, then the end."""
    with Dialogue(port) as client:
        client.says("QUIT", 221)
        assert client.is_closed()


def test_a_name_with_control_characters_cannot_forge_a_log_line(
    serve: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    """“Control characters never reach a log or a listing unescaped.”"""
    with caplog.at_level(logging.DEBUG), Dialogue(serve()) as client:
        client.says("USER eve\x1b[2J\x0b\x85", 331)
        client.says("PASS wrong", 530)
        messages = until(
            lambda: [text for text in map(str, caplog.messages) if "eve" in text] or None
        )
    assert all(text.isprintable() for text in messages), messages
