"""aioftp as its manual shows it: PORT ROOT LOGIN PASSWORD CERTIFICATE; it has no AUTH TLS."""

import asyncio
import sys

import aioftp


async def serve(port: str, root: str, login: str, password: str, _: str) -> None:
    server = aioftp.Server([aioftp.User(login, password, base_path=root)])
    await server.run("127.0.0.1", int(port), backlog=1024)


asyncio.run(serve(*sys.argv[1:]))
