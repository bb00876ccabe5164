"""What README shows is executed."""

from __future__ import annotations

import ftplib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from tests.support.cluster import Cluster
from tests.support.configured import configured
from tests.support.dialogue import Dialogue

README = (Path(__file__).parent.parent / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", README, re.MULTILINE)
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
FILES = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)


def test_the_two_commands_stand_in_readme() -> None:
    assert "pip install . && ftpcluster run --workers 2 --root ." in COMMANDS
    assert "pip install -e '.[test]' && pytest" in COMMANDS


@pytest.mark.parametrize("command", [c for c in COMMANDS if "ftpcluster run --" in c])
def test_the_servers_of_readme_run(command: str, tmp_path: Path) -> None:
    """Only port, address and directory are not those of README."""
    flags = shlex.split(command.partition("ftpcluster run")[2])
    flags[flags.index("--root") + 1] = str(tmp_path)
    (tmp_path / "file").write_text("content")
    with Cluster(*flags) as cluster, Dialogue(cluster.port) as client:
        client.logs_in("anonymous", "")
        assert client.downloads("RETR file") == b"content"


def test_there_are_a_short_and_a_long_configuration_file() -> None:
    short, long = FILES
    assert len(short.splitlines()) == 3
    assert {"[[listen]]", "[tls]", "[limits]", "[[user]]"} <= set(long.splitlines())
    assert "ftpcluster run -c ftpcluster.toml" in COMMANDS


@pytest.mark.parametrize("text", FILES)
def test_the_configuration_files_of_readme_run(text: str, tmp_path: Path) -> None:
    """Only directories, ports, certificates and the machine's users are not those of README."""
    directory = tmp_path / "srv" / "ftp"
    for name in ("pub", "alice", "scanner/incoming"):
        (directory / name).mkdir(parents=True)
    (directory / "pub" / "file").write_bytes(b"content")
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(tmp_path / "privkey.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "fullchain.pem"))
    text = text.replace("/srv/ftp", str(directory)).replace("/etc/ssl/ftp/", "")
    text = text.replace("port = 990", "port = 0").replace("workers = 4", "workers = 2")
    text = text.replace('run_as = "ftp:ftp"\n', "")
    with configured(tmp_path, text) as cluster:
        if "[anonymous]" in text:
            with Dialogue(cluster.port) as client:
                client.logs_in("anonymous", "")
                assert client.downloads("RETR file") == b"content"
            return
        for login, password, writable in (
            ("alice", "secret", "/new"),
            ("scanner", "change me", "/incoming/new"),
        ):
            with ftplib.FTP_TLS(timeout=20) as session:
                session.connect("127.0.0.1", cluster.port)
                session.login(login, password)  # AUTH TLS, since README requires it
                session.prot_p()
                session.storbinary(f"STOR {writable}", io.BytesIO(b"content"))
            assert (directory / login / writable[1:]).read_bytes() == b"content"
        with Dialogue(cluster.port) as client:
            client.says("USER alice", 530)


def test_what_check_says_in_readme_is_what_it_says(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^ftpcluster: error: (.+)$", README, re.MULTILINE)
    (tmp_path / "ftpcluster.toml").write_text("\n" * 10 + "[limits]\nconections = 2000\n")
    done = subprocess.run(
        [sys.executable, "-m", "ftpcluster", "check", "-c", "ftpcluster.toml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"ftpcluster: error: {shown}\n"


def test_every_flag_of_run_stands_in_readme() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "ftpcluster", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for flag in re.findall(r"--[a-z-]+", shown):
        assert flag in README or flag == "--help", flag


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_of_readme_run(program: str, tmp_path: Path) -> None:
    """They run until they are killed; what they print says that they serve."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().split()[-1])
        with Dialogue(port) as client:
            client.logs_in("alice", "secret")
            client.uploads("STOR file", b"content")
        assert (tmp_path / "file").read_bytes() == b"content"
    finally:
        process.kill()
        process.communicate()


def test_the_first_program_of_readme_ends_with_ctrl_c_and_says_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-c", PROGRAMS[0]],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline().split()[-1])
            with Dialogue(port) as client:
                process.send_signal(signal.SIGINT)
                assert client.is_closed()
            assert process.communicate(timeout=60)[0] == ""
            assert process.returncode == 0
        finally:
            process.kill()
