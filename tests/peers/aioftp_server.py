"""aioftp as its manual shows it, in a process of its own. What it is told is JSON in argv.

Prints its port once it serves; ends with its stdin, whatever it is doing then.
"""

import asyncio
import json
import os
import sys
import threading
from typing import Any

import aioftp


def end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


async def serve(told: dict[str, Any]) -> None:
    root = told["root"]
    limited = (
        aioftp.Permission("/", writable=False),
        aioftp.Permission("/foo", readable=False, writable=False),
        aioftp.Permission("/foobar"),
        aioftp.Permission("/drop", readable=False),
    )
    users = (
        aioftp.User(*told["user"], base_path=root),
        aioftp.User(*told["plain"], base_path=root),
        aioftp.User(*told["bob"], base_path=root, maximum_connections=2),
        aioftp.User(*told["limited"], base_path=root, permissions=limited),
    )
    options = {}
    if told["strict"]:
        options = {"idle_timeout": told["idle"], "data_ports": told["ports"]}
    server = aioftp.Server(users, **options)
    await server.start("127.0.0.1", 0)
    print(server.server_port, flush=True)
    await server.serve_forever()


threading.Thread(target=end_with_stdin, daemon=True).start()
asyncio.run(serve(json.loads(sys.argv[1])))
