"""A certificate that clients refuse, or soon will, is told of before they call."""

from __future__ import annotations

import re
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.support.cluster import Cluster
from tests.support.command import command
from tests.support.configured import configured
from tests.support.dialogue import Dialogue

_TEXT = """
[tls]
certificate = "{certificate}"
{key}
[metrics]
listen = "127.0.0.1:0"

[[user]]
login = "user"
password = "plain:12345"
root = "{root}"
"""
CASES = pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [
        (-99, -1, "has expired on"),
        (1, 99, "is not valid before"),
        (-99, 10, "expires on"),
        (-99, 20, ""),
    ],
)


def renew(directory: Path, begins: int, ends: int) -> datetime:
    """A certificate whose life begins and ends in so many days; when it ends."""
    now = datetime.now(UTC).replace(microsecond=0)
    begin, end = now + timedelta(days=begins), now + timedelta(days=ends)
    made = trustme.CA().issue_cert("localhost", not_before=begin, not_after=end)
    made.private_key_pem.write_to_path(str(directory / "key.pem"))
    with (directory / "server.pem").open("wb") as file:
        file.writelines(each.bytes() for each in made.cert_chain_pems)
    return end


def text(directory: Path, root: Path) -> str:
    key = f'key = "{directory}/key.pem"\n'
    return _TEXT.format(certificate=directory / "server.pem", key=key, root=root)


def doubts(log: str) -> list[str]:
    return re.findall(r"server\.pem: the certificate (.*)", log)


@CASES
def test_check_says_so(tmp_path: Path, root: Path, begins: int, ends: int, said: str) -> None:
    renew(tmp_path, begins, ends)
    (tmp_path / "f.toml").touch(mode=0o600)
    (tmp_path / "f.toml").write_text(text(tmp_path, root))
    done = command("check", "-c", "f.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == bool(said), lines
    for line in lines:
        start = f"ftpcluster: warning: {tmp_path}/server.pem: the certificate {said} "
        assert line.startswith(start), line


def test_a_start_and_each_reload_say_so_once(tmp_path: Path, root: Path) -> None:
    ends = [renew(tmp_path, -99, 3)]
    with configured(tmp_path, text(tmp_path, root)) as cluster:
        assert [line.partition(" 20")[0] for line in doubts(cluster.log)] == ["expires on"]
        assert expiry(cluster) == ends[0].timestamp()
        for begins, days, said in ((-99, -3, "has expired on"), (-99, 60, ""), (9, 99, "is not")):
            before = len(doubts(cluster.log))
            end = renew(tmp_path, begins, days)
            assert " reloaded: " in cluster.hang_up()
            new = doubts(cluster.log)[before:]
            assert len(new) == bool(said), new
            assert all(line.startswith(said) for line in new)
            assert expiry(cluster) == end.timestamp()
            assert asked(cluster, "GET", "/healthz")[0].startswith("HTTP/1.0 200")
            with Dialogue(cluster.port) as client:
                client.logs_in()
        cluster.process.send_signal(signal.SIGTERM)


def test_there_is_no_date_without_a_certificate(tmp_path: Path, root: Path) -> None:
    without = re.sub(r"\[tls\].*\n.*\n.*\n", "", text(tmp_path, root))
    with configured(tmp_path, without) as cluster:
        assert expiry(cluster) is None


def expiry(cluster: Cluster) -> float | None:
    name = "ftpcluster_certificate_expiry_timestamp_seconds"
    found = re.search(rf"(?m)^{name} (\S+)$", asked(cluster, "GET", "/metrics")[1])
    return None if found is None else float(found[1])


def test_head_is_as_get_without_a_body(tmp_path: Path, root: Path) -> None:
    renew(tmp_path, -1, 99)
    changing = re.compile(r"(Date|Content-Length): .*")
    with configured(tmp_path, text(tmp_path, root)) as cluster:
        for path in ("/metrics", "/healthz", "/readyz", "/other"):
            got, body = asked(cluster, "GET", path)
            head, nothing = asked(cluster, "HEAD", path)
            assert body
            assert nothing == ""
            assert changing.sub("", head) == changing.sub("", got)
            assert int(re.findall("Content-Length: (.*)", head)[0]) > 0


def asked(cluster: Cluster, method: str, path: str) -> tuple[str, str]:
    """Head and body of an answer."""
    where = cluster.wait_for(re.compile(r"metrics on http://127\.0\.0\.1:(\d+)/"))[1]
    with socket.create_connection(("127.0.0.1", int(where)), 20) as sock:
        sock.sendall(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        while block := sock.recv(65536):
            answer += block
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head, body
