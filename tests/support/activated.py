"""``ftpcluster`` with socket activation: it starts with two sockets, as from a service manager.

python -m tests.support.activated run …
"""

from __future__ import annotations

import os
import socket


def main() -> None:
    first, second = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    # nothing else is open yet in a process that has just begun
    os.dup2(first.fileno(), 3)
    os.dup2(second.fileno(), 4)
    names = "plain:implicit"
    os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=names)

    from ftpcluster.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
