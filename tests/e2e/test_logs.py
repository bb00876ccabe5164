"""The logs of a production server: their format, their files, and rotation."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.cluster import Cluster, until
from tests.support.dialogue import Dialogue

SECRET = "kilogram-7"
ALICE = f"alice:{SECRET}"


def objects(text: str) -> list[dict[str, Any]]:
    """The whole lines of a JSON log; what is no object fails."""
    lines = text.split("\n")[:-1]
    return [json.loads(line) for line in lines if not line.startswith("ready on ")]


def arguments(root: Path, *more: str) -> list[str]:
    return ["--workers", "2", "--root", str(root), "--user", ALICE, "--writable", *more]


def logs_in(client: Dialogue) -> None:
    client.says("USER alice", 331)
    client.says(f"PASS {SECRET}", 230)


def test_a_json_log_has_what_programs_ask_for_in_fields(tmp_path: Path) -> None:
    with Cluster(*arguments(tmp_path, "--log-format", "json", "--log-level", "debug")) as cluster:
        with Dialogue(cluster.port) as client:
            host, port = client.sock.getsockname()[:2]
            logs_in(client)
            client.uploads("STOR a b", b"12345")
            client.says("RNFR a b", 350)
            client.says("RNTO c", 250)
            client.says("TYPE I", 200)
            client.says("QUIT", 221)
        cluster.wait_for(re.compile("the session ends"))
    found = objects(cluster.log)
    assert {each["process"] for each in found} >= {"supervisor", "worker 1"}
    assert {each["level"] for each in found} >= {"debug", "info"}
    for each in found:
        time = datetime.fromisoformat(each["time"])
        assert time.utcoffset() is not None
        assert re.fullmatch(r"\S+T\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", each["time"])
    of_session = [each for each in found if "session" in each]
    assert {each["peer"] for each in of_session} == {f"{host}:{port}"}
    by_verb = {each["verb"]: each for each in of_session if "verb" in each}
    stored = by_verb["STOR"]
    assert (stored["user"], stored["path"], stored["code"]) == ("alice", "/a b", 226)
    assert stored["bytes"] == 5
    assert 0 <= stored["seconds"] < 60
    assert re.fullmatch(r'STOR "/a b": 226, 5 bytes in \d+\.\d\d s', stored["message"])
    assert (by_verb["RNTO"]["path"], by_verb["RNTO"]["to"]) == ("/a b", "/c")
    assert by_verb["TYPE"]["argument"] == "I"
    assert by_verb["PASS"].keys() == {
        *("time", "level", "process", "message", "session", "peer", "verb", "code")
    }
    assert SECRET not in cluster.log


def test_a_json_log_stays_json_whatever_names_and_errors_there_are(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import ftpcluster\n"
        "class Mine(ftpcluster.Server):\n"
        "    async def bug(self, connection, rest):\n"
        "        raise RuntimeError('unforeseen')\n"
    )
    flags = arguments(tmp_path, "--log-format", "json", "--server", "mine:Mine")
    with Cluster(*flags, env={"PYTHONPATH": str(tmp_path)}) as cluster:
        with Dialogue(cluster.port) as client:
            logs_in(client)
            client.send(b'DELE "\xe9\\\x01\xe2\x80\xa8"')
            assert client.reply()[0] == 550
            client.send("BUG")
            assert client.reply()[0] == 451
        cluster.wait_for(re.compile("unforeseen"))
    found = objects(cluster.log)
    (deleted,) = (each for each in found if each.get("verb") == "DELE")
    assert deleted["path"] == '/"\\udce9\\\x01\u2028"'
    (bug,) = (each for each in found if "traceback" in each)
    assert "RuntimeError: unforeseen" in bug["traceback"].splitlines()[-1]


def test_the_format_changes_with_a_reload(tmp_path: Path) -> None:
    file = tmp_path / "ftpcluster.toml"
    file.write_text("[anonymous]\nroot = '.'\n")
    with Cluster("-c", str(file), "--workers", "1") as cluster:
        file.write_text("log.format = 'json'\n" + file.read_text())
        cluster.process.send_signal(1)
        cluster.wait_for(re.compile(r'^\{.*"reloaded: .*\}$', re.MULTILINE))
        with Dialogue(cluster.port) as client:
            client.says("USER ftp", 331)
            client.says("PASS x", 230)
        until(lambda: '"message":"logged in"' in cluster.log)
