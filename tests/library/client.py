"""A tiny FTP client on asyncio streams, for tests that share one loop with the server.

It never calls ``asyncio.sleep``, which tests of limits replace.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

DEADLINE = 20.0


class Data:
    """A data connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self) -> bytes:
        """Everything until the end."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read()

    async def some(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readexactly(count)

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        async with asyncio.timeout(DEADLINE):
            await self.writer.drain()

    async def close(self) -> None:
        await _close(self.writer)


class Client:
    """A control connection: ``async with Client(port) as client``."""

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        greeting: int | None = 220,
        source: str | None = None,
    ) -> None:
        """``source``: the address to come from."""
        self.port = port
        self.host = host
        self.encoding = "utf-8"
        self._greeting = greeting
        self._source = None if source is None else (source, 0)

    async def __aenter__(self) -> Self:
        async with asyncio.timeout(DEADLINE):
            self._reader, self._writer = await asyncio.open_connection(
                self.host, self.port, local_addr=self._source
            )
        if self._greeting is not None:
            try:
                await self.expects(self._greeting)
            except BaseException:
                await self.close()
                raise
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await _close(self._writer)

    def send(self, line: str) -> None:
        self._writer.write(line.encode(self.encoding, "surrogateescape") + b"\r\n")

    async def reply(self) -> tuple[int, str]:
        """The next reply: its code, and its whole text. Raises EOFError at the end."""
        lines = [await self._line()]
        code = lines[0][:3]
        if lines[0][3] == "-":
            while not lines[-1].startswith(code + " "):
                lines.append(await self._line())
        return int(code), "\n".join(lines)

    async def _line(self) -> str:
        async with asyncio.timeout(DEADLINE):
            line = await self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError(line)
        return line[:-2].decode(self.encoding, "surrogateescape")

    async def expects(self, *codes: int) -> str:
        """The next reply, which must have one of these codes; its text."""
        code, text = await self.reply()
        assert code in codes, f"expected {codes}, got {text!r}"
        return text

    async def says(self, command: str, *codes: int) -> str:
        """Send a command; its reply must have one of these codes; its text."""
        self.send(command)
        code, text = await self.reply()
        assert code in codes, f"{command!r}: expected {codes}, got {text!r}"
        return text

    async def logs_in(
        self, user: str = "anonymous", password: str = "", *, binary: bool = True
    ) -> None:
        await self.says(f"USER {user}", 331)
        await self.says(f"PASS {password}", 230)
        if binary:
            await self.says("TYPE I", 200)

    async def epsv(self) -> int:
        match = re.search(r"\(\|\|\|(\d+)\|\)", await self.says("EPSV", 229))
        assert match is not None
        return int(match[1])

    async def pasv(self) -> tuple[str, int]:
        match = re.search(r"\((\d+,\d+,\d+,\d+),(\d+),(\d+)\)", await self.says("PASV", 227))
        assert match is not None
        return match[1].replace(",", "."), int(match[2]) * 256 + int(match[3])

    @asynccontextmanager
    async def passive(self) -> AsyncIterator[Data]:
        """A data connection, made with EPSV."""
        port = await self.epsv()
        async with asyncio.timeout(DEADLINE):
            data = Data(*await asyncio.open_connection(self.host, port))
        try:
            yield data
        finally:
            await data.close()

    async def downloads(self, command: str, *final: int) -> bytes:
        """What a command such as RETR or LIST sends."""
        async with self.passive() as data:
            await self.says(command, 150)
            content = await data.read()
        await self.expects(*(final or (226,)))
        return content

    async def lines(self, command: str) -> list[str]:
        """The lines that a listing has."""
        return (await self.downloads(command)).decode().splitlines()

    async def uploads(self, command: str, content: bytes, *final: int) -> None:
        """Send ``content`` with a command such as STOR."""
        async with self.passive() as data:
            await self.says(command, 150)
            await data.send(content)
        await self.expects(*(final or (226,)))

    async def is_ended(self) -> bool:
        """Wait for the end of the connection: whether nothing came before it."""
        try:
            async with asyncio.timeout(DEADLINE):
                return not await self._reader.read(1)
        except ConnectionResetError:
            return True


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        pass  # the server has reset it
