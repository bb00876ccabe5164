"""The fork server and its workers: nobody waits for them, or they may not do what they have to."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys

import pytest

from ftpcluster.__main__ import main
from ftpcluster.cli.open_files import check_open_files
from ftpcluster.config import ConfigError
from ftpcluster.worker import fork_server
from tests.support.cluster import until
from tests.support.forking import environment

_NOBODY = 65534

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
    assert ran(program) == (0, "", "")


def ran(program: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment({}),
    )
    return done.returncode, done.stdout, done.stderr


BEGUN = """
import os, resource, signal, socket
from ftpcluster.ipc.orders import receive, send
from ftpcluster.prctl import adopt_orphans
from ftpcluster.worker.fork_server import begin
supervisor = os.getpid()
def ask():
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    send(requests, b"fork", [its.fileno()])
    its.close()
    return ours
"""


def test_a_fork_server_that_may_open_no_more_goes_on() -> None:
    """The request comes without its descriptor."""
    program = """
pid, requests = begin()
adopt_orphans(wanted=True)
os.kill(int(ask().recv(64)), signal.SIGKILL)
limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, limits[1]))
assert ask().recv(64) == b""
resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
os.kill(int(ask().recv(64)), signal.SIGKILL)
"""
    assert ran(BEGUN + program) == (0, "", "")


def test_a_worker_that_may_open_no_more_says_so() -> None:
    """The order comes without its descriptors."""
    program = """
pid, requests = begin()
adopt_orphans(wanted=True)
order = ask()
worker = int(order.recv(64))
resource.prlimit(worker, resource.RLIMIT_NOFILE, (0, 0))
send(order, b"order", [0, 0])
assert os.waitpid(worker, 0)[1] >> 8 == 1
"""
    why = "ftpcluster: error: a worker cannot take its order: Too many open files\n"
    assert ran(BEGUN + program) == (0, "", why)


def test_a_worker_that_is_stopped_before_it_has_its_order_ends_with_its_supervisor() -> None:
    program = """
pid, requests = begin()
adopt_orphans(wanted=True)
order = ask()
worker = int(order.recv(64))
os.kill(worker, signal.SIGSTOP)
os.waitid(os.P_PID, worker, os.WSTOPPED)
print(worker, flush=True)
os.kill(supervisor, signal.SIGKILL)
"""
    code, said, errors = ran(BEGUN + program)
    assert (code, errors) == (-signal.SIGKILL, "")
    until(lambda: not is_alive(int(said)))


def test_the_process_between_ends_with_the_fork_server() -> None:
    program = """
fork = os.fork
def stop_between():
    if os.getppid() not in (supervisor, above):
        os.kill(os.getpid(), signal.SIGSTOP)
    return fork()
above, os.fork = os.getppid(), stop_between
pid, requests = begin()
adopt_orphans(wanted=True)
ask()
while not (between := open(f"/proc/{pid}/task/{pid}/children").read()):
    pass
while ") T " not in open(f"/proc/{int(between)}/stat").read():
    pass
os.kill(pid, signal.SIGKILL)
assert os.wait()[1] == os.wait()[1] == signal.SIGKILL
"""
    assert ran(BEGUN + program) == (0, "", "")


def test_a_fork_server_that_cannot_give_up_root_leaves_the_message_to_the_supervisor() -> None:
    program = """
from ftpcluster.worker import fork_server
def cannot(*_):
    raise fork_server.CannotRunAs("cannot run as nobody")
fork_server.drop = cannot
pid, requests = begin()
send(requests, REQUEST)
assert requests.recv(64) == b""
assert os.waitpid(pid, 0)[1] >> 8 == 1
""".replace("REQUEST", repr(pickle.dumps((None, ()))))
    assert ran(BEGUN + program) == (0, "", "")


def test_a_worker_without_root_takes_as_much_of_higher_limits_as_it_may() -> None:
    """Root has raised those of the supervisor, ``prlimit --nofile``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
            if os.getuid() == 0:
                os.setresuid(_NOBODY, _NOBODY, _NOBODY)
            fork_server._limit_open_files(300, 400)
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (200, 200)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)


def test_without_proc_nothing_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "listdir", missing)
    assert fork_server.begin() is None
    monkeypatch.setattr(os.path, "exists", lambda _: False)
    with pytest.raises(ConfigError, match="/proc is missing"):
        check_open_files(2)


def test_for_a_page_of_help_nothing_is_forked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ftpcluster", "run", "--help"])
    monkeypatch.setattr(fork_server, "begin", lambda: pytest.fail("a fork server was forked"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "Usage:" in capsys.readouterr().out


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as status:
            return status.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
