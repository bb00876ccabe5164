"""Commands in a network namespace of their own: this machine's network stays as it is."""

from __future__ import annotations

import fcntl
import socket
import struct
from pathlib import Path

import pytest

from tests.support.cluster import until
from tests.support.programs import attempt, need

_ROOT = Path(__file__).parents[2]
_SIOCSIFFLAGS, _SIOCSIFADDR = 0x8914, 0x8916
_IFF_UP = 1
_IFA_F_TENTATIVE = 0x40


def apart(*command: str) -> str:
    """Run a command as root of a network namespace of its own. Returns what it prints."""
    alone = (need("unshare"), "--map-root-user", "--net")
    done = attempt((*alone, "true"), home=_ROOT)
    if done.returncode:
        pytest.skip(f"no namespaces for us: {done.stderr}")
    done = attempt((*alone, *command), home=_ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bring_up(interface: str) -> None:
    with socket.socket() as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", interface.encode(), _IFF_UP))


def add_address(interface: str, address: str) -> None:
    """Add an IPv6 address with a /64 prefix to an interface, and wait until it can be used."""
    packed = socket.inet_pton(socket.AF_INET6, address)
    request = struct.pack("16sIi", packed, 64, socket.if_nametoindex(interface))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFADDR, request)
    until(lambda: not _is_tentative(packed))


def _is_tentative(address: bytes) -> bool:
    """Whether the kernel still checks that no other host has it (RFC 4862): it cannot be used."""
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        there, _, _, _, flags, _ = line.split()
        if bytes.fromhex(there) == address:
            return bool(int(flags, 16) & _IFA_F_TENTATIVE)
    return True
