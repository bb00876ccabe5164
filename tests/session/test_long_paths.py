"""Paths of two thousand names, which a line of 4 KB can have, keep nobody else waiting."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Any

import pytest

from ftpcluster import Permission, User
from ftpcluster.protocol.pattern import Names
from ftpcluster.storage.local import LocalStorage
from tests.session.conftest import Maker
from tests.support.dialogue import Dialogue

DEPTH = 300  # more, and Python 3.11 could not remove them


def test_others_are_answered_while_many_directories_are_made(
    serve: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir
    made = 0
    answered = False

    def watched(*args: Any, **kwargs: Any) -> None:
        nonlocal made, answered
        mkdir(*args, **kwargs)
        made += 1
        if made == 20:
            other.send("NOOP")
        elif made == DEPTH:
            answered = bool(select.select([other.sock], [], [], 0)[0])

    with Dialogue(port := serve(forbid=["*.php"])) as client, Dialogue(port) as other:
        client.logs_in()
        other.logs_in()
        monkeypatch.setattr(os, "mkdir", watched)
        client.says(f"MKD {'a/' * DEPTH}", 257)
        other.expects(200)
    assert made == DEPTH
    assert answered


def test_the_directories_above_a_new_one_are_not_looked_at_one_by_one(
    serve: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            looks.append(args[1])
            return function(*args)

        return call

    rules = [Permission("/"), Permission("/a", writable=False), Permission("/a/a")]
    users = [User("user", "12345", base_path=serve.directory, permissions=rules)]
    with Dialogue(serve(users=users, forbid=["*.php"])) as client:
        client.logs_in()
        monkeypatch.setattr(LocalStorage, "lstat", counted(LocalStorage.lstat))
        monkeypatch.setattr(Names, "are_in", counted(Names.are_in))
        path = "/a" * DEPTH
        client.says(f"MKD {path}", 550)
        assert looks == [path, "/a"]
        (serve.directory / "a").mkdir()
        looks.clear()
        client.says(f"MKD {path}", 257)
        assert looks == [path, "/a"]
