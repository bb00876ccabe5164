"""An error that nobody foresaw ends its session at once, with 421, and frees its slot.

Else nobody would read the connection any more, and it would stay until its deadline, if it has one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from ftpcluster import User
from ftpcluster.session.deadlines import Deadlines
from ftpcluster.session.server_pi import ServerPI
from ftpcluster.session.state import Session
from tests.session.conftest import Maker
from tests.support.cluster import until
from tests.support.dialogue import Dialogue


@pytest.fixture
def port(serve: Maker) -> int:
    """Of a server with one slot, and without a deadline that would end a session."""
    user = User("user", "12345", base_path=serve.directory, maximum_connections=1)
    (serve.directory / "file").write_bytes(b"content")
    return serve(users=[user], maximum_connections=1, idle_timeout=None, login_timeout=None)


@pytest.fixture
def ends_alone(port: int, caplog: pytest.LogCaptureFixture) -> Callable[..., None]:
    """That a session has ended, is logged, and has given back what it held."""

    def check(client: Dialogue, *, told: bool = True) -> None:
        if told:
            client.expects(421)
        assert client.is_closed()
        until(lambda: "broken by a test" in caplog.text)
        caplog.clear()
        with Dialogue(port) as other:
            other.logs_in()
            assert other.downloads("RETR file", 226) == b"content"
            other.says("QUIT", 221)
        assert not [each for each in caplog.records if each.levelno >= logging.ERROR]

    return check


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has a method fail, where ``when`` says so."""

    def broken(owner: type, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
        usual = getattr(owner, name)

        def method(*args: Any, **kwargs: Any) -> Any:
            if when(*args):
                monkeypatch.setattr(owner, name, usual)
                raise RuntimeError("broken by a test")
            return usual(*args, **kwargs)

        monkeypatch.setattr(owner, name, method)

    return broken


def is_xboom(_: object, verb: bytes, __: bytes) -> bool:
    return verb == b"XBOOM"


def test_in_a_line(port: int, ends_alone: Any, breaks: Any) -> None:
    breaks(ServerPI, "_obey", is_xboom)
    with Dialogue(port) as client:
        client.logs_in()
        client.send("XBOOM")
        ends_alone(client)


def test_in_a_line_whose_turn_comes_later(port: int, ends_alone: Any, breaks: Any) -> None:
    breaks(ServerPI, "_obey", is_xboom)
    with Dialogue(port) as client:
        client.logs_in()
        client.send(b"NOOP\r\n" * 40 + b"XBOOM")
        for _ in range(40):
            client.expects(200)
        ends_alone(client)


def test_behind_a_command_that_waited(port: int, ends_alone: Any, breaks: Any) -> None:
    breaks(ServerPI, "_obey", is_xboom)
    with Dialogue(port) as client:
        client.logs_in()
        with client.begins("STOR new") as data:
            client.send("XBOOM")
            data.sendall(b"content")
        client.expects(226)
        ends_alone(client)


def test_while_a_command_runs(port: int, ends_alone: Any, breaks: Any) -> None:
    """The command ends as well, and nothing of it stays."""
    breaks(ServerPI, "_obey_meanwhile", lambda _, verb, __: verb == b"STAT")
    with Dialogue(port) as client:
        client.logs_in()
        with client.begins("STOR new") as data:
            client.send("STAT")
            client.expects(421)
            assert not data.recv(1)
            ends_alone(client, told=False)


def test_at_the_end_of_a_command_that_waited(port: int, ends_alone: Any, breaks: Any) -> None:
    with Dialogue(port) as client:
        client.logs_in()
        with client.begins("STOR new"):
            breaks(ServerPI, "_finish")
        ends_alone(client)


def test_at_the_greeting(port: int, ends_alone: Any, breaks: Any) -> None:
    breaks(ServerPI, "_greeting")
    with Dialogue(port, greeting=None) as client:
        ends_alone(client)


def test_before_it_has_begun(port: int, ends_alone: Any, breaks: Any) -> None:
    breaks(Deadlines, "__init__")
    with Dialogue(port, greeting=None) as client:
        ends_alone(client, told=False)


@pytest.mark.parametrize("name", ["drop_data", "log_out", "forget_client"])
def test_at_the_end_itself(port: int, ends_alone: Any, breaks: Any, name: str) -> None:
    with Dialogue(port) as client:
        client.logs_in()
        breaks(Session, name)
        client.says("QUIT", 221)
        ends_alone(client, told=False)


def test_at_a_deadline(serve: Maker, caplog: pytest.LogCaptureFixture, breaks: Any) -> None:
    """Its session would have none from then on, and of others' it would be the only timer."""
    port = serve(idle_timeout=1.0)
    with Dialogue(port) as client, Dialogue(port) as other:
        client.logs_in()
        breaks(Deadlines, "_due")
        client.expects(421)
        other.expects(421)
        assert client.is_closed()
        assert other.is_closed()
    until(lambda: "broken by a test" in caplog.text)
    caplog.clear()
