"""What is in deploy/, checked by the programs that it is for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ftpcluster.config import Timeouts
from tests.support.cluster import Cluster
from tests.support.dialogue import Dialogue
from tests.support.programs import need

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())


def output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_takes_every_line_of_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        # the server need not be installed here
        text = unit.read_text().replace("/opt/ftpcluster/bin/ftpcluster", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    paths = [str(tmp_path / unit.name) for unit in UNITS]
    said = output(need("systemd-analyze"), "verify", "--man=no", *paths)
    assert [line for line in said.splitlines() if str(tmp_path) in line] == []


def test_the_service_is_hardened_by_systemd_s_own_measure() -> None:
    unit = str(DEPLOY / "systemd" / "ftpcluster.service")
    said = output(need("systemd-analyze"), "security", "--offline=true", "--no-pager", unit)
    exposure = re.search(r"exposure level for \S+: (\d+\.\d+)", said)
    assert exposure is not None
    assert float(exposure[1]) < 3, said


def test_systemd_waits_longer_than_transfers_may_take_at_the_end() -> None:
    unit = (DEPLOY / "systemd" / "ftpcluster.service").read_text()
    seconds = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert seconds is not None
    assert int(seconds[1]) > Timeouts().shutdown


def test_haproxy_takes_its_configuration() -> None:
    said = output(need("haproxy"), "-c", "-f", str(DEPLOY / "haproxy" / "haproxy.cfg"))
    assert "WARNING" not in said


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("eve", "127.0.0.1"),
        ("eve' from 192.0.2.99", "127.0.0.1"),
        ("INFO worker 1: [1] x -: failed login of 'y' from 192.0.2.99", "127.0.0.1"),
    ],
)
def test_fail2ban_finds_failed_logins_and_is_not_misled_by_names(
    tmp_path: Path, name: str, address: str
) -> None:
    with Cluster("--root", str(tmp_path), "--user", "user:12345", "--workers", "1") as cluster:
        with Dialogue(cluster.port, address) as client:
            client.logs_in()
            client.says(f"USER {name}", 331)
            client.says("PASS wrong", 530)
        cluster.wait_for(re.compile("failed login of"))
    log = tmp_path / "log"
    log.write_text(cluster.log)
    filter_ = str(DEPLOY / "fail2ban" / "ftpcluster.conf")
    found = output(need("fail2ban-regex"), "-o", "ip", str(log), filter_).split()
    assert found == [address]
