"""What a filtered process cannot do to others; each is one of its own, since it is for good."""

from __future__ import annotations

import json
import os
import platform
import resource
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ftpcluster.worker import seccomp
from tests.support.apart import apart
from tests.support.forking import environment
from tests.support.own_name_server import ADDRESS
from tests.support.said import SAYING, said_by

BEGIN = '''
import asyncio, ctypes, errno, fcntl, os, resource, signal, socket, struct, sys, termios, threading
from ftpcluster.prctl import keep_capabilities, no_new_privs
from ftpcluster.worker import seccomp

libc = ctypes.CDLL(None, use_errno=True)
column = seccomp._MACHINES[os.uname().machine].column
numbers = {name: both[column]
           for group in (seccomp._OTHER_PROCESSES, seccomp._NEW_PROCESSES, seccomp._THE_KERNEL,
                         seccomp._DESCRIPTORS, seccomp._CONDITIONAL)
           for name, both in group.items()}

def call(name, *arguments):
    """The error of a system call, or None."""
    ctypes.set_errno(0)
    long = [each if isinstance(each, bytes) else ctypes.c_long(each) for each in arguments]
    if libc.syscall(ctypes.c_long(numbers.get(name, name)), *long) < 0:
        return errno.errorcode[ctypes.get_errno()]

no_new_privs()
done = seccomp.restrict()
'''


@pytest.fixture(scope="module", autouse=True)
def filtered() -> None:
    """A machine whose kernel takes a filter."""
    if platform.machine() not in seccomp._MACHINES:
        pytest.skip(f"there is no filter for {platform.machine()}")
    done = said_by(BEGIN + "say(done=done)")["done"]
    if done != "system calls are filtered":
        pytest.skip(done)


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of the same user, as the supervisor is."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    assert process.poll() is None
    process.kill()
    process.wait()


def test_no_other_process_is_touched(victim: subprocess.Popen[bytes]) -> None:
    pid = victim.pid
    before = resource.prlimit(pid, resource.RLIMIT_CPU), os.getpriority(os.PRIO_PROCESS, pid)
    code = f"""
pid, room = {pid}, bytes(4096)
limit = struct.pack("QQ", 1, 1)
say(answers={{
    "prlimit64": call("prlimit64", pid, 0, limit, 0),
    "prlimit64 to read": call("prlimit64", pid, 0, 0, room),
    "setpriority": call("setpriority", 0, pid, 19),
    "setpriority of its group": call("setpriority", 1, 0, 19),
    "setpriority of its user": call("setpriority", 2, 0, 19),
    "ioprio_set": call("ioprio_set", 1, pid, 0),
    "ioprio_set of its user": call("ioprio_set", 3, 0, 0),
    "sched_setaffinity": call("sched_setaffinity", pid, 8, struct.pack("Q", 1)),
    "sched_setscheduler": call("sched_setscheduler", pid, 5, struct.pack("i", 0)),
    "sched_setparam": call("sched_setparam", pid, struct.pack("i", 0)),
    "sched_setattr": call("sched_setattr", pid, struct.pack("IIQiIQQQ", 48, *[5] + [0] * 6), 0),
    "kill": call("kill", pid, 0),
    "kill its group": call("kill", 0, 0),
    "kill all": call("kill", -1, 0),
    "tkill": call("tkill", pid, 0),
    "tgkill": call("tgkill", pid, pid, 0),
    "rt_sigqueueinfo": call("rt_sigqueueinfo", pid, 10, room),
    "rt_tgsigqueueinfo": call("rt_tgsigqueueinfo", pid, pid, 10, room),
    "pidfd_open": call("pidfd_open", pid, 0),
    "ptrace": call("ptrace", 0x4206, pid, 0, 0),
    "process_vm_readv": call("process_vm_readv", pid, room, 1, room, 1, 0),
    "kcmp": call("kcmp", pid, os.getpid(), 0, 0, 0),
    "F_SETOWN": refused(fcntl.fcntl, 0, 8, pid),
    "F_SETSIG": refused(fcntl.fcntl, 0, 10, 9),
    "FIOSETOWN": refused(fcntl.ioctl, 0, 0x8901, struct.pack("i", pid)),
    "PR_SCHED_CORE": call("prctl", 62, 1, pid, 0, 0),
}})
"""
    answers = said_by(BEGIN + code)["answers"]
    assert set(answers.values()) <= {"EPERM", "PermissionError"}, answers
    assert before == (
        resource.prlimit(pid, resource.RLIMIT_CPU),
        os.getpriority(os.PRIO_PROCESS, pid),
    )


def test_no_process_is_made_and_no_socket_of_this_machine() -> None:
    answers = said_by(
        BEGIN
        + """
say(answers={
    "fork": refused(os.fork),
    "clone": call("clone", signal.SIGCHLD, 0, 0, 0, 0),
    "a thread in a namespace of its own": call("clone", 0x10000 | 0x40000000, 0, 0, 0, 0),
    "execve": refused(os.execv, "/bin/true", ["true"]),
    "execveat": call("execveat", -100, b"/bin/true", 0, 0, 0),
    "unshare": call("unshare", 0x10000000),
    "sendmsg": call("sendmsg", 1, bytes(64), 0),
    "sendmmsg": call("sendmmsg", 1, bytes(64), 1, 0),
    "socketpair of datagrams": refused(socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM),
}, without=call("clone3", bytes(88), 88), newer=call(471), x32=call(0x40000000 + 39),
families=[call("socket", family, 2, 0) for family in (1, 16, 17, 31, 38, 40, 44)],
protocols=[call("socket", family, *each) for family in (2, 10)
           for each in ((1, 132), (5, 0), (6, 33), (6, 0), (1, 262), (1, 256), (2, 136),
                        (2, 1), (3, 255), (4, 0), (0x80801, 132), (2, 115))])
"""
    )
    assert set(answers["answers"].values()) <= {"EPERM", "PermissionError"}, answers
    assert (answers["without"], answers["newer"], answers["x32"]) == ("ENOSYS",) * 3
    assert set(answers["families"]) == {"EAFNOSUPPORT"}
    assert set(answers["protocols"]) == {"EPROTONOSUPPORT"}


def test_what_only_holes_are_found_in_is_refused_before_it_is_looked_at() -> None:
    said = said_by(
        BEGIN
        + """
groups = (seccomp._OTHER_PROCESSES, seccomp._NEW_PROCESSES, seccomp._THE_KERNEL)
say(answers={name: call(name, -1, -1, -1, -1, -1) for group in groups for name in group
             if numbers[name] is not None})
"""
    )
    assert set(said["answers"].values()) == {"EPERM"}, said


def test_a_client_s_socket_cannot_be_made_to_hold_up_whoever_closes_it() -> None:
    said = said_by(
        BEGIN
        + """
sock = socket.socket()
say(linger=refused(sock.setsockopt, 1, socket.SO_LINGER, struct.pack("ii", 1, 60)),
    ulp=refused(sock.setsockopt, socket.IPPROTO_TCP, 31, b"tls"),
    others=[refused(sock.setsockopt, *each) for each in (
        (1, socket.SO_KEEPALIVE, 1), (1, socket.SO_RCVLOWAT, 1), (1, socket.SO_REUSEADDR, 1),
        (1, socket.SO_RCVBUF, 65536), (6, socket.TCP_NODELAY, 1), (6, socket.TCP_QUICKACK, 1))])
"""
    )
    assert said == {
        "linger": "PermissionError",
        "ulp": "PermissionError",
        "others": [None] * 6,
    }


def test_nothing_is_typed_into_the_terminal_that_the_server_was_started_from() -> None:
    controller, terminal = os.openpty()
    try:
        code = (
            BEGIN
            + """
answers = [refused(fcntl.ioctl, 0, each, b"x" * 8)
           for each in (termios.TIOCSTI, termios.TIOCSCTTY, termios.TIOCSPGRP)]
say(answers=answers, size=len(fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))), tty=os.isatty(0))
"""
        )
        done = subprocess.run(
            [sys.executable, "-c", SAYING + code],
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env=environment({}),
        )
    finally:
        os.close(terminal)
        os.close(controller)
    assert '"answers": ["PermissionError", "PermissionError", "PermissionError"]' in done.stdout
    assert '"size": 8, "tty": true' in done.stdout


def test_what_sessions_and_libraries_need_goes_on() -> None:
    said = said_by(
        BEGIN
        + """
import grp, pwd, ssl, tempfile
from concurrent.futures import ThreadPoolExecutor
from ftpcluster import passwords

async def life():
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo("localhost", 21, family=socket.AF_INET)
    stored = await asyncio.to_thread(passwords.hash_password, "secret")
    return found[0][4][0], await passwords.verify_off_loop(stored, "secret")

def niceness():
    passwords.set_niceness(5)
    return os.getpriority(os.PRIO_PROCESS, 0)

with ThreadPoolExecutor(1) as pool:
    nice = pool.submit(niceness).result()
os.kill(os.getpid(), 0)
got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
signal.raise_signal(signal.SIGUSR1)
signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
import uvloop
lives = [asyncio.run(life())]
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    lives.append(runner.run(life()))
say(lives=lives, nice=nice - os.getpriority(os.PRIO_PROCESS, 0), signals=len(got),
    account=pwd.getpwuid(0).pw_name, group=grp.getgrgid(0).gr_name,
    interface=socket.if_nametoindex("lo"),
    sockets=len([socket.socket(family, kind, protocol)
                 for family in (socket.AF_INET, socket.AF_INET6)
                 for kind, protocol in ((1, 0), (1, 6), (0x80801, 0), (2, 0), (2, 17))]),
    limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0,
    context=type(ssl.create_default_context()).__name__, affinity=len(os.sched_getaffinity(0)) > 0,
    memory=os.close(os.memfd_create("x")), temporary=tempfile.TemporaryFile().write(b"x"))
"""
    )
    assert said["lives"] == [["127.0.0.1", True]] * 2
    assert said["nice"] > 0
    assert (said["signals"], said["account"], said["group"]) == (2, "root", "root")
    assert said["interface"] > 0
    assert said["sockets"] == 10
    assert (said["limit"], said["affinity"]) == (True, True)
    assert (said["context"], said["memory"], said["temporary"]) == ("SSLContext", None, 1)


def test_threads_that_start_later_are_filtered() -> None:
    said = said_by(
        BEGIN
        + """
answers = []
thread = threading.Thread(target=lambda: answers.append(refused(os.kill, os.getppid(), 0)))
thread.start()
thread.join()
say(answers=answers)
"""
    )
    assert said["answers"] == ["PermissionError"]


def test_root_keeps_what_serving_files_takes_and_gains_nothing() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has capabilities")
    said = said_by(
        """
import os, re, struct
from ftpcluster.prctl import keep_capabilities
from ftpcluster.worker.entry import _NEEDED

def sets():
    found = re.findall(r"Cap(\\w+):\\s*(\\w+)", open("/proc/self/status").read())
    return {name: int(value, 16) for name, value in found}

before = sets()
keep_capabilities(_NEEDED)
after = sets()
keep_capabilities(range(41))
say(before=before, after=after, again=sets(), kept=sum(1 << each for each in _NEEDED),
    raw=refused(os.chroot, "/"))
"""
    )
    kept = said["before"]["Prm"] & said["kept"]
    assert said["after"] == {"Inh": 0, "Prm": kept, "Eff": kept, "Bnd": 0, "Amb": 0}
    assert said["again"] == said["after"]
    assert said["raw"] == "PermissionError"


@pytest.mark.parametrize("refused", ["seccomp", "seccomp prctl"])
def test_a_container_that_refuses_filters_gets_a_line_and_a_worker_that_serves(
    refused: str,
) -> None:
    said = said_by(
        f"""
import ctypes, os, struct
from ftpcluster.prctl import no_new_privs
from ftpcluster.worker import seccomp

no_new_privs()
machine = seccomp._MACHINES[os.uname().machine]
numbers = {{"seccomp": machine.seccomp, "prctl": seccomp._CONDITIONAL["prctl"][machine.column]}}
seccomp.program = lambda machine, pid: seccomp._one_of(
    0, [numbers[name] for name in "{refused}".split()], seccomp._refuse(1), seccomp._allow())
first = seccomp.restrict()
say(first=first, second=seccomp.restrict(), passwd=refused(open, "/etc/passwd"))
"""
    )
    is_refused = refused == "seccomp prctl"
    assert said == {
        "first": "system calls are filtered",
        "second": "system calls are not filtered: Operation not permitted"
        if is_refused
        else "system calls are filtered",
        "passwd": None,
    }


@pytest.mark.parametrize("machine", seccomp._MACHINES)
def test_the_program_decides_every_call_as_the_list_says(machine: str) -> None:
    """The kernel's own machine, in Python: also of the architecture that this one is not."""
    this, pid = seccomp._MACHINES[machine], 4711
    code = seccomp.program(this, pid)
    assert len(code) < 4096  # BPF_MAXINSNS
    decisions = seccomp._decisions(this.column, pid)
    for number in (*range(seccomp._NEWEST + 3), 1 << 30, (1 << 32) - 1):
        for arguments in ((0,) * 6, (pid, *(0,) * 5), ((1 << 64) - 1,) * 6):
            data = struct_seccomp_data(number, this.audit, arguments)
            found = run(code, data)
            if number > seccomp._NEWEST:
                assert found == 0x00050026, number  # ENOSYS
            elif number in decisions:
                assert found == run(decisions[number], data), number
            else:
                assert found == 0x7FFF0000, number
    assert run(code, struct_seccomp_data(0, 0x40000003, (0,) * 6)) == 0x00050001


def struct_seccomp_data(number: int, architecture: int, arguments: tuple[int, ...]) -> bytes:
    return struct.pack("=IIQ6Q", number, architecture, 0, *arguments)


def run(code: seccomp.Code, data: bytes) -> int:
    accumulator, at = 0, 0
    while True:
        operation, yes, no, constant = code[at]
        at += 1
        if operation == 0x06:
            return constant
        if operation == 0x20:
            accumulator = int.from_bytes(data[constant : constant + 4], "little")
        elif operation == 0x54:
            accumulator &= constant
        elif operation == 0x05:
            at += constant
        else:
            assert operation in (0x15, 0x35)
            holds = accumulator == constant if operation == 0x15 else accumulator >= constant
            at += yes if holds else no


def test_hosts_are_found_by_their_names() -> None:
    """The C library asks for addresses of both families in one call, which the filter refuses."""
    said = json.loads(apart(sys.executable, "-m", "tests.support.own_name_server"))
    assert said["done"] == "system calls are filtered"
    assert said["found"] == [ADDRESS, ADDRESS]


def test_transports_of_asyncio_send_more_than_a_socket_takes_at_once() -> None:
    """Since Python 3.12 by sendmsg, which the filter refuses."""
    said = said_by(
        BEGIN.replace("done = ", "seccomp.do_without_sendmsg()\ndone = ")
        + """
async def main():
    received = asyncio.get_running_loop().create_future()

    async def receive(reader, writer):
        received.set_result(len(await reader.read(-1)))
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for _ in range(4):
        writer.write(bytes(4 << 20))
    await writer.drain()
    writer.close()
    return await received

say(received=asyncio.run(main()))
"""
    )
    assert said["received"] == 16 << 20
