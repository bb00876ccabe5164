"""Stock clients on a server whose data connections have to resume the session, for many files."""

from __future__ import annotations

import io
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import PASSWORD, USER, Client, Site, Way
from tests.e2e.clients.libraries import ResumingFTP
from tests.e2e.clients.programs import Curl, Lftp, Rclone
from tests.e2e.clients.scripts import BasicFtp
from tests.e2e.clients.site import running_site
from tests.support.tree import digests

FILES = 20
WAYS = pytest.mark.parametrize(
    "way",
    [Way("explicit TLS", tls="explicit"), Way("implicit TLS", tls="implicit")],
    ids=lambda way: way.name,
)
REQUIRED = {"FTPCLUSTER__TLS__REQUIRE_SESSION_REUSE": "true"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site"), env=REQUIRED) as site:
        yield site


@pytest.fixture
def home(tmp_path: Path, site: Site) -> Path:
    """A client's directory with files, which the server has in one of the same name."""
    (tmp_path / "files").mkdir()
    for number in range(FILES):
        (tmp_path / "files" / f"{number}").write_bytes(os.urandom(10_000))
    return tmp_path


@WAYS
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl_uses_each_ticket_once(way: Way, version: str, site: Site, home: Path) -> None:
    client = Curl(site, way, home, ".")
    where = f"curl-{way.tls}-{version}"
    versions = (f"--tlsv{version}", "--tls-max", version, "--ftp-create-dirs")
    names = ",".join(map(str, range(FILES)))
    url = client.url().rstrip("/") + f"/{where}/"
    client.curl("--no-globoff", *versions, "--upload-file", f"files/{{{names}}}", url)
    assert digests(site.served / where) == digests(home / "files")
    (home / "copies").mkdir()
    client.curl("--no-globoff", *versions, "--output", "copies/#1", f"{url}{{{names}}}")
    assert digests(home / "copies") == digests(home / "files")
    assert client.trace.count("Connected to 127.0.0.1") == 2 * (FILES + 1), client.trace


@WAYS
@pytest.mark.parametrize("kind", [Lftp, BasicFtp], ids=lambda kind: kind.name)
def test_others_resume_for_each_file(kind: type[Client], way: Way, site: Site, home: Path) -> None:
    client = kind(site, way, home, ".")
    where = f"{kind.name}-{way.tls}"
    client.mirror_up("files", where)
    assert digests(site.served / where) == digests(home / "files")
    client.mirror_down(where, "copies")
    assert digests(home / "copies") == digests(home / "files")


@WAYS
def test_rclone_resumes_where_it_has_one_connection(way: Way, site: Site, home: Path) -> None:
    """With more of them it resumes the sessions of others, which is refused."""
    client = Rclone(site, way, home, ".")
    one = ("--ftp-concurrency=1", "--transfers=1", "--checkers=1", "--retries=1")
    client.rclone("copy", "files", client.at(f"rclone-{way.tls}"), *one)
    assert digests(site.served / f"rclone-{way.tls}") == digests(home / "files")


@WAYS
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_ftplib_resumes_for_each_file(way: Way, version: ssl.TLSVersion, site: Site) -> None:
    context = ssl.create_default_context(cafile=str(site.authority))
    context.minimum_version = context.maximum_version = version
    content = os.urandom(100_000)
    with ResumingFTP(context, implicit=way.tls == "implicit") as client:
        client.connect(way.host, site.implicit_port if way.tls == "implicit" else site.port)
        client.login(USER, PASSWORD)
        client.prot_p()
        for number in range(FILES):
            name = f"ftplib-{way.tls}-{version}-{number}"
            client.storbinary(f"STOR {name}", io.BytesIO(content))
            received = io.BytesIO()
            client.retrbinary(f"RETR {name}", received.write)
            assert received.getvalue() == (site.served / name).read_bytes() == content
        assert client.reused == [True] * 2 * FILES
