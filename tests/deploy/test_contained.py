"""The commands of image and manifest, word for word, in the surroundings that they are for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.deploy import test_container, test_kubernetes
from tests.support.cluster import DEADLINE, Cluster, until
from tests.support.container import first_process, inside, need_namespaces
from tests.support.forking import CHECKOUT
from tests.support.shipped import health_check, image
from tests.support.unprivileged import PACKAGES, python_for_nobody

PLACES = {
    "Docker": (image()["CMD"].arguments, test_container.TEXT),
    "Kubernetes": (test_kubernetes.CONTAINER["args"], test_kubernetes.TEXT),
}
USER = int(image()["USER"].value.partition(":")[0])
CLIENT = """
import ftplib
with ftplib.FTP(timeout=30) as client:
    client.connect("127.0.0.1", 2121)
    client.login()
    client.retrlines("RETR file", print)
    print(client.nlst())
"""


@pytest.fixture(params=PLACES, scope="module")
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    need_namespaces()
    python = python_for_nobody()
    arguments, text = PLACES[request.param]
    file = tmp_path_factory.mktemp("configuration") / "ftpcluster.toml"
    file.write_text(text)
    command = [python, str(file), str(USER), *image()["ENTRYPOINT"].arguments, *arguments]
    _, _, runtime = image()["ENV"].value.partition("RUNTIME_DIRECTORY=")
    environment = {"PYTHONPATH": ":".join(PACKAGES), "RUNTIME_DIRECTORY": runtime}
    with Cluster(
        *command,
        program=("tests.support.container",),
        hosts=None,
        cwd=CHECKOUT,
        env=environment,
    ) as cluster:
        yield cluster
        os.kill(first_process(cluster), signal.Signals[image()["STOPSIGNAL"].value])
        # process 1 obeys only signals that it has a handler for
        assert cluster.wait() == 0
    assert "Traceback" not in cluster.log, cluster.log
    assert "WARNING" not in cluster.log, cluster.log


def test_clients_are_served_on_the_ports_that_are_published(cluster: Cluster) -> None:
    client = ["nsenter", f"--target={first_process(cluster)}", "--net", sys.executable]
    done = subprocess.run(
        [*client, "-c", CLIENT], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (done.stdout, done.stderr) == ("content\n['file']\n", "")


def test_the_health_check_finds_it_well(cluster: Cluster) -> None:
    until(lambda: inside(cluster, USER, health_check()).returncode == 0)


def test_administrators_reach_it(cluster: Cluster) -> None:
    done = inside(cluster, USER, ["ftpcluster", "who"])
    assert done.returncode == 0, done.stderr
    assert "serving" in done.stdout


def test_a_reload_finds_everything_again(cluster: Cluster) -> None:
    done = inside(cluster, USER, ["ftpcluster", "reload"])
    assert done.returncode == 0, done.stderr


def test_it_can_write_what_it_serves_and_nothing_else(cluster: Cluster) -> None:
    for directory in ("/srv/ftp", "/run/ftpcluster"):
        assert inside(cluster, USER, ["touch", f"{directory}/new"]).returncode == 0
    for directory in ("/etc/ftpcluster", "/tmp", "/run", "/srv"):
        assert "Read-only file system" in inside(cluster, 0, ["touch", f"{directory}/new"]).stderr
