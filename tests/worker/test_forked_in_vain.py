"""The fork server, without a supervisor that waits for its workers."""

from __future__ import annotations

import subprocess
import sys

from tests.support.forking import environment

PROGRAM = """
import os, socket
from ftpcluster.ipc.orders import send
from ftpcluster.prctl import adopt_orphans
from ftpcluster.worker.fork_server import begin
pid, requests = begin()
adopt_orphans(wanted=True)
for _ in range(3):
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    send(requests, b"fork", [its.fileno()])
    its.close()
    left = os.wait()
    assert left[0] != pid and left[1] == 0, left
requests.close()
assert os.waitpid(pid, 0) == (pid, 0)
"""


def test_a_worker_that_nobody_expects_any_more_ends_without_a_word() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment({}),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
