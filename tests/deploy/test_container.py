"""The image and its compose file: what they promise, without Docker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import DEADLINE, Cluster, begin_download, until
from tests.support.dialogue import Dialogue
from tests.support.programs import attempt, need
from tests.support.shipped import (
    DEPLOY,
    METRICS,
    dockerfile,
    health_check,
    image,
    running,
    seconds,
)

DOCKER = DEPLOY / "docker"
ROOT = DEPLOY.parent
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICE: dict[str, Any] = COMPOSE["services"]["ftpcluster"]
TEXT = (DOCKER / "ftpcluster.toml").read_text()
CONFIG = tomllib.loads(TEXT)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """What the image runs."""
    parts = image()
    command = parts["ENTRYPOINT"].arguments + parts["CMD"].arguments
    with running(command, TEXT, tmp_path) as cluster:
        yield cluster


def check_health(cluster: Cluster) -> int:
    """The exit code of the image's health check; 0 is healthy."""
    port = cluster.wait_for(METRICS)[1]
    where = f"'127.0.0.1', {CONFIG['metrics']['listen'].rpartition(':')[2]},"
    python, *arguments = health_check()
    assert python == "python"
    assert where in arguments[-1]
    arguments[-1] = arguments[-1].replace(where, f"'127.0.0.1', {port},")
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, timeout=DEADLINE, check=False
    )
    return done.returncode


def test_the_image_s_command_serves_its_volume_to_everybody(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "files" / "file").write_bytes(b"content")
    with Dialogue(cluster.port) as client:
        client.logs_in("anonymous", "me@example.com")
        assert client.downloads("RETR file") == b"content"
        client.says("DELE file", 550)


def test_the_health_check_succeeds_as_long_as_all_workers_serve(cluster: Cluster) -> None:
    assert check_health(cluster) == 0
    victim = cluster.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    try:
        until(lambda: check_health(cluster) == 1)
    finally:
        os.kill(victim, signal.SIGCONT)
    until(lambda: check_health(cluster) == 0)
    cluster.stop()
    assert check_health(cluster) == 1


def test_the_stop_signal_lets_a_transfer_come_to_its_end(cluster: Cluster, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 16
    (tmp_path / "files" / "file").write_bytes(content)
    with Dialogue(cluster.port) as client:
        client.logs_in("anonymous", "me@example.com")
        with begin_download(client, "file") as data, data.makefile("rb") as file:
            first = file.read(1000)
            cluster.process.send_signal(signal.Signals[image()["STOPSIGNAL"].value])
            cluster.wait_for(re.compile("INFO supervisor: stopping"))
            assert first + file.read() == content
        client.expects(226)
    assert cluster.wait() == 0


def test_nothing_in_the_image_is_root_s_business() -> None:
    user, _, group = image()["USER"].value.partition(":")
    assert int(user) > 0
    assert int(group) > 0
    made = " ".join(each.value for each in dockerfile()[-1] if each.name == "RUN")
    assert f"--uid {user} " in made
    assert f"--gid {group} " in made
    assert CONFIG["listen"][0]["port"] >= 1024


def test_the_image_is_made_of_what_the_package_needs_and_the_context_has() -> None:
    copied = [
        source
        for stage in dockerfile()
        for each in stage
        if each.name == "COPY" and not each.value.startswith("--from")
        for source in each.value.split()[:-1]
    ]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    assert sorted(copied) == sorted(sent)
    assert all((ROOT / source).exists() for source in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [
        "pyproject.toml",
        "hatch_build.py",
        *project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
        project["project"]["readme"],
        *project["project"]["license-files"],
    ]
    assert [name for name in needed if not any(fnmatch(name, source) for source in copied)] == []
    assert "metrics" in project["project"]["optional-dependencies"]


def test_ports_are_the_same_in_image_configuration_and_compose_file() -> None:
    control, data = CONFIG["listen"][0]["port"], CONFIG["data"]["ports"]
    metrics = CONFIG["metrics"]["listen"].rpartition(":")[2]
    assert image()["EXPOSE"].value.split() == [str(control), data]
    assert SERVICE["ports"] == [f"21:{control}", f"{data}:{data}", f"127.0.0.1:{metrics}:{metrics}"]


def test_docker_waits_longer_than_transfers_may_take_at_the_end() -> None:
    grace = seconds(CONFIG["timeouts"]["shutdown"])
    assert seconds(SERVICE["stop_grace_period"]) > grace
    stop_timeout = re.search(r"--stop-timeout (\d+)", (DOCKER / "Dockerfile").read_text())
    assert stop_timeout is not None
    assert int(stop_timeout[1]) > grace


def test_compose_makes_writable_what_the_server_writes_and_nothing_else() -> None:
    assert SERVICE["read_only"] is True
    uid, gid = image()["USER"].value.split(":")
    assert SERVICE["tmpfs"] == [f"/run/ftpcluster:uid={uid},gid={gid},mode=0755"]
    assert "RUNTIME_DIRECTORY=/run/ftpcluster" in image()["ENV"].value.split()
    assert image()["VOLUME"].value == CONFIG["anonymous"]["root"]
    config, files = SERVICE["volumes"]
    assert config == f"./ftpcluster.toml:{image()['CMD'].arguments[-1]}:ro"
    assert files == f"files:{CONFIG['anonymous']['root']}"


def test_the_command_of_the_compose_file_names_the_public_address(tmp_path: Path) -> None:
    command = [*image()["ENTRYPOINT"].arguments, *SERVICE["command"]]
    assert command[-1].startswith("${PUBLIC_ADDRESS:?")
    command[-1] = "203.0.113.7"
    with running(command, TEXT, tmp_path) as cluster, Dialogue(cluster.port) as client:
        client.logs_in("anonymous", "me@example.com")
        assert client.pasv()[0] == "203.0.113.7"


def test_compose_takes_its_file_and_asks_for_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (need("docker-compose"), "-f", str(DOCKER / "compose.yaml"), "config")
    monkeypatch.delenv("PUBLIC_ADDRESS", raising=False)
    done = attempt(command, home=tmp_path)
    assert done.returncode != 0
    assert "the IPv4 address or name by which clients reach this machine" in done.stderr
    (tmp_path / "env").write_text("PUBLIC_ADDRESS=203.0.113.7\n")
    done = attempt((command[0], "--env-file", "env", *command[1:]), home=tmp_path)
    assert done.returncode == 0, done.stderr
    service = yaml.safe_load(done.stdout)["services"]["ftpcluster"]
    assert service["command"][-1] == "203.0.113.7"
    assert Path(service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).samefile(DOCKER / "Dockerfile")
