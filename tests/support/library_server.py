"""A ``Server`` of the library in a process of its own. It prints "ready on" as ``run`` does.

python -m tests.support.library_server OPTIONS LOGIN=DIRECTORY…

OPTIONS, a JSON object, has keywords of ``Server``. All passwords are "x".
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys

import ftpcluster


async def main() -> None:
    options, *users = sys.argv[1:]
    accounts = [
        ftpcluster.User(login, "x", base_path=directory)
        for login, _, directory in (user.partition("=") for user in users)
    ]
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    server = ftpcluster.Server(accounts, **json.loads(options))
    await server.start("127.0.0.1", 0)
    print(f"ready on 127.0.0.1:{server.server_port} (1 worker)", file=sys.stderr, flush=True)
    await stopping.wait()
    await server.close()
    print("closed", file=sys.stderr, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
