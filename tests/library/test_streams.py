"""Row 11: both connections of a session as streams, for commands of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ftpcluster
from ftpcluster import ConnectionConditions
from tests.library.client import Client
from tests.library.conftest import Sleeps
from tests.library.loops import on_both_loops

Command = Callable[[Any, str], Any]


def serve(root: Path, command: Command, **settings: Any) -> ftpcluster.Server:
    """A server of ``root`` for anybody, with XOWN as one more command."""
    server = ftpcluster.Server([ftpcluster.User(base_path=root)], **settings)
    server.commands_mapping["xown"] = command
    return server


# ---------------------------------------------------------------------- the control connection


async def asks(connection: Any, _: str) -> bool:
    """Asks for a line, and says what it was."""
    stream = connection.command_connection
    await stream.write(b"300 Your name?\r\n")
    name = await stream.readline()
    connection.response("200", f"Hello {name.decode().rstrip()}.")
    return True


@on_both_loops
async def test_a_command_can_ask_and_read_the_answer(root: Path) -> None:
    async with serve(root, asks) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("XOWN", 300)
        assert await client.says("Anne", 200) == "200 Hello Anne."
        await client.says("NOOP", 200)


@on_both_loops
async def test_what_was_sent_ahead_is_read_first_and_the_rest_are_commands(root: Path) -> None:
    async with serve(root, asks) as server, Client(server.server_port) as client:
        await client.logs_in()
        client.send("XOWN\r\nnoop\r\nPWD\r\nNOOP")
        await client.expects(300)
        assert await client.expects(200) == "200 Hello noop."
        await client.expects(257)
        await client.expects(200)


@on_both_loops
async def test_an_answer_in_pieces_is_one_line(root: Path) -> None:
    async with serve(root, asks) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("XOWN", 300)
        client._writer.write(b"An")
        await client._writer.drain()
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        client._writer.write(b"ne\nPWD\r\n")
        assert await client.expects(200) == "200 Hello Anne."
        await client.expects(257)


@on_both_loops
async def test_bytes_are_read_by_number(root: Path) -> None:
    async def reads(connection: Any, _: str) -> bool:
        stream = connection.command_connection
        got = [await stream.read(3), await stream.readexactly(4), await stream.read(0)]
        connection.response("200", repr(b"|".join(got)))
        return True

    async with serve(root, reads) as server, Client(server.server_port) as client:
        await client.logs_in()
        client.send("XOWN\r\nonefourNOOP")
        assert await client.expects(200) == "200 b'one|four|'"
        assert "welcome" not in await client.expects(200)


@on_both_loops
async def test_reading_ends_where_the_client_hangs_up(root: Path) -> None:
    lines: list[bytes] = []
    ended = asyncio.Event()

    async def reads(connection: Any, _: str) -> bool:
        lines.extend([line async for line in connection.command_connection.iter_by_line()])
        ended.set()
        return True

    async with serve(root, reads) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            client.send("XOWN\r\none\r\ntwo")
        await ended.wait()
    assert lines == [b"one\r\n", b"two\r\n"]


@on_both_loops
async def test_the_writer_collects_until_it_is_drained(root: Path) -> None:
    async def writes(connection: Any, _: str) -> bool:
        stream = connection.command_connection
        stream.writer.write(b"200-")
        stream.writer.write(b"one\r\n")
        await stream.drain()
        stream.writer.write(b"200 two\r\n")
        await stream.writer.drain()
        peer = stream.writer.get_extra_info("peername")
        own = stream.writer.get_extra_info("sockname")
        assert peer == (connection.client_host, connection.client_port)
        assert own == (connection.server_host, connection.server_port)
        assert stream.writer.get_extra_info("cipher") is None
        return True

    async with serve(root, writes) as server, Client(server.server_port) as client:
        await client.logs_in()
        assert await client.says("XOWN", 200) == "200-one\n200 two"


@on_both_loops
async def test_close_ends_the_session(root: Path) -> None:
    async def closes(connection: Any, _: str) -> bool:
        connection.command_connection.close()
        assert connection.command_connection.writer.is_closing()
        return True

    async with serve(root, closes) as server, Client(server.server_port) as client:
        await client.logs_in()
        client.send("XOWN")
        assert await client.is_ended()
        assert server.connections == {}


@on_both_loops
async def test_the_control_connection_keeps_the_limits_of_its_user(
    root: Path, sleeps: Sleeps
) -> None:
    async def talks(connection: Any, size: str) -> bool:
        sleeps.restart()
        await connection.command_connection.write(b"200 " + bytes(int(size)) + b"\r\n")
        connection.response("200", "sent")
        return True

    limits = {"write_speed_limit": 1000}
    async with serve(root, talks, **limits) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("XOWN 1994", 200)
        await client.expects(200)
        assert sum(sleeps.delays) == pytest.approx(2.0, rel=0.05)


# ---------------------------------------------------------------------- data connections


def with_data(command: Command) -> Command:
    """``command``, which gets the data connection in place of the connection."""

    @ConnectionConditions(ConnectionConditions.data_connection_made, wait=True)
    async def obey(_: Any, connection: Any, rest: str) -> bool:
        stream = connection.data_connection
        del connection.data_connection
        async with stream:
            connection.response("200", repr(await command(stream, rest)))
        return True

    async def bound(connection: Any, rest: str) -> bool:
        done: bool = await obey(None, connection, rest)
        return done

    return bound


async def uploads(root: Path, command: Command, content: bytes) -> str:
    """What ``command`` says of an upload."""
    async with serve(root, with_data(command)) as server, Client(server.server_port) as client:
        await client.logs_in()
        async with client.passive() as data:
            client.send("XOWN")
            await data.send(content)
        return (await client.expects(200))[4:]


@on_both_loops
async def test_exactly_so_many_bytes_of_a_data_connection(root: Path) -> None:
    async def reads(stream: Any, _: str) -> bytes:
        found: bytes = await stream.readexactly(5)
        return found

    assert await uploads(root, reads, b"content") == "b'conte'"


@on_both_loops
async def test_fewer_than_exactly_so_many_bytes_are_an_error(root: Path) -> None:
    async def reads(stream: Any, _: str) -> bytes:
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await stream.readexactly(8)
        return caught.value.partial

    assert await uploads(root, reads, b"content") == "b'content'"


@on_both_loops
async def test_a_data_connection_by_lines_and_by_blocks(root: Path) -> None:
    async def by_lines(stream: Any, _: str) -> list[bytes]:
        return [line async for line in stream.iter_by_line()]

    async def by_blocks(stream: Any, _: str) -> bool:
        blocks = [block async for block in stream.iter_by_block(2)]
        return max(map(len, blocks)) <= 2 and b"".join(blocks) == b"one\ntwo"

    assert await uploads(root, by_lines, b"one\ntwo") == r"[b'one\n', b'two']"
    assert await uploads(root, by_blocks, b"one\ntwo") == "True"


@on_both_loops
async def test_the_writer_of_a_data_connection_collects_too(root: Path) -> None:
    async def writes(stream: Any, _: str) -> None:
        stream.writer.write(b"one ")
        stream.writer.write(b"two ")
        await stream.writer.drain()
        stream.writer.write(b"three ")
        await stream.write(b"four")
        stream.writer.write(b" five")  # is drained where the block ends

    command = with_data(writes)
    async with serve(root, command) as server, Client(server.server_port) as client:
        await client.logs_in()
        async with client.passive() as data:
            client.send("XOWN")
            assert await data.read() == b"one two three four five"
        await client.expects(200)
