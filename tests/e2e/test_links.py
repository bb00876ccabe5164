"""Clients that meet links, and names of another directory: they touch what they were told to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import Site, Way
from tests.e2e.clients.programs import Curl, Lftp, Ncftp, Rclone, Tnftp, Wget
from tests.e2e.clients.site import running_site

PRECIOUS = b"precious" * 100
LINKS = {
    "dangling": "nowhere",
    "outside": "/etc",
    "loop": "loop",
    "dir": "../kept",
    "self": ".",
    "file": "../kept/file",
    "sub/up": "..",
}
PASSIVE = Way("passive")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def remote(site: Site, tmp_path: Path) -> Path:
    """A directory with a tree that has links in it, beside "kept", where some of them lead."""
    directory = site.served / tmp_path.name
    (directory / "kept").mkdir(parents=True)
    (directory / "kept/file").write_bytes(PRECIOUS)
    (directory / "tree/sub").mkdir(parents=True)
    for name in ("plain", "sub/inner"):
        (directory / "tree" / name).write_text(name)
    for name, target in LINKS.items():
        (directory / "tree" / name).symlink_to(target)
    return directory


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "home"
    directory.mkdir()
    return directory


def lftp_removes(site: Site, home: Path, remote: Path) -> None:
    Lftp(site, PASSIVE, home, remote.name).commands("rm -r tree")


def rclone_purges(site: Site, home: Path, remote: Path) -> None:
    client = Rclone(site, PASSIVE, home, remote.name)
    client.rclone("purge", client.at("tree"))


@pytest.mark.parametrize("removes", [lftp_removes, rclone_purges])
def test_a_tree_is_removed_with_its_links_and_nothing_else(
    site: Site, home: Path, remote: Path, removes: type
) -> None:
    removes(site, home, remote)
    assert os.listdir(remote) == ["kept"]
    assert (remote / "kept/file").read_bytes() == PRECIOUS


def test_lftp_mirrors_what_is_no_link_and_comes_to_an_end(
    site: Site, home: Path, remote: Path
) -> None:
    Lftp(site, PASSIVE, home, remote.name).mirror_down("tree", "here")
    found = {str(path.relative_to(home / "here")) for path in (home / "here").rglob("*")}
    assert found == {"plain", "sub", "sub/inner"}


def test_lftp_lists_links_as_links(site: Site, home: Path, remote: Path) -> None:
    names = Lftp(site, PASSIVE, home, remote.name).names("tree")
    assert {"dir@", "file@", "dangling@", "outside@", "sub/", "plain"} <= set(names)


def test_rclone_copies_files_also_by_links_and_says_what_it_could_not(
    site: Site, home: Path, remote: Path
) -> None:
    client = Rclone(site, PASSIVE, home, remote.name)
    with pytest.raises(AssertionError) as caught:
        client.rclone("copy", "--retries=1", client.at("tree"), "here")
    assert "dir: Failed to copy" in str(caught.value)
    here = home / "here"
    assert (here / "plain").read_text() == "plain"
    assert (here / "sub/inner").read_text() == "sub/inner"
    assert (here / "file").read_bytes() == PRECIOUS
    assert not (here / "dir").exists()


def test_ncftp_fetches_a_tree_and_comes_to_an_end(site: Site, home: Path, remote: Path) -> None:
    Ncftp(site, PASSIVE, home, remote.name).mirror_down("tree", "here")
    assert (home / "here/sub/inner").read_text() == "sub/inner"
    assert not (home / "here/dir").exists()


def test_wget_fetches_a_tree_and_comes_to_an_end(site: Site, home: Path, remote: Path) -> None:
    Wget(site, PASSIVE, home, remote.name).mirror_down("tree", "here")
    assert (home / "here/sub/inner").read_text() == "sub/inner"


def test_curl_lists_links_with_l(site: Site, home: Path, remote: Path) -> None:
    client = Curl(site, PASSIVE, home, remote.name)
    lines = client.curl(client.url("tree") + "/").splitlines()
    found = {re.split(r" (?=\S+ -> )", line)[1] for line in lines if line.startswith("l")}
    assert {f"{name} -> {target}" for name, target in LINKS.items() if "/" not in name} == found


@pytest.mark.parametrize("command", ["mdelete sub", "mdelete sub/*"])
def test_tnftp_deletes_in_the_directory_that_it_was_told(
    site: Site, home: Path, remote: Path, command: str
) -> None:
    (remote / "sub").mkdir()
    for name in ("f", "other", "sub/f"):
        (remote / name).write_text(name)
    Tnftp(site, PASSIVE, home, remote.name).commands("glob", command)
    assert (remote / "f").read_text() == "f"
    assert os.listdir(remote / "sub") == []


@pytest.mark.parametrize("command", ["mget sub", "mget sub/*"])
def test_tnftp_fetches_from_the_directory_that_it_was_told(
    site: Site, home: Path, remote: Path, command: str
) -> None:
    (remote / "sub").mkdir()
    for name in ("f", "sub/f"):
        (remote / name).write_text(name)
    (home / "sub").mkdir()
    Tnftp(site, PASSIVE, home, remote.name).commands("glob", command)
    assert (home / "sub/f").read_text() == "sub/f"
    assert not (home / "f").exists()
