"""What README shows is executed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.dialogue import Dialogue

README = (Path(__file__).parent.parent / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", README, re.MULTILINE)
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_two_commands_stand_in_readme() -> None:
    assert "pip install . && ftpcluster run --workers 2 --root ." in COMMANDS
    assert "pip install '.[test]' && pytest" in COMMANDS


@pytest.mark.parametrize("command", [c for c in COMMANDS if "ftpcluster run" in c])
def test_the_servers_of_readme_run(command: str, tmp_path: Path) -> None:
    """Only port, address and folder are not those of README."""
    flags = shlex.split(command.partition("ftpcluster run")[2])
    flags[flags.index("--root") + 1] = str(tmp_path)
    (tmp_path / "file").write_text("content")
    with Cluster(*flags) as cluster, Dialogue(cluster.port) as client:
        client.logs_in("anonymous", "")
        assert client.downloads("RETR file") == b"content"


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
