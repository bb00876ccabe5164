"""logrotate with the file that is shipped, and a server that logs."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, until
from tests.support.configured import configured
from tests.support.dialogue import Dialogue
from tests.support.programs import attempt, need
from tests.support.shipped import DEPLOY
from tests.support.xferlog import parse_all

TEXT = (DEPLOY / "logrotate" / "ftpcluster").read_text()
SIGNAL = """\
        if systemctl is-active --quiet ftpcluster.service; then
            systemctl kill --kill-who=main --signal=USR1 ftpcluster.service
        fi
"""
LOGS = ("ftpcluster.log", "xferlog")
CONFIG = """
[log]
file = "logs/ftpcluster.log"
transfers = "logs/xferlog"

[[user]]
login = "user"
password = "plain:12345"
root = "files"
"""


def rotation(directory: Path, signal: str) -> Path:
    """The file that is shipped, for logs in ``directory``/logs; ``signal`` is systemctl's."""
    names = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    text = TEXT
    for before, after in (
        ("/var/log/ftpcluster/", f"{directory}/logs/"),
        ("su ftp ftp", "su {} {}".format(*names)),
        (SIGNAL, f"        {signal}\n"),
    ):
        assert before in text
        text = text.replace(before, after)
    file = directory / "rotation"
    file.write_text(text)
    file.chmod(0o644)
    return file


def rotate(directory: Path, file: Path) -> None:
    """Have logrotate do it now; it says nothing where it finds nothing wrong."""
    command = (need("logrotate"), "--state", str(directory / "state"), "--force", str(file))
    done = attempt(command, home=directory)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("logs", "files"):
        (tmp_path / name).mkdir(mode=0o755)
    return tmp_path


def downloads(cluster: Cluster, name: str) -> None:
    with Dialogue(cluster.port) as client:
        client.logs_in()
        client.downloads(f"RETR {name}")


def test_both_logs_are_rotated_and_the_server_goes_on_in_new_ones(directory: Path) -> None:
    logs = directory / "logs"
    for name in ("before", "after"):
        (directory / "files" / name).write_bytes(b"x")
    with configured(directory, CONFIG) as cluster:
        file = rotation(directory, f"kill -USR1 {cluster.pid}")
        downloads(cluster, "before")
        until(lambda: (logs / "xferlog").stat().st_size)
        until(lambda: 'RETR "/before": 226' in (logs / "ftpcluster.log").read_text())
        rotate(directory, file)
        for name in LOGS:
            until(
                lambda name=name: (
                    f"{name} was opened again" in (logs / "ftpcluster.log").read_text()
                )
            )
        downloads(cluster, "after")
        until(lambda: (logs / "xferlog").stat().st_size)
        until(lambda: 'RETR "/after": 226' in (logs / "ftpcluster.log").read_text())
    assert [each.name for each in parse_all((logs / "xferlog.1").read_bytes())] == ["/before"]
    assert [each.name for each in parse_all((logs / "xferlog").read_bytes())] == ["/after"]
    assert 'RETR "/before": 226' in (logs / "ftpcluster.log.1").read_text()
    assert "before" not in (logs / "ftpcluster.log").read_text()
    assert {(logs / name).stat().st_mode & 0o777 for name in LOGS} == {0o640}


def test_both_logs_are_rotated_before_the_server_is_told_and_it_is_told_once(
    directory: Path,
) -> None:
    file = rotation(
        directory, f"echo told >> {directory}/told; ls {directory}/logs >> {directory}/told"
    )
    for name in LOGS:
        (directory / "logs" / name).write_text("line\n")
    rotate(directory, file)
    found = (directory / "told").read_text().split()
    assert found == ["told", *sorted((*LOGS, *(f"{name}.1" for name in LOGS)))]


def test_eight_old_logs_are_kept_all_but_the_last_one_compressed(directory: Path) -> None:
    file = rotation(directory, "true")
    for turn in range(10):
        (directory / "logs" / "xferlog").write_text(f"{turn}\n")
        rotate(directory, file)
    (directory / "logs" / "xferlog").unlink()
    found = sorted(path.name for path in (directory / "logs").iterdir())
    assert found == ["xferlog.1", *(f"xferlog.{number}.gz" for number in range(2, 9))]


def test_nothing_is_done_where_nothing_was_logged(directory: Path) -> None:
    """Neither without the files nor with empty ones; and the server is not told."""
    file = rotation(directory, f"touch {directory}/told")
    rotate(directory, file)
    (directory / "logs" / "xferlog").touch()
    rotate(directory, file)
    assert [path.name for path in (directory / "logs").iterdir()] == ["xferlog"]
    assert not (directory / "told").exists()
