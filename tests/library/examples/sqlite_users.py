"""Users in an SQLite database, with hashed passwords; its calls run in a thread."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import ftpcluster
from ftpcluster.passwords import hash_password, verify_off_loop


class SQLiteUsers(ftpcluster.AbstractUserManager):
    """Table ``users``: login, password (a hash), directory, sessions that are logged in."""

    def __init__(self, database: Path) -> None:
        super().__init__()
        self.database = database

    def execute(self, statement: str, *values: object) -> list[tuple[str, ...]]:
        connection = sqlite3.connect(self.database, timeout=10)
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def create(self) -> None:
        self.execute(
            "CREATE TABLE users (login PRIMARY KEY, password, directory, logouts DEFAULT 0)"
        )

    def add(self, login: str, password: str, directory: Path) -> None:
        row = (login, hash_password(password), str(directory))
        self.execute("INSERT INTO users (login, password, directory) VALUES (?, ?, ?)", *row)

    async def get_user(
        self, login: str
    ) -> tuple[ftpcluster.AbstractUserManager.GetUserResponse, ftpcluster.User | None, str]:
        query = "SELECT password, directory FROM users WHERE login = ?"
        rows = await asyncio.to_thread(self.execute, query, login)
        if not rows:
            return self.GetUserResponse.ERROR, None, "no such user"
        password, directory = rows[0]
        user = ftpcluster.User(login, password, base_path=directory)
        return self.GetUserResponse.PASSWORD_REQUIRED, user, "password required"

    async def authenticate(self, user: ftpcluster.User, password: str) -> bool:
        return user.password is not None and await verify_off_loop(user.password, password)

    async def notify_logout(self, user: ftpcluster.User) -> None:
        statement = "UPDATE users SET logouts = logouts + 1 WHERE login = ?"
        await asyncio.to_thread(self.execute, statement, user.login)


def factory() -> SQLiteUsers:
    """For ``ftpcluster run --user-manager``."""
    return SQLiteUsers(Path("users.db"))
