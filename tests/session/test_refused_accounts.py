"""Accounts that may not log in now: the client learns no more than of an unknown name."""

from __future__ import annotations

import datetime
import logging
from typing import Any

import pytest

from ftpcluster import AbstractPathIO, AsyncPathIO, PathIO, User
from ftpcluster.refused_users import UnusableUser, why_refused
from tests.session.conftest import Maker
from tests.support.dialogue import Dialogue

TODAY = datetime.date.today()
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "disabled": ({"enabled": False}, "the account is disabled"),
    "expired": (
        {"expires": TODAY - datetime.timedelta(1)},
        f"the account has expired on {TODAY - datetime.timedelta(1)}",
    ),
    "elsewhere": ({"allow": ["192.0.2.0/24"]}, "the account does not allow this address"),
}


@pytest.mark.parametrize("name", [*REFUSED, "broken"])
def test_a_refused_account_gets_the_reply_of_an_unknown_name_and_the_log_says_why(
    serve: Maker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """“530, as an unknown name”; “a true reason in the log”"""
    if name == "broken":
        user: User = UnusableUser("a", "its password is damaged")
        why = "its password is damaged"
    else:
        keywords, why = REFUSED[name]
        user = User("a", "b", base_path=serve.directory, **keywords)
    port = serve(users=[user])
    texts = []
    for login, password in (("a", "b"), ("a", "wrong"), ("nobody", "b")):
        with caplog.at_level(logging.WARNING), Dialogue(port) as client:
            asked = client.says(f"USER {login}", 331)
            texts.append((asked, client.says(f"PASS {password}", 530)))
    assert len(set(texts)) == 1
    lines = [each.getMessage() for each in caplog.records if "failed login" in each.getMessage()]
    assert [line.endswith(f": {why}") for line in lines] == [True, True, False]


def test_an_account_without_a_password_may_be_refused_too(serve: Maker) -> None:
    port = serve(users=[User("a", base_path=serve.directory, enabled=False)])
    with Dialogue(port) as client:
        client.says("USER a", 331)
        client.says("PASS x", 530)


def test_what_is_allowed_logs_in(serve: Maker) -> None:
    user = User("a", "b", base_path=serve.directory, allow=["127.0.0.0/8"], expires=TODAY)
    port = serve(users=[user])
    with Dialogue(port) as client:
        client.logs_in("a", "b")


def test_an_account_that_is_disabled_between_name_and_password_is_refused(serve: Maker) -> None:
    user = User("a", "b", base_path=serve.directory)
    port = serve(users=[user])
    with Dialogue(port) as client:
        client.says("USER a", 331)
        user.enabled = False
        client.says("PASS b", 530)


def test_the_last_day_is_a_day_on_which_the_account_may_log_in() -> None:
    """“`expires` … the last day”"""
    day = datetime.date(2027, 1, 31)
    user = User("a", "b", expires=day)
    assert why_refused(user, "127.0.0.1", day) is None
    assert why_refused(user, "127.0.0.1", day + datetime.timedelta(1)) is not None


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"enabled": "no"}, ValueError),
        ({"expires": "2027-01-31"}, TypeError),
        ({"expires": datetime.datetime(2027, 1, 31, tzinfo=datetime.UTC)}, TypeError),
        ({"allow": ["nowhere"]}, ValueError),
    ],
)
def test_wrong_values_are_refused_when_they_are_given(
    keywords: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        User("a", "b", **keywords)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- directories that are made


@pytest.mark.parametrize("layer", [PathIO, AsyncPathIO])
def test_a_directory_that_is_missing_is_made_at_the_login(
    serve: Maker, layer: type[AbstractPathIO[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """“root and home are made at login”"""
    made = User("a", "b", base_path=serve.directory / "a", home_path="/in/today", create_home=True)
    missing = User("c", "d", base_path=serve.directory / "c")
    orphan = User("e", "f", base_path=serve.directory / "x" / "e", create_home=True)
    port = serve(users=[made, missing, orphan], path_io_factory=layer)
    for _ in range(2):
        with Dialogue(port) as client:
            client.logs_in("a", "b")
            assert client.says("PWD", 257).startswith('257 "/in/today"')
            client.uploads("STOR file", b"x")
    for login, password in (("c", "d"), ("e", "f")):
        with Dialogue(port) as client:
            client.says(f"USER {login}", 331)
            client.says(f"PASS {password}", 530)
    assert (serve.directory / "a/in/today/file").read_bytes() == b"x"
    caplog.clear()  # of the two whose directories cannot be opened


def test_a_home_is_made_in_a_new_directory_only(serve: Maker) -> None:
    """In one that is there a link of its user could lead elsewhere."""
    (serve.directory / "a").mkdir()
    (serve.directory / "elsewhere").mkdir()
    (serve.directory / "a/in").symlink_to(serve.directory / "elsewhere")
    user = User("a", "b", base_path=serve.directory / "a", home_path="/in/x", create_home=True)
    with Dialogue(serve(users=[user])) as client:
        client.logs_in("a", "b")
    assert not (serve.directory / "elsewhere/x").exists()
