"""What a user writes: a server with commands, a user manager and a path layer of their own.

``ftpcluster run --server tests.library.examples.shop:Shop`` runs it in a cluster.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import ftpcluster
from ftpcluster import ConnectionConditions, PathConditions, PathPermissions, worker


class Shop(ftpcluster.Server):
    """Counts downloads, and has two commands that no other server has."""

    downloads = 0

    async def retr(self, connection: ftpcluster.Connection, rest: str) -> bool:
        self.downloads += 1
        return await super().retr(connection, rest)

    @ftpcluster.command("XCOUNT")
    async def xcount(self, connection: ftpcluster.Connection, rest: str) -> bool:
        connection.response("200", f"{self.downloads} downloads")
        return True

    @ConnectionConditions(ConnectionConditions.login_required)
    @PathConditions(PathConditions.path_must_exists, PathConditions.path_must_be_file)
    @PathPermissions(PathPermissions.readable)
    @worker
    async def xdigest(self, connection: ftpcluster.Connection, rest: str) -> bool:
        real, virtual = self.get_paths(connection, rest)
        digest = hashlib.sha256()
        async with connection.path_io.open(real, mode="rb") as file:
            async for block in file.iter_by_block(65536):
                digest.update(block)
        connection.response("213", f"{digest.hexdigest()} {virtual}")
        return True


class Customers(ftpcluster.AbstractUserManager):
    """Whoever knows the shop's word has a directory."""

    def __init__(self, directory: Path, word: str = "sesame") -> None:
        super().__init__(timeout=5)
        self.directory = directory
        self.word = word

    @ftpcluster.with_timeout
    async def get_user(
        self, login: str
    ) -> tuple[ftpcluster.AbstractUserManager.GetUserResponse, ftpcluster.User | None, str]:
        if not login.isalpha():
            return self.GetUserResponse.ERROR, None, "no such customer"
        user = ftpcluster.User(login, base_path=self.directory, maximum_connections=10)
        return self.GetUserResponse.PASSWORD_REQUIRED, user, "the word, please"

    async def authenticate(self, user: ftpcluster.User, password: str) -> bool:
        return password == self.word


def customers() -> Customers:
    """For ``--user-manager``: the current directory is everybody's."""
    return Customers(Path.cwd())


class UpperCase(ftpcluster.PathIO):
    """A path layer that stores what it is given, and gives it in capitals."""

    @ftpcluster.universal_exception
    async def read(self, file: object, block_size: int = 8192) -> bytes:
        return (await super().read(file, block_size)).upper()  # type: ignore[arg-type]


class InMemory(ftpcluster.Server):
    """A server whose files live in one process; ``run`` refuses it with two workers."""

    def __init__(self) -> None:
        super().__init__(path_io_factory=ftpcluster.MemoryPathIO)


class InCapitals(ftpcluster.Server):
    def __init__(self, users: ftpcluster.AbstractUserManager) -> None:
        super().__init__(users, path_io_factory=UpperCase)


async def serve(directory: Path) -> None:
    """Serve one client's visit in one's own loop."""
    async with Shop(Customers(directory), maximum_connections=100) as server:
        host, port = server.address
        print(f"serving on {host or '*'}:{port}")
        await server.serve_forever()


not_a_server = 1
not_of_the_right_type = dict
