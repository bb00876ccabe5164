"""Addresses that guess are banned, in the library (faults.md “Abuse”: guessing)."""

from __future__ import annotations

import time

import pytest

from ftpcluster import Server
from tests.conftest import InProcess
from tests.session.conftest import Maker
from tests.support.cluster import until
from tests.support.dialogue import Dialogue

MALLORY, ALICE = "127.0.0.7", "127.0.0.8"
BANNED = "421 Banned; try again later."


def strict(serve: Maker, **options: object) -> int:
    """The port of a server that bans after three failed logins, wherever they come from."""
    return serve(**{"ban_failures": 3, "ban_allow": (), **options})


def fail(port: int, times: int, source: str = MALLORY) -> None:
    """Fail to log in, with a connection for each time; the last one may lead to a ban."""
    for _ in range(times):
        with Dialogue(port, source=source) as client:
            assert client.guesses()[0] in (421, 530)


def is_refused(port: int, source: str) -> bool:
    with Dialogue(port, source=source, greeting=None) as client:
        code, text = client.reply()
        assert code == 220 or (text == BANNED and client.is_closed())
        return code == 421


def test_an_address_that_guesses_is_refused_and_others_are_not(serve: Maker) -> None:
    port = strict(serve)
    fail(port, 3)
    assert is_refused(port, MALLORY)
    assert not is_refused(port, ALICE)
    with Dialogue(port, source=ALICE) as client:
        client.logs_in()


def test_the_guess_that_leads_to_the_ban_is_answered_with_it(serve: Maker) -> None:
    port = strict(serve, login_delay=30)  # nobody waits for that
    with Dialogue(port, source=MALLORY) as one, Dialogue(port, source=MALLORY) as two:
        with Dialogue(port, source=MALLORY) as three:
            for client in (one, two, three):
                client.says("USER user", 331)
                client.send("PASS wrong")
            for client in (one, two, three):
                assert client.expects(421) == BANNED
                assert client.is_closed()


def test_a_ban_ends_what_has_not_logged_in_and_nothing_else(serve: Maker) -> None:
    (serve.directory / "file").write_bytes(b"content")
    port = strict(serve)
    with (
        Dialogue(port, source=MALLORY) as idle,
        Dialogue(port, source=MALLORY) as inside,
        Dialogue(port, source=ALICE) as other,
    ):
        inside.logs_in()
        fail(port, 3)
        assert idle.expects(421) == BANNED
        assert idle.is_closed()
        other.says("NOOP", 200)
        inside.says("SIZE file", 213)
        with inside.begins("STOR new") as data:
            data.sendall(b"more")
        inside.expects(226)


def test_a_ban_ends_with_its_time(serve: Maker) -> None:
    port = strict(serve, ban_duration=0.5)
    fail(port, 3)
    until(lambda: not is_refused(port, MALLORY))
    with Dialogue(port, source=MALLORY) as client:
        client.logs_in()


def test_failures_that_are_too_old_do_not_count(serve: Maker) -> None:
    port = strict(serve, ban_window=0.2)
    for _ in range(2):
        fail(port, 2)
        begin = time.monotonic()
        until(lambda begin=begin: time.monotonic() > begin + 0.3)
    assert not is_refused(port, MALLORY)


def test_names_that_nobody_has_count_too(serve: Maker) -> None:
    port = strict(serve)
    for name in ("nobody", "root", "x" * 3000):
        with Dialogue(port, source=MALLORY) as client:
            client.guesses(name)
    assert is_refused(port, MALLORY)


def test_logins_that_succeed_do_not_count(serve: Maker) -> None:
    port = strict(serve)
    for _ in range(10):
        with Dialogue(port, source=MALLORY) as client:
            client.logs_in()
    assert not is_refused(port, MALLORY)


@pytest.mark.parametrize("options", [{}, {"ban_failures": 3}])
def test_loopback_is_never_banned_as_long_as_nobody_says_so(
    serve: Maker, options: dict[str, int]
) -> None:
    port = serve(**options)
    fail(port, 8, "127.0.0.1")
    fail(port, 8, MALLORY)
    assert not is_refused(port, MALLORY)


def test_who_hangs_up_on_the_delay_has_used_up_a_try(serve: Maker) -> None:
    port = strict(serve, login_delay=30)
    for _ in range(2):
        with Dialogue(port, source=MALLORY) as client:
            client.says("USER user", 331)
            client.send("PASS wrong\r\nNOOP")
    # each of them has been seen by the time that the next one of the same loop is answered
    with Dialogue(port, source=MALLORY) as client:
        client.says("USER user", 331)
        client.send("PASS wrong")
        assert client.expects(421) == BANNED


def test_a_client_behind_a_proxy_is_banned_and_the_proxy_is_not(serve: Maker) -> None:
    port = strict(serve, proxy_protocol=["127.0.0.0/8"])

    def connect(client: str) -> Dialogue:
        dialogue = Dialogue(port, source=MALLORY, greeting=None)
        dialogue.send(f"PROXY TCP4 {client} 192.0.2.1 4000 21")
        return dialogue

    for _ in range(3):
        with connect("192.0.2.7") as guesser:
            guesser.expects(220)
            guesser.guesses()
    with connect("192.0.2.7") as guesser, connect("192.0.2.8") as honest:
        assert guesser.expects(421) == BANNED
        honest.expects(220)
        honest.logs_in()


@pytest.mark.parametrize("wrong", [{"ban_failures": 0}, {"ban_failures": 3, "ban_window": 0}])
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Server(**wrong)


def test_a_ban_forgets_nothing_of_the_servers_books(serve: Maker) -> None:
    port = strict(serve, maximum_connections=4)
    server: InProcess = serve.made[-1]
    clients = [Dialogue(port, source=MALLORY) for _ in range(3)]
    for client in clients:
        client.guesses()
    until(lambda: server.call(lambda: server.server.ledger.connections) == 0)
    for client in clients:
        client.sock.close()
