"""Root is led nowhere by links that others have put: logs, the admin socket, certificates."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from ftpcluster.privileges import Identity, parse_run_as
from ftpcluster.safe_paths import UnsafePath, acting_for, controllers, reading_for
from tests.support.cluster import Cluster, until
from tests.support.command import command
from tests.support.dialogue import Dialogue
from tests.support.forking import CHECKOUT
from tests.support.unprivileged import PACKAGES, python_for_nobody

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root could be led anywhere")
SECRET = "root's alone\n"


@pytest.fixture(scope="module")
def nobody() -> Identity:
    return parse_run_as("nobody")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of root's that everybody may enter: "theirs" in it is nobody's."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        place.chmod(0o755)
        for name in ("theirs", "files", "ours"):
            (place / name).mkdir()
        shutil.chown(place / "theirs", "nobody")
        shutil.chown(place / "files", "nobody")
        (place / "secret").write_text(SECRET)
        (place / "secret").chmod(0o600)
        yield place
    finally:
        shutil.rmtree(place)


@pytest.fixture(autouse=True)
def secret_stays(place: Path) -> Iterator[None]:
    yield
    status = (place / "secret").stat()
    assert (place / "secret").read_text() == SECRET
    assert (status.st_uid, status.st_mode & 0o777) == (0, 0o600)


# ---------------------------------------------------------------------- who decides


def test_who_has_a_directory_decides_what_lies_in_it(place: Path, nobody: Identity) -> None:
    theirs = str(place / "theirs")
    (place / "theirs/below").mkdir()
    (place / "ours/link").symlink_to("../theirs")
    (place / "ours/down").symlink_to("../theirs/below")
    for path in (
        "theirs/x",
        "theirs/below/x",
        "ours/link/x",
        "theirs/below/../x",
        "ours/down/../x",
    ):
        assert controllers(str(place / path), nobody) == {nobody.uid: theirs}
    for path in ("theirs", "ours/x", "ours/missing/x", "secret"):
        assert controllers(str(place / path), nobody) == (
            {nobody.uid: theirs} if path == "theirs" else {}
        )


def test_a_link_leads_where_its_owner_says(place: Path, nobody: Identity) -> None:
    link = place / "ours/link"
    link.symlink_to("x")
    assert controllers(str(link), nobody) == {}
    os.lchown(link, nobody.uid, -1)
    assert controllers(str(link), nobody) == {nobody.uid: str(link)}


def test_who_may_write_in_a_directory_decides_too(place: Path) -> None:
    identity = parse_run_as("nobody:daemon")
    ours = place / "ours"
    ours.chmod(0o777)
    assert controllers(f"{ours}/x", identity) == {-1: str(ours)}
    ours.chmod(0o1777)  # as /tmp: nobody may rename what is others'
    assert controllers(f"{ours}/x", identity) == {}
    ours.chmod(0o775)
    assert controllers(f"{ours}/x", identity) == {}
    shutil.chown(ours, "root", "daemon")
    assert controllers(f"{ours}/x", identity) == {identity.uid: str(ours)}


def test_root_acts_as_who_serves_or_not_at_all(place: Path, nobody: Identity) -> None:
    with acting_for(str(place / "theirs/x"), nobody):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (nobody.uid, nobody.gid, [])
    assert os.geteuid() == 0
    with acting_for(str(place / "ours/x"), nobody):
        assert os.geteuid() == 0
    for identity in (None, parse_run_as("daemon")):
        with pytest.raises(UnsafePath, match="theirs belongs to nobody"):
            with acting_for(str(place / "theirs/x"), identity):
                pass
        with reading_for([str(place / "theirs/x")], identity):
            assert os.geteuid() == 0
    with reading_for([str(place / "ours/x"), str(place / "theirs/x")], nobody):
        assert os.geteuid() == nobody.uid


# ---------------------------------------------------------------------- run and check


def arguments(place: Path, *more: str) -> list[str]:
    where = ("--host", "127.0.0.1", "--port", "0", "--root", str(place / "files"))
    return ["--workers", "1", *where, "--anonymous", *more]


def refusal(place: Path, *more: str) -> str:
    """What ``run`` says that does not start."""
    done = command("run", *arguments(place, *more))
    assert done.returncode == 2, done.stderr
    return done.stderr


@pytest.mark.parametrize("who", ["nobody", "daemon", None])
@pytest.mark.parametrize("kind", ["link to a file", "link to a directory", "link of an ancestor"])
def test_a_log_is_not_appended_to_what_a_link_leads_to(
    place: Path, who: str | None, kind: str
) -> None:
    """A worker that was taken over has put it there, and waits for the next start."""
    log = place / "theirs/log"
    if kind == "link to a file":
        log.symlink_to("../secret")
    elif kind == "link to a directory":
        log = place / "theirs/logs/secret"
        log.parent.symlink_to("..")
    else:
        (place / "theirs/a").symlink_to("..")
        log = place / "theirs/a/secret"
    flags = ("--run-as", who) if who else ()
    said = refusal(place, "--log-file", str(log), *flags)
    assert ("Permission denied" if who == "nobody" else f"{place}/theirs belongs to nobody") in said


def test_a_log_in_a_directory_of_who_serves_is_made_by_who_serves(place: Path) -> None:
    """As logrotate's example has it: it can be opened again after a rotation."""
    log = place / "theirs/log"
    with serving(place, "--log-file", str(log), "--run-as", "nobody") as cluster:
        assert log.stat().st_uid == pwd.getpwnam("nobody").pw_uid
        log.rename(place / "theirs/log.1")
        cluster.process.send_signal(signal.SIGUSR1)
        until(lambda: log.exists() and "was opened again" in log.read_text())


def test_a_log_is_not_opened_again_by_root_where_others_lead_it(place: Path) -> None:
    log = place / "ours/log"
    with serving(place, "--log-file", str(log)) as cluster:
        shutil.chown(place / "ours", "nobody")
        log.rename(place / "ours/log.1")
        log.symlink_to("../secret")
        cluster.process.send_signal(signal.SIGUSR1)
        until(lambda: "ours belongs to nobody" in (place / "ours/log.1").read_text())


@contextlib.contextmanager
def serving(place: Path, *more: str) -> Iterator[Cluster]:
    """A cluster whose Python whoever it becomes may use."""
    env = {"PYTHONPATH": ":".join(PACKAGES)}
    with Cluster(
        *arguments(place, *more), hosts=None, cwd=CHECKOUT, python=python_for_nobody(), env=env
    ) as cluster:
        yield cluster


@pytest.mark.parametrize("what", ["a link", "nothing"])
def test_the_admin_socket_is_not_in_a_directory_of_others(place: Path, what: str) -> None:
    """Root would give away what a link leads to, and administrators would speak to anybody."""
    path = place / "theirs/admin.sock"
    if what == "a link":
        path.symlink_to("../secret")
    file = place / "f.toml"
    file.write_text(f'run_as = "nobody"\n[admin]\nsocket = "{path}"\n')
    file.chmod(0o644)
    said = refusal(place, "-c", str(file))
    assert f"{place}/theirs belongs to nobody, who could have root write elsewhere" in said
    assert os.path.islink(path) == (what == "a link")


def test_a_key_that_only_root_may_read_is_not_served_for_a_link_s_sake(place: Path) -> None:
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(place / "ours/pem"))
    (place / "ours/pem").chmod(0o600)
    (place / "theirs/pem").symlink_to("../ours/pem")
    said = refusal(place, "--tls-cert", str(place / "theirs/pem"), "--run-as", "nobody")
    assert "theirs/pem: Permission denied" in said
    with serving(place, "--tls-cert", str(place / "ours/pem"), "--run-as", "nobody") as cluster:
        with Dialogue(cluster.port) as client:
            client.says("AUTH TLS", 234)


def test_check_says_who_could_lead_root(place: Path) -> None:
    file = place / "theirs/f.toml"
    text = (
        f'run_as = "daemon"\n[anonymous]\nroot = "{place}/files"\n'
        f'[log]\nfile = "{place}/theirs/log"\n'
    )
    file.write_text(text)
    done = command("check", "-c", str(file))
    assert done.returncode == 2
    assert (
        f"f.toml:5: log.file: {place}/theirs/log: {place}/theirs belongs to nobody" in done.stderr
    )
    file.write_text(text.replace("daemon", "nobody"))
    done = command("check", "-c", str(file))
    assert done.returncode == 0, done.stderr
    assert '"nobody" (run_as) could replace it, and be root at the next start' in done.stderr
