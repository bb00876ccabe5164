"""File systems with habits of their own, mounted for real; and files that somebody has in use."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.dialogue import Dialogue
from tests.support.kinds import Running, running
from tests.support.odd_files import mounted

CONTENT = os.urandom(600_000)
KINDS = ("cluster", "uvloop")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


@contextlib.contextmanager
def on(kind: str, directory: Path, *habits: str, **options: Any) -> Iterator[tuple[Dialogue, Path]]:
    """A client of a server whose files have such habits, and what lies behind them."""
    with mounted(directory / "behind", directory / "root", *habits):
        with running(kind, directory, **options) as server, Dialogue(server.port) as client:
            client.logs_in()
            yield client, directory / "behind"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"atomic_uploads": True}, {"durable_uploads": True}])
def test_files_without_counted_names_are_stored(
    tmp_path: Path, kind: str, options: dict[str, bool]
) -> None:
    """st_nlink is 0 from the beginning: that does not mean that somebody has removed the file."""
    with on(kind, tmp_path, "nlink0", **options) as (client, behind):
        client.uploads("STOR file", CONTENT)
        client.uploads("STOR file", CONTENT[:1000])
        client.uploads("APPE file", CONTENT)
        client.uploads("STOU file", CONTENT)
        assert (behind / "file").read_bytes() == CONTENT[:1000] + CONTENT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_atomic", [False, True])
def test_files_that_can_only_be_written_anew_are(
    tmp_path: Path, kind: str, is_atomic: bool
) -> None:
    """They open with O_TRUNC only. What is stored anew is whole, what is not keeps what it had."""
    with on(kind, tmp_path, "truncates", atomic_uploads=is_atomic) as (client, behind):
        file = behind / "file"
        client.uploads("STOR file", CONTENT)
        client.uploads("STOR file", CONTENT[:300_000])
        client.says("TYPE A", 200)
        client.uploads("STOR file", b"text\r\n")
        client.says("TYPE I", 200)
        assert file.read_bytes() == b"text\n"
        client.passive().close()
        client.says("APPE file", 550)
        client.says("REST 2", 350)
        client.says("STOR file", 550)
        assert file.read_bytes() == b"text\n"
        client.says("ABOR", 226)
        client.says("EPSV", 229)
        client.send("STOR file\r\nABOR")  # before any data could come
        if client.reply()[0] == 150:
            client.expects(426)
        client.expects(226)
        assert file.read_bytes() == b"text\n"
        client.uploads("APPE other", b"x")


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_may_write_is_refused_before_data(tmp_path: Path, kind: str) -> None:
    """EPERM may have other reasons: an immutable file is none that wants to be written anew."""
    with running(kind, tmp_path) as server, Dialogue(server.port) as client:
        file = server.root / "file"
        file.write_bytes(b"before")
        if subprocess.run(["chattr", "+i", file], capture_output=True, check=False).returncode:
            pytest.skip("no immutable files here")
        try:
            client.logs_in()
            with client.passive():
                client.says("STOR file", 550)
        finally:
            subprocess.run(["chattr", "-i", file], check=True)
        assert file.read_bytes() == b"before"


@pytest.mark.parametrize("kind", KINDS)
def test_replacing_files_whose_mode_cannot_be_changed(tmp_path: Path, kind: str) -> None:
    """CIFS and FUSE refuse chmod and chown, often: what replaces a file has its mode all the same,
    where the mode of a new one counts."""
    with on(kind, tmp_path, "chmod", atomic_uploads=True) as (client, behind):
        client.uploads("STOR file", CONTENT)
        (behind / "file").chmod(0o640)
        os.chown(behind / "file", 1, 1)
        client.uploads("STOR file", CONTENT[:1000])
        assert (behind / "file").read_bytes() == CONTENT[:1000]
        assert (behind / "file").stat().st_mode & 0o777 == 0o640
        assert os.listdir(behind) == ["file"]


@pytest.mark.parametrize("kind", KINDS)
def test_closing_what_was_read_may_fail(tmp_path: Path, kind: str) -> None:
    with on(kind, tmp_path, "flush") as (client, behind):
        (behind / "file").write_bytes(CONTENT)
        assert client.downloads("RETR file") == CONTENT
        (behind / "small").write_bytes(b"small")
        assert client.downloads("RETR small") == b"small"
        client.says("TYPE A", 200)
        client.downloads("RETR file")
        client.says("XMD5 file", 250)
        client.says("TYPE I", 200)
        client.uploads("STOR file", CONTENT, 552)  # of what is written it is everybody's business


# ---------------------------------------------------------------------- files in use

_HOLDER = """
import fcntl, os, signal, sys
path, kind = sys.argv[1:]
fd = os.open(path, os.O_RDONLY if kind == "F_RDLCK" else os.O_RDWR)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
fcntl.fcntl(fd, fcntl.F_SETLEASE, getattr(fcntl, kind))
print("held", flush=True)
signal.sigwait([signal.SIGIO])
print("asked", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def leased(path: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    """Another program has a lease, as a Samba server would, until a line is sent to it."""
    command = [sys.executable, "-c", _HOLDER, str(path), kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != "held\n":
            pytest.skip("no leases here")
        try:
            yield holder
        finally:
            holder.kill()


def give_way(holder: subprocess.Popen[str]) -> None:
    """It gives way once it is asked to."""
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "asked\n"
    holder.stdin.write("\n")
    holder.stdin.flush()


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    with running(request.param, tmp_path) as made:
        (made.root / "file").write_bytes(CONTENT)
        yield made


def test_files_in_use_are_waited_for(server: Running) -> None:
    """Others go on meanwhile, and so does this session when the file is free."""
    file = server.root / "file"
    with Dialogue(server.port) as client, Dialogue(server.port) as other:
        client.logs_in()
        other.logs_in()
        with leased(file, "F_WRLCK") as holder, client.passive() as data:
            client.send("RETR file")
            other.says("NOOP", 200)
            give_way(holder)
            client.expects(150)
            assert b"".join(iter(lambda: data.recv(1 << 16), b"")) == CONTENT
        client.expects(226)
        with leased(file, "F_WRLCK") as holder:
            client.send("XMD5 file")
            give_way(holder)
            client.expects(250)
        for verb in ("STOR", "APPE"):
            with leased(file, "F_RDLCK") as holder:
                with client.passive() as data:
                    client.send(f"{verb} file")
                    give_way(holder)
                    client.expects(150)
                    data.sendall(b"new")
                client.expects(226)
        assert file.read_bytes() == b"newnew"


@pytest.mark.slow
def test_files_that_stay_in_use_are_450(server: Running) -> None:
    with Dialogue(server.port) as client:
        client.logs_in()
        with leased(server.root / "file", "F_RDLCK"), client.passive():
            client.says("STOR file", 450)
        assert (server.root / "file").read_bytes() == CONTENT


def test_waiting_for_a_file_can_be_aborted(server: Running) -> None:
    with Dialogue(server.port) as client:
        client.logs_in()
        with leased(server.root / "file", "F_RDLCK") as holder, client.passive():
            client.send("STOR file")
            assert holder.stdout is not None
            assert holder.stdout.readline() == "asked\n"
            client.send("ABOR")
            client.expects(426)
            client.expects(226)
        client.says("NOOP", 200)


def test_a_program_that_runs_is_busy(server: Running) -> None:
    """ETXTBSY: it is waited for as well, a little."""
    program = server.root / "program"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    with subprocess.Popen([str(program), "30"]) as running_one, Dialogue(server.port) as client:
        client.logs_in()
        with client.passive() as data:
            client.send("STOR program")
            client.finds_silence(0.3)
            running_one.kill()
            running_one.wait(20)
            client.expects(150)
            data.sendall(b"new")
        client.expects(226)
    assert program.read_bytes() == b"new"
