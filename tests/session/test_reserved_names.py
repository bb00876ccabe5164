"""Names of unfinished uploads: clients make none, and nothing else of such a name is removed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.session.conftest import making
from tests.support.dialogue import Dialogue
from tests.support.kinds import KINDS, Running, running

OLD = b"what was there before"
CONTENT = os.urandom(1_000_000)


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(request.param, tmp_path_factory.mktemp("atomic"), atomic_uploads=True) as server:
        yield server


@pytest.fixture
def root(shared: Running) -> Path:
    return shared.emptied()


@pytest.fixture
def client(shared: Running, root: Path) -> Iterator[Dialogue]:
    with Dialogue(shared.port) as dialogue:
        dialogue.logs_in()
        yield dialogue


@pytest.mark.parametrize("kind", ["a file", "a directory", "a link"])
def test_what_no_upload_left_is_not_removed_with_its_directory(
    client: Dialogue, root: Path, kind: str
) -> None:
    """A client may have stored it, before such names were refused, and been told 226."""
    (root / "directory").mkdir()
    path = root / "directory" / ".x.~ftpcluster-1a2b3c4d~"
    if kind == "a file":
        path.write_bytes(OLD)
    elif kind == "a directory":
        path.mkdir(0o1777)
    else:
        (root / "left").touch(0o1666)
        (root / "left").chmod(0o1666)
        path.symlink_to("../left")
    client.says("RMD directory", 550)
    assert os.path.lexists(path)


MAKING = (
    "STOR {}", "APPE {}", "RNTO {}", "MKD {}", "XMKD {}", "MKD {}/beneath", "STOR new/../{}",
    "STOU {}",
)  # fmt: skip


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_nobody_makes_a_name_that_an_unfinished_upload_could_have(
    kind: str, atomic: bool, tmp_path: Path
) -> None:
    """Nobody would see it, and it would go with its directory."""
    with running(kind, tmp_path, atomic_uploads=atomic) as server:
        (server.root / "file").write_bytes(OLD)
        with Dialogue(server.port) as client:
            client.logs_in()
            for name in (
                ".x.~ftpcluster-1a2b3c4d~",
                ".X.~FTPcluster-????.txt~",
                "..~ftpcluster-12345678~",
            ):
                for command in MAKING:
                    with client.passive():
                        client.says("RNFR file", 350)
                        client.says(command.format(name), 553)
            assert os.listdir(server.root) == ["file"]
            for name in (
                "x.~ftpcluster-1a2b3c4d~",
                ".x.~ftpcluster-1a2b~",
                ".x.~ftpcluster-1a2b3c4d",
            ):
                client.uploads(f"STOR {name}", OLD)
            stored = {"x.~ftpcluster-1a2b3c4d~", ".x.~ftpcluster-1a2b~", ".x.~ftpcluster-1a2b3c4d"}
            lines = client.downloads("MLSD").decode().splitlines()
            assert {line.split(" ", 1)[1] for line in lines} == {"file", *stored}


def test_nobody_links_to_such_a_name(tmp_path: Path) -> None:
    with making("asyncio", tmp_path) as serve:
        port = serve.with_settings(allow_symlinks=True)
        (tmp_path / "file").touch()
        with Dialogue(port) as client:
            client.logs_in()
            client.says("SITE SYMLINK file .x.~ftpcluster-1a2b3c4d~", 553)
            client.says("SITE SYMLINK file link", 200)


def test_what_is_whole_has_no_mark_of_what_is_not(client: Dialogue, root: Path) -> None:
    """A file that was stored is never taken for a leftover, whatever becomes of its name."""
    (root / "directory").mkdir()
    (root / "directory/old").write_bytes(OLD)
    (root / "directory/old").chmod(0o640)
    client.says("CWD directory", 250)
    for command in ("STOR new", "STOR old", "STOU"):
        client.uploads(command, CONTENT)
    stored = list((root / "directory").iterdir())
    assert not any(path.stat().st_mode & stat.S_ISVTX for path in stored)
    for path in stored:
        path.rename(path.with_name(f".{path.name}.~ftpcluster-1a2b3c4d~"))
    client.says("RMD /directory", 550)
    assert len(os.listdir(root / "directory")) == 3
