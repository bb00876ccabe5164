"""Every client, every task, every way to connect; against ``run --workers 2``.

``CANNOT`` is what clients cannot do, and why; ``UNABLE`` are the names that they lose.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import Client, Site, Way
from tests.e2e.clients.libraries import Ftplib
from tests.e2e.clients.programs import Curl, Lftp, Ncftp, Rclone, Tnftp, Wget
from tests.e2e.clients.scripts import BasicFtp, NetFTP
from tests.e2e.clients.site import running_site
from tests.support.programs import drive
from tests.support.tree import ODD_NAMES, digest, digests, make_file, make_tree

CLIENTS: tuple[type[Client], ...] = (
    Lftp, Curl, Ncftp, Tnftp, Wget, Rclone, Ftplib, NetFTP, BasicFtp,
)  # fmt: skip
WAYS = (
    Way("passive"),
    Way("active"),
    Way("explicit TLS", tls="explicit"),
    Way("implicit TLS", tls="implicit"),
)
VERSATILE = (Lftp, Curl, NetFTP)
CONTROL_WAYS = (WAYS[0], WAYS[2])
"""Ways that differ where a task needs no data connection."""
LONG_WAYS = (WAYS[1], WAYS[3])
"""Ways on which as many as 200 files are mirrored."""
MORE_WAYS = (
    *WAYS,
    Way("active explicit TLS", tls="explicit", active=True),
    Way("active over IPv6", active=True, host="::1"),
)

_READS = "it only downloads"
_NO_TLS = "it has no TLS for FTP"
_PASSIVE = "it has passive mode only"
_WHOLE = "it transfers files whole"

CANNOT = {  # (client, task or a word of the way): why
    ("lftp", "IPv6"): "as its own address it names ::",
    ("curl", "mirror up"): "it knows no directories",
    ("curl", "mirror down"): "it knows no directories",
    ("ncftp", "TLS"): _NO_TLS,
    ("ncftp", "IPv6"): "it speaks IPv4 only",
    ("tnftp", "TLS"): "it has TLS for web pages only",
    ("wget", "upload"): _READS,
    ("wget", "resume an upload"): _READS,
    ("wget", "mirror up"): _READS,
    ("wget", "rename and delete"): _READS,
    ("rclone", "active"): _PASSIVE,
    ("rclone", "resume an upload"): _WHOLE,
    ("rclone", "resume a download"): _WHOLE,
    ("basic-ftp", "active"): _PASSIVE,
}

_ISSUE_10666 = (r"curl 7\.8[78]\.", "7.87 and 7.88 never begin TLS there (curl/curl#10666)")

CANNOT_IN_SOME_VERSIONS = {  # (client, way): what --version says then, and why
    ("curl", "active explicit TLS"): _ISSUE_10666,
}

UNABLE = {  # client: (names, why)
    "wget": ((" leading and trailing ",), "it takes the spaces off names in listings"),
}

MIB = 1 << 20
THERE = b"there already, " * 70_000
NAME = 'Grüße & "two words" it\'s #1 100%;[x].bin'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def remote(site: Site, tmp_path: Path) -> Iterator[Path]:
    """A directory of this test's own within the served one."""
    yield from directory_for_now(site.served / tmp_path.name)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The client's directory."""
    yield from directory_for_now(tmp_path / "home")


def directory_for_now(directory: Path) -> Iterator[Path]:
    """All tests together would leave a gigabyte behind."""
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def client(request: pytest.FixtureRequest, site: Site, remote: Path, home: Path) -> Client:
    kind, way = request.param
    if (kind.name, way.name) in CANNOT_IN_SOME_VERSIONS:
        versions, why = CANNOT_IN_SOME_VERSIONS[kind.name, way.name]
        if re.match(versions, drive(kind.name, "--version", home=home).stdout):
            pytest.skip(f"{kind.name}: {why}")
    made: Client = kind(site, way, home, remote.name)
    return made


def every_client(
    task: str, ways: tuple[Way, ...] = WAYS, *, slow: tuple[Way, ...] = ()
) -> pytest.MarkDecorator:
    """One test for each client and way; where it cannot be, a skipped one that says why.

    ``slow``: ways on which the task takes long, and shows nothing that shorter ones do not. Ways
    beside passive mode and explicit TLS are tried with ``VERSATILE`` clients, and slowly with all.
    """
    cases = []
    for kind in CLIENTS:
        for way in ways:
            words = (task, way.name, *way.name.split())
            reasons = [CANNOT[kind.name, word] for word in words if (kind.name, word) in CANNOT]
            marks = [pytest.mark.skip(reason=f"{kind.name}: {reasons[0]}")] if reasons else []
            is_slow = way in slow or not (way in CONTROL_WAYS or kind in VERSATILE)
            marks += [pytest.mark.slow] if is_slow else []
            cases.append(pytest.param((kind, way), id=f"{kind.name}, {way.name}", marks=marks))
    return pytest.mark.parametrize("client", cases, indirect=True)


def names_for(client: Client) -> list[str]:
    lost, _ = UNABLE.get(client.name, ((), ""))
    return [name for name in ODD_NAMES if name not in lost]


def make_mirror(client: Client, directory: Path) -> dict[str, str]:
    """Files for a client, beneath ``directory``; their digests."""
    files = 200 if client.way in LONG_WAYS else 40
    make_tree(directory, files)
    able = names_for(client)
    for path in [path for path in directory.rglob("*") if path.name in ODD_NAMES]:
        if path.name not in able:
            path.rename(path.with_name(f"instead of {ODD_NAMES.index(path.name)}"))
    if not client.mirrors_directories:
        for path in [path for path in directory.rglob("*") if path.is_file()]:
            path.rename(directory / path.name)
        for path in sorted(directory.rglob("*/"), reverse=True):
            path.rmdir()
    found = digests(directory)
    assert len(found) == files + 1
    return found


@every_client("list", MORE_WAYS)
def test_a_client_lists_odd_names(client: Client, remote: Path) -> None:
    names = names_for(client)
    (remote / "directory").mkdir()
    for name in names:
        (remote / "directory" / name).write_bytes(name.encode())
    assert sorted(client.names("directory")) == sorted(names)
    client.went_its_way()


@every_client("upload", MORE_WAYS)
def test_a_client_uploads_a_file_whole(client: Client, remote: Path, home: Path) -> None:
    make_file(home / NAME, 3 * MIB + 1)
    client.upload(NAME, NAME)
    assert digest(remote / NAME) == digest(home / NAME)
    client.went_its_way()


@every_client("download", MORE_WAYS)
def test_a_client_downloads_a_file_whole(client: Client, remote: Path, home: Path) -> None:
    make_file(remote / NAME, 3 * MIB + 1)
    client.download(NAME, NAME)
    assert digest(home / NAME) == digest(remote / NAME)
    client.went_its_way()


@every_client("resume an upload")
def test_a_client_resumes_an_upload(client: Client, remote: Path, home: Path) -> None:
    """What is there differs from what the client has: only what is missing may travel."""
    make_file(home / "file", 2 * MIB + 1)
    (remote / "file").write_bytes(THERE)
    client.resume_upload("file", "file")
    assert (remote / "file").read_bytes() == THERE + (home / "file").read_bytes()[len(THERE) :]
    client.went_its_way()


@every_client("resume a download")
def test_a_client_resumes_a_download(client: Client, remote: Path, home: Path) -> None:
    make_file(remote / "file", 2 * MIB + 1)
    (home / "file").write_bytes(THERE)
    client.resume_download("file", "file")
    assert (home / "file").read_bytes() == THERE + (remote / "file").read_bytes()[len(THERE) :]
    client.went_its_way()


@every_client("mirror up", slow=LONG_WAYS)
def test_a_client_mirrors_a_tree_up(client: Client, remote: Path, home: Path) -> None:
    expected = make_mirror(client, home / "here")
    client.mirror_up("here", "there")
    assert digests(remote / "there") == expected
    client.went_its_way()


@every_client("mirror down", slow=LONG_WAYS)
def test_a_client_mirrors_a_tree_down(client: Client, remote: Path, home: Path) -> None:
    expected = make_mirror(client, remote / "there")
    client.mirror_down("there", "here")
    assert digests(home / "here") == expected
    client.went_its_way()


@every_client("rename and delete", CONTROL_WAYS)
def test_a_client_renames_and_deletes_a_file(client: Client, remote: Path) -> None:
    (remote / NAME).write_bytes(b"content")
    client.rename(NAME, f"new {NAME}")
    assert [path.name for path in remote.iterdir()] == [f"new {NAME}"]
    client.delete(f"new {NAME}")
    assert list(remote.iterdir()) == []
