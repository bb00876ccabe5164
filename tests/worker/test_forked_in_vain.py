"""The fork server, without a supervisor that waits for its workers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.forking import environment

PROGRAM = """
import os, socket
from ftpcluster.ipc.orders import send
from ftpcluster.prctl import adopt_orphans
from ftpcluster.worker.fork_server import begin
pid, requests = begin()
adopt_orphans(wanted=True)
def ask():
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    BEFORE
    send(requests, b"fork", [its.fileno()])
    its.close()
    AFTER
    left, status = os.wait()
    assert left != pid and os.waitstatus_to_exitcode(status) == CODE, (left, status)
for _ in range(3):
    ask()
requests.close()
assert os.waitpid(pid, 0) == (pid, 0)
"""


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ("ours.close()", "", 0),
        ("", "ours.recv(1, socket.MSG_PEEK); ours.close()", 1),
        ("", "ours.recv(64); ours.close()", 1),
    ],
    ids=["before it is forked", "before its pid is read", "before it has its order"],
)
def test_a_worker_that_nobody_expects_any_more_ends_without_a_word(
    before: str, after: str, code: int
) -> None:
    program = PROGRAM.replace("BEFORE", before).replace("AFTER", after).replace("CODE", str(code))
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment({}),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
