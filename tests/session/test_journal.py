"""“One line per event with session id, worker, peer, user; levels that make sense.”"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from tests.session.conftest import Maker
from tests.support.cluster import Cluster, until
from tests.support.dialogue import Dialogue, reset

Line = tuple[int, str]


def lines(caplog: pytest.LogCaptureFixture) -> list[Line]:
    """What was logged of sessions, with the session's number and the client's port left out."""
    found = []
    for record in caplog.records:
        if record.name == "ftpcluster.session":
            message = record.getMessage()
            assert re.match(r"\[\d+\] (127\.0\.0\.1|\[::1\]):\d+ \S+: ", message), message
            assert record.exc_info is None
            found.append((record.levelno, re.sub(r"^\[\d+\] \S+:\d+ ", "", message)))
    return found


def test_logins_transfers_and_changes_are_told_at_info(
    serve: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ftpcluster")
    with Dialogue(serve()) as client:
        client.logs_in()
        client.uploads("STOR new", b"12345")
        client.downloads("RETR new")
        client.downloads("LIST")
        client.says("MKD directory", 257)
        client.says("CWD directory", 250)
        client.says("RNFR ../new", 350)
        client.says("RNTO newer", 250)
        client.says("DELE newer", 250)
        client.says("DELE newer", 550)
        with client.passive():
            client.says("RETR newer", 550)
        client.says("SITE CHMOD 700 /directory", 200)
        client.says("RMD /directory", 250)
        client.says("QUIT", 221)
    until(lambda: len(lines(caplog)) >= 10)
    told = [(level, re.sub(r"\d+\.\d\d s$", "T s", text)) for level, text in lines(caplog)]
    assert told == [
        (logging.INFO, "user: logged in"),
        (logging.INFO, 'user: STOR "/new": 226, 5 bytes in T s'),
        (logging.INFO, 'user: RETR "/new": 226, 5 bytes in T s'),
        (logging.INFO, 'user: MKD "/directory": 257'),
        (logging.INFO, 'user: RNTO "/new" -> "/directory/newer": 250'),
        (logging.INFO, 'user: DELE "/directory/newer": 250'),
        (logging.INFO, 'user: DELE "/directory/newer": 550 No such file or directory.'),
        (logging.INFO, 'user: RETR "/directory/newer": 550 No such file or directory.'),
        (logging.INFO, "user: SITE CHMOD 700 /directory: 200"),
        (logging.INFO, 'user: RMD "/directory": 250'),
    ]


def test_every_command_is_told_at_debug_and_no_password(
    serve: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ftpcluster")
    with Dialogue(serve()) as client:
        client.says("USER user", 331)
        client.says("PASS 12345", 230)
        client.says("PWD", 257)
        client.says("WHAT is this", 500)
        client.says("QUIT", 221)
    until(lambda: any("ends" in text for _, text in lines(caplog)))
    assert [text for _, text in lines(caplog)] == [
        "-: the session begins",
        "-: USER user: 331",
        "user: logged in",
        "-: PASS ****: 230",
        "user: PWD: 257",
        "user: WHAT is this: 500 Unknown command.",
        "user: QUIT: 221",
        "user: the session ends",
    ]
    assert "12345" not in caplog.text


def test_an_upload_whose_client_leaves_is_told_with_what_came(
    serve: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ftpcluster")
    with Dialogue(serve()) as client:
        client.logs_in()
        with client.passive() as data:
            client.says("STOR new", 150)
            data.sendall(b"x" * 1000)
            until(lambda: client.says("STAT", 211))
            client.sock.close()
            reset(data)
            until(lambda: any("STOR" in text for _, text in lines(caplog)))
    (told,) = (text for _, text in lines(caplog) if "STOR" in text)
    assert re.fullmatch(r'user: STOR "/new": 426 .+, \d+ bytes in \d+\.\d\d s', told)


def test_a_failed_login_is_a_warning_with_the_address(
    serve: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ftpcluster")
    port = serve.with_settings(login_delay=0)
    with Dialogue(port) as client:
        client.says("USER eve", 331)
        client.says("PASS guess", 530)
    until(lambda: lines(caplog))
    level, text = lines(caplog)[0]
    assert level == logging.WARNING
    assert re.fullmatch(r"-: failed login of 'eve' from (127\.0\.0\.1|::1)", text)


def test_no_name_forges_a_line(serve: Maker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ftpcluster")
    with Dialogue(serve()) as client:
        client.logs_in()
        client.sock.sendall("MKD a\x1b[31m\x0b\x85\u2028b\r\n".encode())
        client.reply()
        client.sock.sendall("DELE \r\0\x0cfake\r\n".encode("latin-1"))
        client.reply()
        client.says("QUIT", 221)
    until(lambda: any("ends" in text for _, text in lines(caplog)))
    for _, text in lines(caplog):
        assert len(text.splitlines()) == 1, text
        assert text.isprintable() or "\udc85" in text, text


def test_a_session_that_is_ended_by_the_server_says_why(
    serve: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ftpcluster")
    port = serve.with_settings(idle_timeout=0.2)
    with Dialogue(port) as client:
        client.logs_in()
        assert client.reply()[0] == 421
    until(lambda: len(lines(caplog)) >= 2)
    expected = "user: the session ends: Timeout; closing control connection."
    assert lines(caplog)[-1] == (logging.INFO, expected)


def test_a_cluster_s_lines_name_the_worker(tmp_path: Path) -> None:
    arguments = ["--workers", "2", "--root", str(tmp_path), "--user", "user:12345", "--writable"]
    with Cluster(*arguments) as cluster:
        for number in (1, 2):
            with Dialogue(cluster.port) as client:
                client.logs_in()
                client.uploads("STOR new", b"12345")
                line = rf"INFO worker {number}: \[{number}\] \S+ user: STOR \"/new\": 226, 5 bytes"
                cluster.wait_for(re.compile(line))


def test_only_rnto_is_told_with_what_rnfr_has_named(
    serve: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    """Its name stays over other commands, which have nothing to do with it."""
    caplog.set_level(logging.INFO, "ftpcluster")
    with Dialogue(serve()) as client:
        client.logs_in()
        client.says("MKD one", 257)
        client.says("RNFR one", 350)
        client.says("MKD ~/two", 257)
        client.says("RNTO ~/two/one", 250)
        client.says("QUIT", 221)
    until(lambda: len(lines(caplog)) >= 4)
    assert [text for _, text in lines(caplog)][1:4] == [
        'user: MKD "/one": 257',
        'user: MKD "/two": 257',
        'user: RNTO "/one" -> "/two/one": 250',
    ]
