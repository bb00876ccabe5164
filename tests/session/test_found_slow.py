"""Storage that was taken for fast and is found to be slow: it is used in threads for a while."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftpcluster.session.running_command import LONG
from ftpcluster.storage import local_files
from ftpcluster.storage.local import LocalStorage
from ftpcluster.storage.local_file import LocalFile
from tests.session.conftest import Maker
from tests.support.cluster import until
from tests.support.dialogue import Dialogue


class Threads:
    """Which threads call a function, and how long that takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> None:
        self.slow = 0.0
        self.names: list[str] = []
        real: Callable[..., Any] = getattr(kind, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.names.append(threading.current_thread().name)
            time.sleep(self.slow)
            return real(*args, **kwargs)

        monkeypatch.setattr(kind, name, call)

    def in_storage_threads(self) -> bool:
        return self.names[-1] == "ftpcluster-storage"


def test_a_call_that_takes_long_moves_a_directory_to_threads_and_back(
    serve: Maker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(local_files, "_FOUND", 1.0)
    calls = Threads(monkeypatch, LocalStorage, "stat")
    (tmp_path / "directory" / "file").write_bytes(b"content")
    with Dialogue(port := serve()) as client, Dialogue(port) as other:
        client.logs_in()
        other.logs_in()
        client.says("SIZE file", 213)
        assert not calls.in_storage_threads()
        calls.slow = LONG * 1.2
        client.says("SIZE file", 213)
        assert not calls.in_storage_threads()
        calls.slow = 0.0
        other.says("SIZE file", 213)  # a session that is logged in already
        assert calls.in_storage_threads()
        with Dialogue(port) as third:
            third.logs_in()
            third.says("SIZE file", 213)
            assert calls.in_storage_threads()
            assert third.downloads("RETR file") == b"content"

        def is_believed() -> bool:
            other.says("SIZE file", 213)
            return not calls.in_storage_threads()

        until(is_believed)
    told = re.findall(r"kept this process waiting for 0\.\d s for the storage at", caplog.text)
    assert len(told) == 1


def test_a_slow_step_of_a_transfer_is_found_too_and_its_end_is_waited_for_in_a_thread(
    serve: Maker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    writes = Threads(monkeypatch, LocalFile, "write")
    ends = Threads(monkeypatch, LocalFile, "finish")
    content = os.urandom(100_000)
    with Dialogue(serve()) as client:
        client.logs_in()
        client.uploads("STOR file", content)
        assert "ftpcluster" not in "".join(writes.names + ends.names)
        writes.slow = LONG * 1.2
        with client.passive() as data:
            client.says("STOR file", 150)
            data.sendall(content[:10])
            until(lambda: "is used in threads" in caplog.text)
            writes.slow = 0.0
            data.sendall(content[10:])
        client.expects(226)
        assert ends.names[-1].startswith("ftpcluster-files")
        client.uploads("STOR file", content)
        assert writes.in_storage_threads()
        assert ends.in_storage_threads()
    assert (tmp_path / "directory" / "file").read_bytes() == content
