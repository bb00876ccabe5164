"""Clients that vanish in a transfer (faults.md, “Data”, row 3): by a reset, or half-open, which is
silence. “426 or silence, resources back ≤ ``stalled`` + 2 s, slot released”.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import open_files, until
from tests.support.dialogue import Dialogue, reset
from tests.support.kinds import KINDS, Running, running

STALLED = 4
COMMANDS = ("RETR big", "STOR file", "APPE file", "STOU", "LIST many", "MLSD many", "NLST many")


@pytest.fixture(scope="module", params=KINDS)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A server of which one user may have as many sessions as there are commands."""
    directory = tmp_path_factory.mktemp("vanishing")
    options: dict[str, Any] = {"socket_timeout": STALLED, "idle_timeout": 1}
    if request.param == "cluster":
        options = {"text": f"[timeouts]\nstalled = {STALLED}\nidle = 1"}
    with running(request.param, directory, connections=len(COMMANDS), **options) as server:
        yield server


@pytest.fixture
def root(shared: Running, many_files: Path) -> Iterator[Path]:
    """A file, and a directory, that are more than all that kernel and client hold unread."""
    root = shared.emptied()
    with (root / "big").open("wb") as file:
        file.truncate(1 << 30)
    directory = many_files.rename(root / "many")
    yield root
    directory.rename(many_files)


def held(server: Running) -> list[str]:
    """The served files and directories that its processes have open, but for the root."""
    pids = [os.getpid()] if server.cluster is None else server.cluster.workers()
    return [name for pid in pids for name in open_files(pid) if name.startswith(f"{server.root}/")]


def connections(server: Running) -> int:
    """The sockets of its processes; the tests' own among them where it is this process."""
    pids = [os.getpid()] if server.cluster is None else server.cluster.workers()
    return sum(name.startswith("socket:") for pid in pids for name in open_files(pid))


def has_all_slots(server: Running) -> bool:
    """Whether the user may have as many sessions as ever."""
    with contextlib.ExitStack() as stack:
        for _ in COMMANDS:
            client = stack.enter_context(Dialogue(server.port))
            client.says("USER user", 331)
            client.send("PASS 12345")
            code, text = client.reply()
            assert code in (230, 530), text
            if code == 530:
                return False
    return True


def begins(client: Dialogue, command: str, stack: contextlib.ExitStack) -> Any:
    """A transfer in the middle, with data on its way."""
    data = stack.enter_context(client.begins(command, window=4096))
    if command.startswith(("STOR", "APPE", "STOU")):
        data.sendall(bytes(300_000))
    else:
        assert data.recv(1)
    return data


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("which", ["control", "data and control"])
def test_a_client_that_resets_gives_all_back(
    shared: Running, root: Path, command: str, which: str
) -> None:
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(Dialogue(shared.port))
        client.logs_in()
        data = begins(client, command, stack)
        until(lambda: held(shared))
        if which == "data and control":
            reset(data)
        reset(client.sock)
        until(lambda: not held(shared))
        until(lambda: has_all_slots(shared))
    assert not held(shared)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_transfer_whose_data_connection_is_reset_is_426_and_the_session_lives(
    shared: Running, root: Path, command: str
) -> None:
    with Dialogue(shared.port) as client, contextlib.ExitStack() as stack:
        client.logs_in()
        reset(begins(client, command, stack))
        client.expects(426)
        until(lambda: not held(shared))  # on a busy machine by a thread, as of slow storage
        client.uploads("STOR next", b"content")
        assert client.downloads("RETR next") == b"content"
    until(lambda: has_all_slots(shared))


def test_clients_that_fall_silent_give_all_back(shared: Running, root: Path) -> None:
    """Half-open: no packet comes any more, neither data nor an end. Files and data connections are
    free when the transfers have stalled, the slots when the sessions are idle."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Dialogue(shared.port)) for _ in COMMANDS]
        for client, command in zip(clients, COMMANDS, strict=True):
            client.logs_in()
            begins(client, command, stack)
        begin = time.monotonic()
        before = connections(shared)
        assert len(held(shared)) >= len(COMMANDS)
        until(lambda: not held(shared) and connections(shared) <= before - len(COMMANDS))
        assert time.monotonic() - begin > STALLED / 2, "they had not stalled yet"
        for client in clients:
            client.expects(426)
            client.expects(421)
            assert client.is_closed()
        until(lambda: has_all_slots(shared))
