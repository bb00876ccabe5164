"""The servers that the reference documents show, by this package's name and on free ports."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import ftpcluster
from ftpcluster import worker

# ---------------------------------------------------------------------- overview


def basic_server(directory: Path) -> ftpcluster.Server:
    users = [
        ftpcluster.User(
            login="admin",
            password="secret",
            base_path=directory,
            permissions=[
                ftpcluster.Permission("/", readable=True, writable=True),
            ],
        ),
        ftpcluster.User(  # anonymous
            base_path=directory / "public",
            permissions=[
                ftpcluster.Permission("/", readable=True, writable=False),
            ],
        ),
    ]
    return ftpcluster.Server(users=users)


class DatabaseUserManager(ftpcluster.AbstractUserManager):
    """Its database is a dict."""

    def __init__(self, directory: Path, passwords: dict[str, str]) -> None:
        super().__init__()
        self.directory = directory
        self.passwords = passwords
        self.logged_out: list[str | None] = []

    async def get_user(
        self, login: str
    ) -> tuple[ftpcluster.AbstractUserManager.GetUserResponse, ftpcluster.User | None, str]:
        if login in self.passwords:
            user = ftpcluster.User(
                login=login,
                base_path=self.directory / login,
                permissions=[ftpcluster.Permission("/", readable=True, writable=True)],
            )
            return (self.GetUserResponse.PASSWORD_REQUIRED, user, "")
        return (self.GetUserResponse.ERROR, None, "User not found")

    async def authenticate(self, user: ftpcluster.User, password: str) -> bool:
        return user.login is not None and self.passwords[user.login] == password

    async def notify_logout(self, user: ftpcluster.User) -> None:
        self.logged_out.append(user.login)


def advanced_server(directory: Path, data_ports: range) -> ftpcluster.Server:
    users = [
        ftpcluster.User(
            login="admin",
            password="admin_pass",
            base_path=directory,
            permissions=[
                ftpcluster.Permission("/", readable=True, writable=True),
                ftpcluster.Permission("/logs", readable=True, writable=False),
            ],
            maximum_connections=5,
            read_speed_limit=2 * 1024 * 1024,
            write_speed_limit=1 * 1024 * 1024,
        ),
        ftpcluster.User(
            login="upload_only",
            password="upload_pass",
            base_path=directory / "uploads",
            permissions=[
                ftpcluster.Permission("/", readable=False, writable=True),
            ],
            maximum_connections=2,
        ),
    ]
    return ftpcluster.Server(
        users=users,
        maximum_connections=20,
        socket_timeout=30.0,
        idle_timeout=300.0,
        data_ports=data_ports,
        encoding="utf-8",
        ipv4_pasv_forced_response_address="192.168.1.100",
    )


# ---------------------------------------------------------------------- tutorial


def default_server() -> ftpcluster.Server:
    return ftpcluster.Server()


def users_with_permissions() -> tuple[ftpcluster.User, ...]:
    return (
        ftpcluster.User(
            "Guido",
            "secret_password",
            home_path="/Guido",
            permissions=(
                ftpcluster.Permission("/", readable=False, writable=False),
                ftpcluster.Permission("/Guido", readable=True, writable=True),
            ),
        ),
        ftpcluster.User(
            home_path="/anon",
            permissions=(
                ftpcluster.Permission("/", readable=False, writable=False),
                ftpcluster.Permission("/anon", readable=True),
            ),
        ),
    )


def memory_server() -> ftpcluster.Server:
    return ftpcluster.Server(path_io_factory=ftpcluster.MemoryPathIO)


def full_after_three() -> ftpcluster.Server:
    return ftpcluster.Server(maximum_connections=3)


def user_full_after_three() -> ftpcluster.Server:
    users = (ftpcluster.User(maximum_connections=3),)
    return ftpcluster.Server(users)


def server_with_speed_limits() -> ftpcluster.Server:
    return ftpcluster.Server(
        read_speed_limit=1024 * 1024,
        write_speed_limit=1024 * 1024,
        read_speed_limit_per_connection=100 * 1024,
        write_speed_limit_per_connection=100 * 1024,
    )


def user_with_speed_limits() -> ftpcluster.Server:
    users = (
        ftpcluster.User(
            read_speed_limit=1024 * 1024,
            write_speed_limit=1024 * 1024,
            read_speed_limit_per_connection=100 * 1024,
            write_speed_limit_per_connection=100 * 1024,
        ),
    )
    return ftpcluster.Server(users)


# ---------------------------------------------------------------------- API: the decorators


class Decorated(ftpcluster.Server):
    """A command with each decorator as the API's text shows it; some name their argument path."""

    @ftpcluster.ConnectionConditions(
        ftpcluster.ConnectionConditions.login_required,
        ftpcluster.ConnectionConditions.passive_server_started,
        ftpcluster.ConnectionConditions.data_connection_made,
        wait=True,
    )
    async def foo(self, connection: ftpcluster.Connection, rest: str) -> bool:
        async with connection.data_connection as stream:
            await stream.write(b"foo")
        connection.response("226", "foo was sent")
        return True

    @ftpcluster.PathConditions(
        ftpcluster.PathConditions.path_must_exists, ftpcluster.PathConditions.path_must_be_dir
    )
    async def bar(self, connection: ftpcluster.Connection, path: Any) -> bool:
        connection.response("200", f"bar of {path}")
        return True

    @ftpcluster.PathPermissions(
        ftpcluster.PathPermissions.readable, ftpcluster.PathPermissions.writable
    )
    async def baz(self, connection: ftpcluster.Connection, path: Any) -> bool:
        connection.response("200", f"baz of {path}")
        return True

    @worker
    async def worker(self, connection: ftpcluster.Connection, rest: str) -> bool:
        connection.response("200", "the worker is done")
        return True


def secure_server(directory: Path, certificate: Path) -> ftpcluster.Server:
    """The overview's server with TLS: implicit, with limits."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    user = ftpcluster.User(
        login="secure_user",
        password="secure_pass",
        base_path=directory,
        permissions=[ftpcluster.Permission("/", readable=True, writable=True)],
    )
    return ftpcluster.Server(
        users=[user],
        ssl=context,
        maximum_connections=10,
        read_speed_limit=1024 * 1024,
        write_speed_limit=1024 * 1024,
    )
