"""Configurations with something that does not answer: no start and no reload waits for ever."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, until
from tests.support.dialogue import Dialogue
from tests.support.hanging import answer, hang, on_storage_that_may_hang

BOUND = 20.0
WAITS = re.compile(r"WARNING supervisor: the reload waits for (.*)")


def written(directory: Path, roots: list[str]) -> str:
    (directory / "files").mkdir(exist_ok=True)
    file = directory / "ftpcluster.toml"
    file.touch(mode=0o600)
    users = (
        f'[[user]]\nlogin = "u{number}"\npassword = "plain:x"\nroot = "{root}"\n'
        for number, root in enumerate(roots)
    )
    file.write_text("workers = 2\n[timeouts]\nshutdown = 1\n" + "".join(users))
    return str(file)


@contextlib.contextmanager
def reloading(directory: Path, kind: str) -> Iterator[tuple[Cluster, str, Path]]:
    """A cluster that has been told to reload what does not answer; what that is."""
    storage = directory / "storage"
    program = on_storage_that_may_hang(storage)
    file = Path(written(directory, ["files"]))
    with Cluster("-c", str(file), program=program) as cluster:
        try:
            if kind == "a root":
                hang(storage)
                written(directory, ["files", f"{storage}/inner"])
                what = f'{storage}/inner (the root of "u1")'
            else:
                file.rename(directory / "kept")
                os.mkfifo(file)
                what = str(file)
            cluster.process.send_signal(signal.SIGHUP)
            yield cluster, what, file
        finally:
            answer(storage)


@pytest.mark.parametrize("kind", ["a root", "the file itself"])
def test_a_reload_says_what_it_waits_for_and_ends(tmp_path: Path, kind: str) -> None:
    with reloading(tmp_path, kind) as (cluster, what, file):
        assert cluster.wait_for(WAITS)[1] == what
        with Dialogue(cluster.port) as client:
            client.says("USER u0", 331)
            client.says("PASS x", 230)
        told = cluster.wait_for(re.compile(r"ERROR supervisor: not reloaded: (.*)"))[1]
        assert told.startswith(f"{what} does not answer, for 10 s now; ")
        if kind == "the file itself":
            file.unlink()
        written(tmp_path, ["files"])
        assert " supervisor: reloaded: " in cluster.hang_up()


@pytest.mark.parametrize("kind", ["a root", "the file itself"])
def test_a_server_that_reloads_what_does_not_answer_can_be_stopped(
    tmp_path: Path, kind: str
) -> None:
    with reloading(tmp_path, kind) as (cluster, _, _):
        cluster.wait_for(WAITS)
        cluster.process.send_signal(signal.SIGTERM)
        assert cluster.process.wait(BOUND) == 0


def test_a_start_says_what_does_not_answer_and_ends(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    program = on_storage_that_may_hang(storage)
    hang(storage)
    cluster = Cluster("-c", written(tmp_path, ["files", f"{storage}/inner"]), program=program)
    try:
        assert cluster.process.wait(BOUND) == 2
        (line,) = until(cluster.log.splitlines)
        assert line.startswith(
            f'ftpcluster: error: {storage}/inner (the root of "u1") does not answer, for 10 s now'
        )
    finally:
        answer(storage)
        cluster.wait()
