"""RETR, STOR and their kin over every kind of server."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.dialogue import Dialogue


def test_a_file_comes_back_as_it_was_stored(port: int, root: Path) -> None:
    content = os.urandom(3_000_000)
    with Dialogue(port) as client:
        client.logs_in()
        client.uploads("STOR file", content)
        assert (root / "file").read_bytes() == content
        assert client.downloads("RETR file") == content
        client.says("QUIT", 221)
        assert client.is_closed()
