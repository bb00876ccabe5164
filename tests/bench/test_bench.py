"""The benchmark itself: that it measures and says what goes wrong. Nothing here is about speed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.bench.workloads import Site, workloads
from tests.support.cluster import DEADLINE, until
from tests.support.forking import CHECKOUT, environment
from tests.support.programs import need_distribution

pytestmark = pytest.mark.slow
TIMEOUT = 110
TINY = ("--rounds", "1", "--seconds", "0.3", "--scale", "0.002", "--hold", "20")
PYTHON = shlex.quote(sys.executable)
OURS_AGAIN = (
    f"again={PYTHON} -m ftpcluster run --host 127.0.0.1 --port {{port}} --root {{root}} "
    "--user {user}:{password} --writable --workers 1 --tls-cert {certificate}"
)
MORTAL = (
    f"mortal={PYTHON} {shlex.quote(str(Path(__file__).with_name('mortal_server.py')))} {{port}}"
)


def bench(
    tmp_path: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with files in ``tmp_path``."""
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", "--directory", str(tmp_path), *TINY, *arguments],
        cwd=CHECKOUT,
        env=environment({"RUNTIME_DIRECTORY": str(tmp_path), **(env or {})}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def measured(tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """What it writes as JSON, and what it prints."""
    file = tmp_path / "results.json"
    done = bench(tmp_path, *arguments, "--json", str(file))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert list(tmp_path.iterdir()) == [file]
    results: dict[str, Any] = json.loads(file.read_text())
    return results, done.stdout


@pytest.mark.parametrize("only", ["start,retr*,stor*", "login*,noop*,list*,mlsd*,hold", "tls_*"])
def test_every_workload_gives_figures_that_can_be(tmp_path: Path, only: str) -> None:
    results, printed = measured(tmp_path, "--peers", "none", "--workers", "2", "--only", only)
    for name, workload in results["workloads"].items():
        found = workload["servers"]["ftpcluster"]
        assert found["errors"] == [], name
        values = found["medians"]
        assert values["cpu_ms"] > 0, name
        assert values["pss_mb"] > 10, name
        if name == "start":
            assert 0 < values["start_s"] < DEADLINE
            continue
        assert values["operations"] > 0, name
        assert values["operations_per_second"] > 0, name
        assert 0 < values["p50_ms"] <= values["p99_ms"], name
        moves = not re.search("login|noop|hold", name)
        assert (values.get("megabytes_per_second", 0) > 0) == moves, name
        assert ("pss_kb_per_session" in values) == (name == "hold")
        assert f"\n{name} " in printed
    assert results["workloads"]


def test_all_workloads_are_among_those_that_are_tried() -> None:
    covered = re.compile("start|retr|stor|login|noop|list|mlsd|hold|tls_")
    assert all(covered.match(name) for name in workloads(Site(Path()), 1))


def test_another_server_is_compared_with_ours(tmp_path: Path) -> None:
    results, printed = measured(
        tmp_path, *("--peers", "none", "--server", OURS_AGAIN, "--only", "retr4k_x16,noop_x16")
    )
    assert [each["name"] for each in results["servers"]] == ["ftpcluster", "again"]
    for name, figures in (
        ("retr4k_x16", ("operations_per_second", "cpu_us_per_operation", "p99_ms")),
        ("noop_x16", ("operations_per_second", "cpu_us_per_operation", "p99_ms")),
    ):
        servers = results["workloads"][name]["servers"]
        ratios = results["workloads"][name]["ratios_to_best_other"]
        assert set(ratios) == set(figures)
        for figure in figures:
            mine, others = (servers[each]["medians"][figure] for each in ("ftpcluster", "again"))
            assert ratios[figure] == pytest.approx(mine / others)
            assert f"× {ratios[figure]:.2f}" in printed
    assert results["machine"]["cores"] >= 1
    assert results["command"][1:3] == ["--directory", str(tmp_path)]


def test_several_numbers_of_workers_are_a_column_each_and_nobody_to_compare_with(
    tmp_path: Path,
) -> None:
    results, printed = measured(
        tmp_path, *("--peers", "none", "--workers", "1,3", "--only", "start")
    )
    assert [each["name"] for each in results["servers"]] == ["ftpcluster 1", "ftpcluster 3"]
    assert results["workloads"]["start"]["ratios_to_best_other"] == {}
    assert "BEST OTHER" not in printed
    memory = [each["medians"]["pss_mb"] for each in _servers(results, "start")]
    assert memory[0] < memory[1]


def _servers(results: dict[str, Any], workload: str) -> list[dict[str, Any]]:
    return list(results["workloads"][workload]["servers"].values())


@pytest.mark.parametrize(("name", "lacks"), [("pyftpdlib", None), ("aioftp", "AUTH TLS: 502")])
def test_a_peer_that_is_installed_is_measured_and_what_it_lacks_is_said(
    tmp_path: Path, name: str, lacks: str | None
) -> None:
    need_distribution(name)
    results, printed = measured(
        tmp_path, *("--peers", name, "--workers", "1", "--only", "stor4k_x16,tls_retr4k_x16")
    )
    plain, protected = (
        results["workloads"][each]["servers"][name] for each in ("stor4k_x16", "tls_retr4k_x16")
    )
    assert plain["errors"] == []
    assert plain["medians"]["operations"] > 0
    if lacks is None:
        assert protected["errors"] == []
        assert protected["medians"]["operations"] > 0
    else:
        assert protected["errors"][0].startswith(lacks)
        assert "fails (1)" in printed
        assert f"(1) {name}: {lacks}" in printed
        assert results["workloads"]["tls_retr4k_x16"]["ratios_to_best_other"] == {}


def test_a_peer_that_is_not_here_is_named(tmp_path: Path) -> None:
    done = bench(
        *(tmp_path, "--peers", "vsftpd,proftpd", "--workers", "1", "--only", "start"),
        env={"PATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "not measured: vsftpd: vsftpd is not on PATH\n" in done.stdout
    assert "not measured: proftpd: proftpd is not on PATH\n" in done.stdout


def test_a_server_that_dies_in_the_middle_is_reported(tmp_path: Path) -> None:
    done = bench(
        *(tmp_path, "--peers", "none", "--server", MORTAL, "--only", "noop_x16", "--workers", "1")
    )
    assert done.returncode == 0, done.stderr
    note = r"\(1\) mortal: it ended, exit code 7: I have been asked too much$"
    assert re.search(note, done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "retr100M_x2"), "--only retr100M_x2: there are start, retr100M_x1, "),
        (("--peers", "wu-ftpd"), "--peers wu-ftpd: there are vsftpd, "),
        (("--server", "nothing"), "--server nothing: has to be NAME='COMMAND"),
        (("--server", "x='"), "--server x: No closing quotation"),
        (("--server", "x=/no/such/program"), "x: /no/such/program: No such file or directory"),
        (("--server", "x=false {where}"), "--server x: 'where' in its command; there are {port}"),
        (("--server", "x=sh -c 'echo no; exit 3'"), "x: does not start: it ended, exit code 3: no"),
        (("--server", "x=true", "--server", "x=true"), "x: two servers have this name"),
        (("--ours", "--nonsense"), "ftpcluster: does not start: it ended, exit code 2: ftpcluster"),
        (("--workers", "2,0"), "'2,0' is no number of processes"),
        (("--hold", "100000000"), "--hold 100000000: a process may have "),
        (
            ("--json", "/no/such/directory/file"),
            "/no/such/directory/file: there is no such directory",
        ),
        (("--nonsense",), "No such option"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_what_is_wrong_is_one_clear_line(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    asked = ("--peers", "none", "--workers", "1", *arguments)
    done = bench(tmp_path, *asked)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"bench: error: .+\n", done.stderr), done.stderr
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def marked(mark: str) -> list[int]:
    """Processes that have inherited this in their environment, and have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass  # it has ended meanwhile
    return found


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_its_end_leaves_no_process(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Not even that of SIGKILL; Ctrl-C goes to the whole group, as in a terminal."""
    mark = f"bench-{uuid.uuid4()}"
    command = ["--peers", "none", "--workers", "2", "--only", "noop_x16", "--seconds", "300"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench", "--directory", str(tmp_path), *TINY, *command],
        cwd=CHECKOUT,
        env=environment({"RUNTIME_DIRECTORY": str(tmp_path), "BENCH_MARK": mark}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        # the clients, and as many more as bench, keeper, supervisor and workers are
        until(lambda: len(marked(mark)) >= 16 + 5)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        until(lambda: not marked(mark))
        _, said = process.communicate(timeout=DEADLINE)
        assert (process.returncode, said) == (code, "")
    finally:
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)
    assert number == signal.SIGKILL or list(tmp_path.iterdir()) == []
