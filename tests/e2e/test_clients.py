"""The clients that people use, against ``run --workers 2``."""

from __future__ import annotations

import ftplib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.dialogue import Dialogue
from tests.support.programs import attempt, drive, need
from tests.support.tree import digest, digests, make_file, make_tree

ACCOUNT = "user:12345"
MIB = 1 << 20
ODD_NAME = 'Grüße & "two words" it\'s #1.bin'
HOSTS = ("127.0.0.1", "::1")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that is served."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def cluster(served: Path) -> Iterator[Cluster]:
    arguments = ("--root", str(served), "--user", ACCOUNT, "--anonymous", "--writable")
    with Cluster("--workers", "2", *arguments) as cluster:
        yield cluster
    assert "Traceback" not in cluster.log, cluster.log


@pytest.fixture
def remote(served: Path, tmp_path: Path) -> Path:
    """A directory of this test's own within the served one."""
    directory = served / tmp_path.name
    directory.mkdir()
    return directory


def url(cluster: Cluster, remote: Path, name: str, host: str = "127.0.0.1") -> str:
    where = f"[{host}]" if ":" in host else host
    return f"ftp://{ACCOUNT}@{where}:{cluster.port}/{remote.name}/{name}"


def lftp(cluster: Cluster, home: Path, *commands: str, host: str = "127.0.0.1") -> None:
    where = f"[{host}]" if ":" in host else host
    settings = ("set cmd:fail-exit yes", "set ftp:ssl-allow no", "set net:max-retries 2")
    opening = f"open -u {ACCOUNT.replace(':', ',')} ftp://{where}:{cluster.port}"
    drive("lftp", "--norc", "-c", "; ".join((*settings, opening, *commands)), home=home)


def test_lftp_mirrors_a_tree_of_500_files_down_and_up(
    cluster: Cluster, remote: Path, tmp_path: Path
) -> None:
    make_tree(remote / "tree", 500)
    there = digests(remote / "tree")
    assert len(there) == 501
    lftp(cluster, tmp_path, f"mirror --parallel=4 '{remote.name}/tree' down")
    assert digests(tmp_path / "down") == there
    lftp(cluster, tmp_path, f"mirror -R --parallel=4 down '{remote.name}/up'")
    assert digests(remote / "up") == there


@pytest.mark.parametrize("size", [96, pytest.param(1024, marks=pytest.mark.slow)])
def test_a_large_file_comes_through_lftp_down_and_up(
    cluster: Cluster, remote: Path, tmp_path: Path, size: int
) -> None:
    make_file(remote / "big", size * MIB)
    expected = digest(remote / "big")
    lftp(cluster, tmp_path, f"get '{remote.name}/big' -o down")
    assert digest(tmp_path / "down") == expected
    (remote / "big").unlink()
    lftp(cluster, tmp_path, f"put down -o '{remote.name}/up'")
    (tmp_path / "down").unlink()
    assert digest(remote / "up") == expected
    (remote / "up").unlink()


@pytest.mark.parametrize("host", HOSTS)
def test_lftp_resumes_a_download_and_an_upload(
    cluster: Cluster, remote: Path, tmp_path: Path, host: str
) -> None:
    make_file(remote / "whole", 3 * MIB + 1)
    content = (remote / "whole").read_bytes()
    (tmp_path / "down").write_bytes(content[:1_000_000])
    lftp(cluster, tmp_path, f"reget '{remote.name}/whole' -o down", host=host)
    assert (tmp_path / "down").read_bytes() == content
    (remote / "up").write_bytes(content[:2_000_000])
    lftp(cluster, tmp_path, f"put -c down -o '{remote.name}/up'", host=host)
    assert (remote / "up").read_bytes() == content


@pytest.mark.parametrize("method", [(), ("--ftp-method", "singlecwd"), ("--disable-epsv",)])
@pytest.mark.parametrize("host", HOSTS)
def test_curl_uploads_lists_and_downloads(
    cluster: Cluster, remote: Path, tmp_path: Path, host: str, method: tuple[str, ...]
) -> None:
    make_file(tmp_path / "up", MIB + 3)
    where = url(cluster, remote, "new%20directory/a%20file", host)
    curl = ("--silent", "--show-error", "--globoff", *method)
    drive("curl", *curl, "--ftp-create-dirs", "-T", "up", where, home=tmp_path)
    assert digest(remote / "new directory" / "a file") == digest(tmp_path / "up")
    drive("curl", *curl, "-o", "down", where, home=tmp_path)
    assert digest(tmp_path / "down") == digest(tmp_path / "up")
    listing = drive("curl", *curl, where.removesuffix("a%20file"), home=tmp_path).stdout
    assert listing.splitlines()[0].endswith(" a file")


@pytest.mark.parametrize("host", HOSTS)
def test_curl_resumes_a_download_and_an_upload(
    cluster: Cluster, remote: Path, tmp_path: Path, host: str
) -> None:
    make_file(remote / "whole", 3 * MIB + 1)
    content = (remote / "whole").read_bytes()
    curl = ("--silent", "--show-error", "--globoff", "--continue-at", "-")
    (tmp_path / "down").write_bytes(content[:1_000_000])
    drive("curl", *curl, "-o", "down", url(cluster, remote, "whole", host), home=tmp_path)
    assert (tmp_path / "down").read_bytes() == content
    (remote / "up").write_bytes(content[:2_000_000])
    drive("curl", *curl, "-T", "down", url(cluster, remote, "up", host), home=tmp_path)
    assert (remote / "up").read_bytes() == content


def test_curl_is_told_that_a_file_does_not_exist(
    cluster: Cluster, remote: Path, tmp_path: Path
) -> None:
    command = (need("curl"), "--silent", url(cluster, remote, "nothing"))
    assert attempt(command, home=tmp_path).returncode == 78  # CURLE_REMOTE_FILE_NOT_FOUND


def test_ncftp_uploads_and_downloads_files_and_directories(
    cluster: Cluster, remote: Path, tmp_path: Path
) -> None:
    make_file(tmp_path / ODD_NAME, MIB + 5)
    make_tree(tmp_path / "tree", 40)
    # ncftp quotes nothing in the listings that it asks for, so directories go without odd names
    for path in sorted(tmp_path.glob("tree/*/*/*")):
        path.rename(path.parent / f"file-{abs(hash(path.name))}")
    account = ("-u", "user", "-p", "12345", "-P", str(cluster.port))
    drive(
        "ncftpput", *account, "-R", "127.0.0.1", f"/{remote.name}", ODD_NAME, "tree", home=tmp_path
    )
    assert digest(remote / ODD_NAME) == digest(tmp_path / ODD_NAME)
    assert digests(remote / "tree") == digests(tmp_path / "tree")
    (tmp_path / "down").mkdir()
    sources = (f"/{remote.name}/{ODD_NAME}", f"/{remote.name}/tree")
    drive("ncftpget", *account, "-R", "127.0.0.1", "down", *sources, home=tmp_path)
    assert digests(tmp_path / "down") == digests(remote)


@pytest.mark.parametrize("host", HOSTS)
def test_tnftp_uploads_and_downloads(
    cluster: Cluster, remote: Path, tmp_path: Path, host: str
) -> None:
    make_file(tmp_path / "up file", MIB + 7)
    script = f"""open {host} {cluster.port}
        user user 12345
        cd {remote.name}
        put "up file" "a file"
        get "a file" "down file"
        rename "a file" "another one"
        mkdir directory
        dir
        bye
    """
    drive("tnftp", "-n", "-v", "-i", home=tmp_path, stdin=script)
    assert digest(tmp_path / "down file") == digest(tmp_path / "up file")
    assert digest(remote / "another one") == digest(tmp_path / "up file")
    assert (remote / "directory").is_dir()


@pytest.mark.parametrize("host", HOSTS)
def test_wget_downloads_a_directory_and_resumes_a_file(
    cluster: Cluster, remote: Path, tmp_path: Path, host: str
) -> None:
    make_file(remote / "a file", MIB + 11)
    (remote / "below").mkdir()
    make_file(remote / "below" / "tiny", 11)
    flat = ("-q", "-r", "-nH", "--cut-dirs=1", "-P", "down")
    drive("wget", *flat, url(cluster, remote, "", host), home=tmp_path)
    assert digests(tmp_path / "down") == digests(remote)
    whole = (remote / "a file").read_bytes()
    (tmp_path / "part").write_bytes(whole[:1000])
    drive("wget", "-q", "-c", "-O", "part", url(cluster, remote, "a%20file", host), home=tmp_path)
    assert (tmp_path / "part").read_bytes() == whole


def test_rclone_copies_a_tree_and_finds_no_difference(
    cluster: Cluster, remote: Path, tmp_path: Path
) -> None:
    make_tree(tmp_path / "tree", 60)
    for path in tmp_path.glob("tree/*/*/* "):
        path.unlink()  # rclone itself writes another character for a space at the end
    word = drive("rclone", "obscure", "12345", home=tmp_path).stdout.strip()
    where = f":ftp,host=127.0.0.1,port={cluster.port},user=user,pass={word}:/{remote.name}/tree"
    drive("rclone", "copy", "tree", where, home=tmp_path)
    assert digests(remote / "tree") == digests(tmp_path / "tree")
    drive("rclone", "check", "--download", "tree", where, home=tmp_path)


@pytest.mark.parametrize("host", HOSTS)
def test_ftplib_uploads_lists_and_downloads(cluster: Cluster, remote: Path, host: str) -> None:
    content = os.urandom(MIB + 13)
    with ftplib.FTP(encoding="utf-8") as client:
        client.connect(host, cluster.port, timeout=20)
        client.login("user", "12345")
        client.cwd(remote.name)
        client.storbinary(f"STOR {ODD_NAME}", io.BytesIO(content))
        assert (remote / ODD_NAME).read_bytes() == content
        assert client.size(ODD_NAME) == len(content)
        assert client.nlst() == [ODD_NAME]
        facts = dict(client.mlsd())
        assert (facts[ODD_NAME]["type"], facts[ODD_NAME]["size"]) == ("file", str(len(content)))
        received = io.BytesIO()
        client.retrbinary(f"RETR {ODD_NAME}", received.write)
        assert received.getvalue() == content
        received = io.BytesIO()
        client.retrbinary(f"RETR {ODD_NAME}", received.write, rest=1_000_000)
        assert received.getvalue() == content[1_000_000:]
        client.delete(ODD_NAME)
        assert list(remote.iterdir()) == []


def test_both_workers_get_their_share_of_the_sessions(cluster: Cluster) -> None:
    clients = [Dialogue(cluster.port, HOSTS[number % 2]) for number in range(6)]
    try:
        serving = [cluster.worker_of(client.sock) for client in clients]
    finally:
        for client in clients:
            client.sock.close()
    assert sorted(serving.count(worker) for worker in cluster.workers()) == [3, 3]
