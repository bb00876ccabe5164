"""Names that one user may not use or see, beside those of the server."""

from __future__ import annotations

from ftpcluster import User
from tests.session.conftest import Maker
from tests.support.dialogue import Dialogue

NAMES = ("seen", "a.php", "b.tmp", "c.bak")


def prepared(serve: Maker) -> int:
    for name in NAMES:
        (serve.directory / name).write_bytes(b"x")
    users = [
        User("bound", "x", base_path=serve.directory, forbid=["*.php"]),
        User("shy", "x", base_path=serve.directory, hide=["*.bak"]),
        User("other", "x", base_path=serve.directory),
    ]
    return serve(users=users, hide=["*.tmp"], forbid=["*.secret"])


def names(client: Dialogue) -> set[str]:
    return set(client.downloads("NLST").decode().split())


def test_what_a_user_may_not_use_adds_to_what_nobody_may(serve: Maker) -> None:
    port = prepared(serve)
    with Dialogue(port) as client:
        client.logs_in("bound", "x")
        client.says("SIZE a.php", 550)
        client.says("SIZE x.secret", 550)
        client.says("MKD d.php", 553)
        assert names(client) == {"seen", "c.bak"}
    with Dialogue(port) as client:
        client.logs_in("other", "x")
        client.says("SIZE a.php", 213)
        client.says("MKD d.secret", 553)
        assert names(client) == {"seen", "a.php", "c.bak"}


def test_what_is_hidden_from_a_user_replaces_what_is_hidden_from_all(serve: Maker) -> None:
    with Dialogue(prepared(serve)) as client:
        client.logs_in("shy", "x")
        assert names(client) == {"seen", "a.php", "b.tmp"}
        client.says("SIZE c.bak", 213)
