"""A container for a server, made of namespaces by util-linux, without an image.

python -m tests.support.container PYTHON CONFIGURATION USER COMMAND…

The command is process 1, runs as USER without capabilities, and has a network of its own. It finds
CONFIGURATION and /srv/ftp where the image has them. All but /srv/ftp and /run/ftpcluster is
read-only. ``python`` and ``ftpcluster`` are those of PYTHON.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.support.cluster import DEADLINE, Cluster, children
from tests.support.programs import need

_NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child")
_PROGRAMS = "/mnt/bin"
_SETUP = f"""
python=$1 configuration=$2 user=$3
shift 3
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir {_PROGRAMS} /mnt/etc /mnt/work
printf '#!/bin/sh\\nexec %s "$@"\\n' "$python" >{_PROGRAMS}/python
printf '#!/bin/sh\\nexec %s -m ftpcluster "$@"\\n' "$python" >{_PROGRAMS}/ftpcluster
chmod 755 {_PROGRAMS}/*
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/etc,workdir=/mnt/work /etc
mkdir -p /etc/ftpcluster
install -m 644 "$configuration" /etc/ftpcluster/ftpcluster.toml
mount -t tmpfs tmpfs /srv
mkdir /srv/ftp
echo content >/srv/ftp/file
mount -t tmpfs tmpfs /run
mkdir /run/ftpcluster
for directory in /srv/ftp /run/ftpcluster; do
    mount --bind $directory $directory
    chown "$user:$user" $directory
done
mount -t proc proc /proc
for directory in / /etc /mnt /run /srv; do mount -o remount,bind,ro $directory; done
"$python" -c "
import fcntl, socket, struct
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack('16sH14x', b'lo', IFF_UP))
"
cd /
exec setpriv --reuid="$user" --regid="$user" --clear-groups --no-new-privs \\
    --bounding-set=-all "$@"
"""


def need_namespaces() -> None:
    """Skip the test if the kernel does not let us make namespaces."""
    command = [need("unshare"), *_NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no namespaces for us: {done.stderr}")


def first_process(cluster: Cluster) -> int:
    """The pid, outside of the container, of its process 1."""
    (child,) = children(cluster.pid)
    return child


def inside(cluster: Cluster, user: int, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in the container, as ``docker exec`` does."""
    entered = ("nsenter", f"--target={first_process(cluster)}", "--mount", "--net", "--pid")
    become = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups")
    with open(f"/proc/{first_process(cluster)}/environ", "rb") as file:
        environment = dict(line.split(b"=", 1) for line in file.read().split(b"\0") if line)
    return subprocess.run(
        [*entered, *become, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def main() -> None:
    os.environ["PATH"] = f"{_PROGRAMS}:{os.environ['PATH']}"
    os.execvp("unshare", ["unshare", *_NAMESPACES, "sh", "-euc", _SETUP, "sh", *sys.argv[1:]])


if __name__ == "__main__":
    main()
