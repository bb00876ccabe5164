"""The code of the three reference documents, with the name replaced, runs and does what it says."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
import trustme

import ftpcluster
from tests.library.client import Client
from tests.library.examples import reference
from tests.library.loops import on_both_loops


def free_port() -> int:
    """A port that is free now, for a range of data ports."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


@on_both_loops
async def test_the_basic_server_has_an_admin_and_a_reading_public(root: Path) -> None:
    (root / "public").mkdir()
    async with reference.basic_server(root) as server, Client(server.server_port) as client:
        await client.logs_in("admin", "secret")
        await client.uploads("STOR public/news", b"news")
        await client.logs_in("somebody", "")
        assert await client.downloads("RETR news") == b"news"
        await client.says("DELE news", 550)


@on_both_loops
async def test_the_database_user_manager_decides_who_logs_in(root: Path) -> None:
    (root / "alice").mkdir()
    manager = reference.DatabaseUserManager(root, {"alice": "12345"})
    async with ftpcluster.Server(users=manager, login_delay=0) as server:
        async with Client(server.server_port) as client:
            await client.says("USER bob", 331)
            await client.says("PASS 12345", 530)
            await client.logs_in("alice", "12345")
            await client.uploads("STOR file", b"content")
    assert (root / "alice" / "file").read_bytes() == b"content"
    assert manager.logged_out == ["alice"]


@on_both_loops
async def test_the_advanced_server_has_limits_ports_and_an_address_of_its_own(root: Path) -> None:
    (root / "logs").mkdir()
    (root / "uploads").mkdir()
    port = free_port()
    server = reference.advanced_server(root, range(port, port + 1))
    async with server, Client(server.server_port) as client:
        await client.logs_in("admin", "admin_pass")
        assert await client.pasv() == ("192.168.1.100", port)
        await client.uploads("STOR file", b"content")
        await client.says("STOR logs/file", 550)
        await client.logs_in("upload_only", "upload_pass")
        await client.uploads("STOR mine", b"mine")
        await client.says("RETR mine", 550)
    assert (root / "uploads" / "mine").read_bytes() == b"mine"


@on_both_loops
async def test_the_default_server_serves_the_current_directory_to_anybody(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    server = reference.default_server()
    await server.start()
    async with Client(server.server_port) as client:
        await client.logs_in()
        await client.uploads("STOR file", b"content")
    await server.close()
    assert (root / "file").read_bytes() == b"content"


@on_both_loops
async def test_users_have_the_permissions_of_their_directories(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    (root / "Guido").mkdir()
    (root / "anon").mkdir()
    async with ftpcluster.Server(reference.users_with_permissions()) as server:
        async with Client(server.server_port) as client:
            await client.logs_in("Guido", "secret_password")
            assert "/Guido" in await client.says("PWD", 257)
            await client.uploads("STOR file", b"content")
            await client.says("LIST /", 550)
            await client.says("STOR /file", 550)
            await client.logs_in("nobody", "")
            assert "/anon" in await client.says("PWD", 257)
            assert await client.lines("LIST") == []
            await client.says("LIST /Guido", 550)


@on_both_loops
async def test_the_memory_server_keeps_files_from_session_to_session() -> None:
    async with reference.memory_server() as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.uploads("STOR file", b"content")
        async with Client(server.server_port) as client:
            await client.logs_in()
            assert await client.downloads("RETR file") == b"content"


@on_both_loops
async def test_the_server_is_full_after_three_connections() -> None:
    async with reference.full_after_three() as server:
        port = server.server_port
        async with Client(port), Client(port), Client(port), Client(port, greeting=421) as fourth:
            assert await fourth.is_ended()


@on_both_loops
async def test_the_user_is_full_after_three_logins() -> None:
    async with reference.user_full_after_three() as server:
        port = server.server_port
        async with Client(port) as a, Client(port) as b, Client(port) as c, Client(port) as d:
            for client in (a, b, c):
                await client.logs_in()
            await d.says("USER anonymous", 331)
            await d.says("PASS x", 530)
            await a.says("QUIT", 221)
            assert await a.is_ended()
            await d.logs_in()


@pytest.mark.parametrize(
    "make", [reference.server_with_speed_limits, reference.user_with_speed_limits]
)
@on_both_loops
async def test_servers_with_speed_limits_serve(
    make: object, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    assert callable(make)
    async with make() as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.uploads("STOR file", bytes(5000))
        assert await client.downloads("RETR file") == bytes(5000)


@on_both_loops
async def test_connection_conditions_wait_for_the_data_connection(root: Path) -> None:
    server = reference.Decorated([ftpcluster.User(base_path=root)])
    async with server, Client(server.server_port) as client:
        await client.says("FOO", 530)
        await client.logs_in()
        await client.says("FOO", 503)
        async with client.passive() as data:
            await client.says("FOO", 226)
            assert await data.read() == b"foo"


@on_both_loops
async def test_path_decorators_check_a_command_whose_argument_is_called_path(root: Path) -> None:
    """As the reference's own examples call it."""
    (root / "directory").mkdir()
    readable = ftpcluster.Permission("/directory", writable=False)
    users = [ftpcluster.User(base_path=root, permissions=[ftpcluster.Permission(), readable])]
    server = reference.Decorated(users)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        assert await client.says("BAR directory", 200) == "200 bar of directory"
        await client.says("BAR missing", 550)
        assert await client.says("BAZ file", 200) == "200 baz of file"
        await client.says("BAZ directory/file", 550)


@on_both_loops
async def test_a_command_may_be_a_worker(root: Path) -> None:
    server = reference.Decorated([ftpcluster.User(base_path=root)])
    async with server, Client(server.server_port) as client:
        await client.says("WORKER", 530)
        await client.logs_in()
        await client.says("WORKER", 200)


@on_both_loops
async def test_the_secure_server_speaks_tls_from_the_first_byte(root: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = tmp_path / "server.pem"
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with reference.secure_server(root, certificate) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.server_port, ssl=context, server_hostname="localhost"
        )
        assert await reader.readline() == b"220 welcome\r\n"
        for command, code in (("USER secure_user", b"331"), ("PASS secure_pass", b"230")):
            writer.write(f"{command}\r\n".encode())
            assert (await reader.readline())[:3] == code
        writer.close()
