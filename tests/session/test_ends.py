"""How sessions end, other than by QUIT (protocol.md, “Ends”), and limits on their number."""

from __future__ import annotations

import concurrent.futures
import contextlib
import select
import time

import pytest

from ftpcluster import User
from tests.session.conftest import Maker
from tests.support.cluster import until
from tests.support.dialogue import Dialogue

SHORT = 0.5
LONG = 60.0


def users(serve: Maker, most: int | None = None) -> list[User]:
    return [
        User("user", "12345", base_path=serve.directory, maximum_connections=most),
        User("other", "12345", base_path=serve.directory),
    ]


def is_full(port: int) -> bool:
    """Whether a new connection gets 421 and is closed; else it must get 220."""
    with Dialogue(port, greeting=None) as client:
        code, text = client.reply()
        assert code in (220, 421), text
        if code == 421:
            assert client.is_closed()
        return code == 421


def may_log_in(port: int) -> bool:
    """Whether there is a slot for the user; else it must be 530."""
    with Dialogue(port) as client:
        client.says("USER user", 331)
        client.send("PASS 12345")
        code, text = client.reply()
        assert code in (230, 530), text
        return code == 230


# ---------------------------------------------------------------------- clocks


@pytest.mark.parametrize("login_timeout", [SHORT, LONG, None])
def test_an_idle_session_ends(serve: Maker, login_timeout: float | None) -> None:
    """“421 and close for: … idle”: whatever the login deadline is."""
    with Dialogue(serve(idle_timeout=SHORT, login_timeout=login_timeout)) as client:
        client.logs_in()
        begin = time.monotonic()
        client.expects(421)
        assert time.monotonic() - begin > SHORT / 2
        assert client.is_closed()


def test_commands_keep_a_session_from_being_idle(serve: Maker) -> None:
    """“421 and close for: … idle”: that is without commands."""
    with Dialogue(serve(idle_timeout=1.5, login_timeout=LONG)) as client:
        client.logs_in()
        end = time.monotonic() + 2.2
        while time.monotonic() < end:
            client.says("NOOP", 200)
            client.finds_silence(0.1)


@pytest.mark.parametrize("socket_timeout", [LONG, None])
def test_the_idle_clock_stops_during_a_transfer(serve: Maker, socket_timeout: float | None) -> None:
    """“idle (…, its clock stops during a transfer)”: whatever the deadline for progress is."""
    port = serve(idle_timeout=SHORT, login_timeout=SHORT, socket_timeout=socket_timeout)
    with Dialogue(port) as client:
        client.logs_in()
        with client.begins("STOR file") as data:
            client.finds_silence(2 * SHORT)
            data.sendall(b"content")
        client.expects(226)
        assert (serve.directory / "file").read_bytes() == b"content"
        client.expects(421)


def test_who_does_not_log_in_has_to_go(serve: Maker) -> None:
    """“421 and close for: … login deadline”"""
    with Dialogue(serve(login_timeout=SHORT)) as client:
        client.says("USER user", 331)
        client.expects(421)
        assert client.is_closed()


def test_talking_is_no_login(serve: Maker) -> None:
    """“421 and close for: … login deadline”: commands do not move it."""
    with Dialogue(serve(login_timeout=1.0)) as client:
        end = time.monotonic() + 20
        while not select.select([client.sock], [], [], 0.1)[0]:
            assert time.monotonic() < end
            client.says("NOOP", 200, 421)
        # the answer to a last NOOP may be a reset, which overtakes the last reply
        with contextlib.suppress(ConnectionError, EOFError):
            client.expects(421)
        assert client.is_closed()


def test_who_has_logged_in_may_stay(serve: Maker) -> None:
    """“421 and close for: … login deadline”: it is met by a login."""
    with Dialogue(serve(login_timeout=SHORT)) as client:
        client.logs_in()
        client.finds_silence(2 * SHORT)
        client.says("NOOP", 200)


def test_who_logs_out_has_the_login_deadline_again(serve: Maker) -> None:
    """“421 and close for: … login deadline”: from the logout on."""
    with Dialogue(serve(login_timeout=SHORT)) as client:
        client.logs_in()
        client.finds_silence(2 * SHORT)
        client.says("USER user", 331)
        client.finds_silence(SHORT / 5)
        client.expects(421)
        assert client.is_closed()


def test_a_transfer_without_progress_ends(serve: Maker) -> None:
    """“Stalled transfer (no progress for 120 s): 426.”, in either direction."""
    with (serve.directory / "big").open("wb") as file:
        file.truncate(1 << 30)
    port = serve(socket_timeout=SHORT)
    with Dialogue(port) as reader, Dialogue(port) as writer:
        reader.logs_in()
        writer.logs_in()
        with reader.begins("RETR big", window=4096), writer.begins("STOR file"):
            reader.expects(426)
            writer.expects(426)
        for client in (reader, writer):
            client.says("NOOP", 200)
            client.uploads("STOR next", b"content")


# ---------------------------------------------------------------------- numbers


def test_a_full_server_refuses(serve: Maker) -> None:
    """“421 and close for: server full”"""
    port = serve(maximum_connections=2)
    with Dialogue(port), Dialogue(port) as second:
        assert is_full(port)
        second.says("NOOP", 200)


@pytest.mark.parametrize("how", ["QUIT", "close"])
def test_a_connection_that_ends_makes_room(serve: Maker, how: str) -> None:
    """“server full”: no longer when somebody has left."""
    port = serve(maximum_connections=1)
    with Dialogue(port) as client:
        assert is_full(port)
        if how == "QUIT":
            client.says("QUIT", 221)
        client.sock.close()
        until(lambda: not is_full(port))


@pytest.mark.parametrize("most", [1, 4])
def test_the_limit_is_exact_when_many_come_at_once(serve: Maker, most: int) -> None:
    """faults.md: “exact under 200 logins at once: never one more, never one less”."""
    port = serve(maximum_connections=most)
    clients: list[Dialogue] = []
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        try:
            futures = [pool.submit(Dialogue, port, greeting=None) for _ in range(100)]
            clients = [future.result() for future in futures]
            codes = [client.reply()[0] for client in clients]
        finally:
            for client in clients:
                client.sock.close()
    assert sorted(set(codes)) == [220, 421]
    assert codes.count(220) == most
    until(lambda: not is_full(port))


def test_a_user_who_has_all_connections_gets_no_more(serve: Maker) -> None:
    """“User full: 530.”"""
    port = serve(users=users(serve, most=1))
    with Dialogue(port) as first:
        first.logs_in()
        assert not may_log_in(port)
        first.says("NOOP", 200)
        with Dialogue(port) as other:
            other.logs_in("other")


def test_a_refused_session_lives(serve: Maker) -> None:
    """“User full: 530.”: that is no end, and no failed login; later it may be let in."""
    port = serve(users=users(serve, most=1))
    with Dialogue(port) as first, Dialogue(port) as second:
        first.logs_in()
        for _ in range(5):
            second.says("USER user", 331)
            second.says("PASS 12345", 530)
            second.says("PWD", 530)
        first.says("QUIT", 221)
        assert first.is_closed()
        until(lambda: may_log_in(port))
        second.logs_in()


@pytest.mark.parametrize("how", ["QUIT", "close"])
def test_the_users_slot_comes_back(serve: Maker, how: str) -> None:
    """“User full”: no longer when the user has left."""
    port = serve(users=users(serve, most=1))
    with Dialogue(port) as first:
        first.logs_in()
        assert not may_log_in(port)
        if how == "QUIT":
            first.says("QUIT", 221)
        first.sock.close()
        until(lambda: may_log_in(port))


def test_a_name_alone_takes_no_slot(serve: Maker) -> None:
    """library.md: “The user's slot is taken after a successful PASS”."""
    port = serve(users=users(serve, most=1))
    with Dialogue(port) as unauthenticated, Dialogue(port) as client:
        unauthenticated.says("USER user", 331)
        client.logs_in()


def test_closing_the_server_ends_its_sessions(serve: Maker) -> None:
    """library.md: “`close()` ends sessions (clients see EOF)”."""
    with Dialogue(serve()) as idle, Dialogue(serve.made[-1].port) as busy:
        idle.says("NOOP", 200)
        busy.logs_in()
        with busy.begins("STOR file"):
            serve.made.pop().stop()
            for client in (idle, busy):
                # a last reply may be said
                try:
                    while client.reply():
                        pass
                except (EOFError, ConnectionError):
                    pass
