"""The process that workers are forked from: it has imported their code, and does nothing else.

It is forked from the supervisor's process before that has threads, a loop, sockets, or a
configuration. So a worker has none of these, except what its order brings. The fork server never
calls custom code, and holds nothing: if it dies, workers are spawned.

A worker has to be the supervisor's child: the supervisor waits for it, and the kernel signals it
when the supervisor dies. So a process in between forks the worker and ends. The supervisor is a
subreaper meanwhile (prctl(2)), and becomes the worker's parent.
"""

from __future__ import annotations

import gc
import os
import pickle
import resource
import select
import signal
import socket
import sys
from multiprocessing import spawn
from typing import Any, NoReturn

import uvloop  # noqa: F401 (the supervisor needs it, too: what is imported here is shared)
from aiomultiprocess.core import Process

import ftpcluster.net.acceptor
import ftpcluster.worker.custom_classes
import ftpcluster.worker.speed_limits  # noqa: F401
from ftpcluster.ipc.orders import Cut, NoOrder, Order, receive
from ftpcluster.prctl import be_dumpable, hide_environment, name_process, no_new_privs
from ftpcluster.privileges import CannotRunAs, drop
from ftpcluster.worker.entry import NOT_OURS
from ftpcluster.worker.orphan import die_with_parent

_SETTINGS = "FTPCLUSTER_"
_NO_SETTING = "FTPCLUSTER_NATIVE"


def begin() -> tuple[int, socket.socket] | None:
    """Fork the fork server; returns its pid and the socket for requests. None: spawn workers.

    In the forked processes this never returns: workers end with SystemExit.
    """
    if not _may_fork():
        return None
    supervisor = os.getpid()
    try:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        return None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_OURS)
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        its.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return None
    if pid == 0:
        ours.close()
        _work(_become_fork_server(its, supervisor))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    its.close()
    return pid, ours


def _may_fork() -> bool:
    """Whether a fork is safe. Threads would be lost, with the locks that they hold. And the memory
    would be passed on with a password that the environment may still contain."""
    try:
        is_single = len(os.listdir("/proc/self/task")) == 1
    except OSError:  # there is no /proc
        return False
    settings = (name for name in os.environ if name.upper().startswith(_SETTINGS))
    return is_single and all(name == _NO_SETTING for name in settings)


def _become_fork_server(requests: socket.socket, supervisor: int) -> socket.socket:
    """Be the fork server. Returns in a worker: the socket on which that gets its order."""
    try:
        die_with_parent(supervisor)
        for number in NOT_OURS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NOT_OURS)
        name_process("fork server")
        hide_environment()
        _close_all_but(requests.fileno())
        _import_workers()
        return _serve(requests, supervisor)
    except (NoOrder, ConnectionError):  # the supervisor is gone, or expects no worker any more
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def _close_all_but(kept: int) -> None:
    """Workers get no descriptors that the supervisor was started with (systemd's sockets)."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    most = max(map(int, os.listdir("/proc/self/fd")))
    os.closerange(3, kept)
    os.closerange(kept + 1, most + 1)


def _import_workers() -> None:
    import ftpcluster.worker.confinement
    import ftpcluster.worker.seccomp
    import ftpcluster.worker.worker  # noqa: F401

    gc.collect()
    gc.freeze()  # a collection in a worker would write to every page that all share


def _serve(requests: socket.socket, supervisor: int) -> socket.socket:
    """Serve requests. Returns in a worker: the socket for its order. Raises NoOrder."""
    while True:
        try:
            data, fds = receive(requests)
        except Cut:
            continue  # the supervisor sees the end of what was cut off, and spawns that worker
        if not fds:
            _give_up_root(requests, data)
            die_with_parent(supervisor)  # the kernel forgets this when root is given up
            continue
        with socket.socket(fileno=fds[0]) as order:
            if _fork(order, supervisor):
                requests.close()
                return order.dup()


def _give_up_root(requests: socket.socket, data: bytes) -> None:
    identity, kept = pickle.loads(data)  # noqa: S301 (the supervisor's own)
    try:
        drop(identity, kept)
    except CannotRunAs:
        os._exit(1)  # the supervisor cannot either, and says so
    no_new_privs()
    requests.send(b"done")


def _fork(order: socket.socket, supervisor: int) -> bool:
    """Fork a worker that is the supervisor's child. Returns True in the worker."""
    server = os.getpid()
    try:
        between = os.fork()
    except OSError as error:
        _tell(order, error)
        return False
    if between:
        os.waitpid(between, 0)
        return False
    die_with_parent(server)  # else it stays, where both were stopped and the server is killed
    between = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        _tell(order, error)
        os._exit(0)
    if child:
        os._exit(0)
    _wait_for_end_of(between)
    die_with_parent(supervisor)  # until it is initialized. It may be gone, or expect nobody
    name_process("worker")  # before the pid is told: what still has our name, nobody waits for
    order.send(b"%d" % os.getpid())
    return True


def _tell(order: socket.socket, error: OSError) -> None:
    order.send(b"-%d" % (error.errno or 0))


def _wait_for_end_of(parent: int) -> None:
    """Wait until the process has ended, and so is not our parent any more."""
    try:
        handle = os.pidfd_open(parent)
    except OSError:
        return
    try:
        if os.getppid() == parent:  # so the handle is not of another process with the same pid
            select.select((handle,), (), ())
    finally:
        os.close(handle)


def _work(orders: socket.socket) -> NoReturn:
    """Run a worker. First set up what a spawned process would have from its parent."""
    try:
        order = Order(orders)
    except NoOrder:
        os._exit(1)
    except Cut as cut:
        _end(f"ftpcluster: error: a worker cannot take its order: {cut}")
    orders.close()
    inherited: Any = order.next()
    spawn.prepare(inherited["preparation"])
    os.environ.clear()
    os.environ.update(inherited["environment"])
    _limit_open_files(*inherited["files"])
    stderr = inherited["stderr"].detach()
    os.dup2(stderr, 2)
    os.close(stderr)
    be_dumpable()
    unit: Any = order.next()
    order.close()
    Process.run_async(unit)
    sys.exit(0)


def _limit_open_files(soft: int, hard: int) -> None:
    """Set the supervisor's limits, as far as this process may: root can raise the supervisor's
    while it runs, but the fork server has given up root."""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    except (OSError, ValueError):
        _, ours = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, ours), ours))


def _end(why: str) -> NoReturn:
    os.write(2, f"{why}\n".encode())
    os._exit(1)
