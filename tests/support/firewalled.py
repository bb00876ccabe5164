"""Tries rules of nftables in a network namespace.

unshare --map-root-user --net python -m tests.support.firewalled RULES

Prints as JSON how many connections each kind of client got, and what the rules' counters say.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import time

from tests.support.apart import bring_up

_DEADLINE = 20.0


def main() -> None:
    bring_up("lo")
    subprocess.run(["nft", "-f", sys.argv[1]], check=True)
    with contextlib.ExitStack() as stack:
        for port in (21, 990, 50000, 50999, 51000):
            stack.enter_context(_listener(socket.AF_INET6, "::", port))
        told = {
            "one address": _connected("127.0.0.1", "127.0.0.2", 21, 150),
            "another address": _connected("127.0.0.1", "127.0.0.3", 990, 5),
            "IPv6": _connected("::1", "::1", 21, 150),
            "data ports": _connected("127.0.0.1", "127.0.0.2", 50000, 150)
            + _connected("127.0.0.1", "127.0.0.2", 50999, 1),
            "too many": _counted("too_many"),
            "closed port": _refused("127.0.0.1", "127.0.0.3", 51000),
        }
    print(json.dumps(told))


def _listener(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    return socket.create_server((host, port), family=family, backlog=1000, dualstack_ipv6=True)


def _attempt(host: str, source: str, port: int) -> socket.socket:
    """Begin a connection."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setblocking(False)
    sock.bind((source, 0))
    with contextlib.suppress(BlockingIOError):
        sock.connect((host, port))
    return sock


def _connected(host: str, source: str, port: int, count: int) -> int:
    """How many of ``count`` connections, begun at once, are let in."""
    before = _counted("too_many")
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(_attempt(host, source, port)) for _ in range(count)]
        end = time.monotonic() + _DEADLINE
        while True:
            _, done, _ = select.select([], socks, [], 0.05)
            dropped = _counted("too_many") - before
            if len(done) + dropped >= count:
                return len(done)
            assert time.monotonic() < end, f"{len(done)} got in, {dropped} were dropped"


def _counted(name: str) -> int:
    """Packets that a counter of the rules has seen."""
    command = ["nft", "-j", "list", "counter", "inet", "ftpcluster", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: int = next(
        each["counter"]["packets"]
        for each in json.loads(done.stdout)["nftables"]
        if "counter" in each
    )
    return found


def _refused(host: str, source: str, port: int) -> int:
    """Connect to a closed port. Returns how many packets were dropped, at least one."""
    assert not _counted("closed")
    end = time.monotonic() + _DEADLINE
    with _attempt(host, source, port) as sock:
        while not (dropped := _counted("closed")):
            assert time.monotonic() < end, f"nothing that went to {port} was dropped"
            time.sleep(0.05)
        assert not select.select([], [sock], [], 0)[1]
    return dropped


if __name__ == "__main__":
    main()
