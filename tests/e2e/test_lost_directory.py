"""The directory that a server was started in goes away: the server does not need it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, until
from tests.support.dialogue import Dialogue
from tests.support.forking import environment

LEFT = re.compile(r"WARNING.* directory that the server was started in .* goes on in /")
ANONYMOUS = '[anonymous]\nroot = "{root}"\n'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the server is started."""
    path = tmp_path / "gone"
    path.mkdir()
    return path


@pytest.fixture
def file(tmp_path: Path, root: Path) -> Path:
    path = tmp_path / "ftpcluster.toml"
    path.write_text(f"workers = 1\n{ANONYMOUS.format(root=root)}")
    return path


@pytest.fixture
def cluster(directory: Path, file: Path) -> Iterator[Cluster]:
    with Cluster("-c", str(file), cwd=directory) as cluster:
        directory.rmdir()
        yield cluster
    assert "Traceback" not in cluster.log, cluster.log


def logs_in(cluster: Cluster) -> None:
    with Dialogue(cluster.port) as client:
        client.logs_in("anonymous", "")


def test_a_worker_that_dies_is_replaced(cluster: Cluster) -> None:
    (worker,) = cluster.workers()
    os.kill(worker, signal.SIGKILL)
    until(lambda: set(cluster.workers()) - {worker})
    logs_in(cluster)
    cluster.wait_for(LEFT)
    assert "cannot be started" not in cluster.log


def test_a_reload_serves_as_before(cluster: Cluster) -> None:
    assert "supervisor: reloaded: " in cluster.hang_up()
    logs_in(cluster)
    assert "supervisor: reloaded: " in cluster.hang_up()  # now that it is in another directory


def test_relative_names_lead_from_where_the_directory_was(directory: Path) -> None:
    """Also when the server has gone elsewhere, and the directory is there again."""

    def fill() -> None:
        (directory / "files").mkdir(parents=True)
        (directory / "f.toml").write_text(f"workers = 1\n{ANONYMOUS.format(root='files')}")

    fill()
    with Cluster("-c", "f.toml", cwd=directory) as cluster:
        shutil.rmtree(directory)
        assert " not reloaded: f.toml: there is no such file" in cluster.hang_up()
        os.kill(cluster.workers()[0], signal.SIGKILL)
        cluster.wait_for(LEFT)
        fill()
        assert "supervisor: reloaded: " in cluster.hang_up()
        logs_in(cluster)


def test_a_reload_whose_root_is_gone_says_so(directory: Path) -> None:
    with Cluster("--workers", "1", cwd=directory) as cluster:
        directory.rmdir()
        assert " not reloaded: --root .: there is no such directory" in cluster.hang_up()
    assert "Traceback" not in cluster.log


@pytest.mark.parametrize("arguments", ["run --port 0", "check -c {file}"])
def test_to_start_in_a_directory_that_is_gone_is_wrong(
    directory: Path, file: Path, arguments: str
) -> None:
    program = f"rmdir {directory} && exec {sys.executable} -m ftpcluster {arguments}"
    done = subprocess.run(
        ["/bin/sh", "-c", program.format(file=file)],
        cwd=directory,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    expected = "ftpcluster: error: the directory that this was started in is gone: cd to another\n"
    assert (done.returncode, done.stderr) == (2, expected)
