"""SITE and what stands behind it (protocol.md, “Verbs”: “SITE CHMOD, SITE UTIME, SITE SYMLINK (off
by default), SITE HELP”)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ftpcluster import Permission, User
from tests.session.conftest import Maker
from tests.support.dialogue import Dialogue

NEW_YEAR = 1577836800  # 2020-01-01 00:00:00 UTC


def mode(path: Path) -> int:
    """All bits of it, also those that SITE CHMOD must not set."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def file(root: Path) -> Path:
    path = root / "file"
    path.write_bytes(b"content")
    path.chmod(0o640)
    return path


# ---------------------------------------------------------------------- SITE itself


@pytest.mark.parametrize("line", ["SITE HELP", "site help"])
def test_help_needs_no_login(port: int, line: str) -> None:
    """“Before login everything is 530 except … SITE HELP”"""
    with Dialogue(port) as client:
        text = client.says(line, 214)
    assert all(name in text for name in ("CHMOD", "UTIME", "SYMLINK", "HELP")), text


@pytest.mark.parametrize(
    "line",
    [
        "SITE CHMOD 777 file",
        "SITE CHMOD",
        "SITE UTIME 20200101000000 file",
        "SITE SYMLINK file link",
        "SITE FOO",
        "SITE",
    ],
)
def test_all_else_needs_a_login(port: int, file: Path, line: str) -> None:
    """“Before login everything is 530 except … SITE HELP”"""
    with Dialogue(port) as client:
        client.says(line, 530)
        client.says("USER user", 331)
        client.says(line, 530)
    assert mode(file) == 0o640


@pytest.mark.parametrize("line", ["SITE", "SITE "])
def test_site_alone_is_a_syntax_error(client: Dialogue, line: str) -> None:
    """“501 where one is missing: … SITE, SITE CHMOD”"""
    client.says(line, 501)


@pytest.mark.parametrize(
    "line", ["SITE FOO", "SITE FOO bar", "SITE CHMODE 777 file", "SITE EXEC ls"]
)
def test_an_unknown_site_command_is_an_unknown_parameter(
    client: Dialogue, file: Path, line: str
) -> None:
    """“unknown parameter 504”"""
    client.says(line, 504)


def test_site_help_is_for_users_too(client: Dialogue) -> None:
    """“SITE HELP”"""
    assert "CHMOD" in client.says("SITE HELP", 214)


# ---------------------------------------------------------------------- SITE CHMOD


@pytest.mark.parametrize(
    ("digits", "expected"),
    [("777", 0o777), ("0600", 0o600), ("000", 0), ("0", 0), ("44", 0o44), ("0755", 0o755)],
)
def test_chmod_sets_permission_bits(
    client: Dialogue, file: Path, digits: str, expected: int
) -> None:
    """“SITE CHMOD octal only.”"""
    client.says(f"SITE CHMOD {digits} file", 200)
    assert mode(file) == expected
    file.chmod(0o644)


def test_chmod_is_taken_in_any_case_and_for_any_name(client: Dialogue, root: Path) -> None:
    """“Verbs in any case.”; a name is all that stands behind the mode."""
    (root / "directory").mkdir(0o755)
    for name in ("two words", " leading", "644 x", "directory/-dash"):
        (root / name).write_bytes(b"")
        client.says(f"site chmod 604 {name}", 200)
        assert mode(root / name) == 0o604
    client.says("Site Chmod 711 directory", 200)
    assert mode(root / "directory") == 0o711


@pytest.mark.parametrize(
    "argument",
    [
        "",
        " ",
        "644",
        "644 ",
        "file",
        "u+x file",
        "a=rw file",
        "888 file",
        "1777 file",
        "4755 file",
        "7777 file",
        "00644 file",
        "-644 file",
        "0o644 file",
        "64x file",
        "٦٤٤ file",
    ],
)
def test_what_is_no_octal_mode_is_refused(client: Dialogue, file: Path, argument: str) -> None:
    """“SITE CHMOD octal only.”, and 777 at most: set-user-ID and its like are not for clients."""
    client.says(f"SITE CHMOD {argument}", 501)
    assert mode(file) == 0o640


@pytest.mark.parametrize("name", ["missing", "missing/file", "file/x"])
def test_chmod_of_what_is_missing_is_refused(client: Dialogue, file: Path, name: str) -> None:
    """“a missing path 550”"""
    client.says(f"SITE CHMOD 600 {name}", 550)


@pytest.mark.parametrize("absolute", [True, False])
def test_no_link_leads_chmod_or_utime_out(
    client: Dialogue, root: Path, tmp_path: Path, absolute: bool
) -> None:
    """Issue 2: “storage contained beneath the root”: links to elsewhere lead nowhere."""
    outside = tmp_path / "outside"
    outside.mkdir(0o700)
    (outside / "file").write_bytes(b"")
    (outside / "file").chmod(0o600)
    os.utime(outside / "file", (1, 1))
    target = outside if absolute else Path(os.path.relpath(outside, root))
    (root / "link").symlink_to(target / "file")
    (root / "directory").symlink_to(target)
    for name in ("link", "directory/file", "directory", "../outside/file"):
        client.says(f"SITE CHMOD 777 {name}", 550)
        client.says(f"SITE UTIME 20200101000000 {name}", 550)
        client.says(f"MFMT 20200101000000 {name}", 550)
    assert (mode(outside), mode(outside / "file")) == (0o700, 0o600)
    assert (outside / "file").stat().st_mtime == 1


def test_chmod_follows_a_link_that_stays_within(client: Dialogue, file: Path) -> None:
    """“SITE CHMOD”: as chmod(1) does."""
    (file.parent / "link").symlink_to("file")
    client.says("SITE CHMOD 604 link", 200)
    assert mode(file) == 0o604


# ---------------------------------------------------------------------- SITE UTIME


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("20200101000000 file", NEW_YEAR),
        ("202001010000 file", NEW_YEAR),
        ("20200101000059 file", NEW_YEAR + 59),
        ("202001010001 file", NEW_YEAR + 60),
        ("20200229120000 file", NEW_YEAR + 59 * 86400 + 43200),
        ("file 20100101000000 20200101000000 20110101000000 UTC", NEW_YEAR),
    ],
)
def test_utime_sets_the_time_of_the_last_change(
    client: Dialogue, file: Path, argument: str, expected: int
) -> None:
    """“SITE UTIME”: both forms that clients send, in UTC."""
    client.says(f"SITE UTIME {argument}", 200)
    assert file.stat().st_mtime == expected
    client.says("MDTM file", 213)


def test_utime_takes_names_with_spaces(client: Dialogue, root: Path) -> None:
    """“SITE UTIME”: in both forms."""
    for name in ("two words", "20200101000000 x"):
        (root / name).write_bytes(b"")
        client.says(f"SITE UTIME 20200101000000 {name}", 200)
        assert (root / name).stat().st_mtime == NEW_YEAR
    os.utime(root / "two words")
    times = "20100101000000 20200101000000 20110101000000"
    client.says(f"SITE UTIME two words {times} UTC", 200)
    assert (root / "two words").stat().st_mtime == NEW_YEAR


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "file",
        "20200101000000",
        "20200101000000 ",
        "20201301000000 file",
        "20200230000000 file",
        "20200101240000 file",
        "20200101006000 file",
        "2020010100 file",
        "20200101 file",
        "2020-01-01 file",
        "yesterday file",
        "٢٠٢٠٠١٠١٠٠٠٠٠٠ file",
        "file 20100101000000 20201301000000 20110101000000 UTC",
    ],
)
def test_a_bad_time_is_a_syntax_error(client: Dialogue, file: Path, argument: str) -> None:
    """“bad time 501”"""
    before = file.stat().st_mtime_ns
    client.says(f"SITE UTIME {argument}", 501)
    assert file.stat().st_mtime_ns == before


def test_utime_of_what_is_missing_is_refused(client: Dialogue, root: Path) -> None:
    """“a missing path 550”"""
    client.says("SITE UTIME 20200101000000 missing", 550)


# ---------------------------------------------------------------------- permissions


def test_who_may_only_read_changes_nothing(port: int, file: Path) -> None:
    """library.md row 7: what changes a file needs the right to write."""
    before = file.stat()
    with Dialogue(port) as client:
        client.logs_in("anonymous", "me@example.com")
        client.says("SITE CHMOD 777 file", 550)
        client.says("SITE UTIME 20200101000000 file", 550)
        client.says("SITE UTIME file 20100101000000 20200101000000 20110101000000 UTC", 550)
        client.says("SITE SYMLINK file link", 502, 550)
    after = file.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert os.listdir(file.parent) == ["file"]


# ---------------------------------------------------------------------- SITE SYMLINK


@pytest.mark.parametrize("argument", ["file link", "/etc/passwd link", '"file" "link"'])
def test_links_are_not_made_unless_permitted(client: Dialogue, file: Path, argument: str) -> None:
    """“SITE SYMLINK (off by default)”: known, but not implemented (502)."""
    client.says(f"SITE SYMLINK {argument}", 502)
    assert os.listdir(file.parent) == ["file"]


@pytest.fixture
def linking(serve: Maker) -> int:
    """The port of a server that permits links."""
    (serve.directory / "directory/deep").mkdir(parents=True)
    (serve.directory / "file").write_bytes(b"content")
    (serve.directory / "two words").write_bytes(b"words")
    return serve.with_settings(allow_symlinks=True)


@pytest.mark.parametrize(
    ("argument", "link", "content"),
    [
        ("file link", "link", b"content"),
        ("/file link", "link", b"content"),
        ("file directory/deep/link", "directory/deep/link", b"content"),
        ("/directory/../file /directory/link", "directory/link", b"content"),
        ('"two words" link', "link", b"words"),
        ('"two words" "a link"', "a link", b"words"),
        ('file "a link"', "a link", b"content"),
    ],
)
def test_a_link_leads_to_its_target(
    serve: Maker, linking: int, argument: str, link: str, content: bytes
) -> None:
    """“SITE SYMLINK”: paths as the client sees them, from whatever directory the link is in."""
    with Dialogue(linking) as client:
        client.logs_in()
        client.says(f"SITE SYMLINK {argument}", 200)
        assert (serve.directory / link).is_symlink()
        assert client.downloads(f"RETR /{link}") == content


def test_a_link_is_made_from_the_current_directory(serve: Maker, linking: int) -> None:
    """“SITE SYMLINK”: both paths are seen from there."""
    with Dialogue(linking) as client:
        client.logs_in()
        client.says("CWD directory/deep", 250)
        client.says("SITE SYMLINK ../../file link", 200)
        assert client.downloads("RETR link") == b"content"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "..", "/"])
def test_a_link_cannot_lead_out(serve: Maker, linking: int, target: str) -> None:
    """“SITE SYMLINK”, where it is permitted: contained, whatever its target is called."""
    with Dialogue(linking) as client:
        client.logs_in()
        client.send(f"SITE SYMLINK {target} link")
        code, text = client.reply()
        assert code in (200, 501, 550), text
        if code == 200:
            assert (serve.directory / "link").resolve().is_relative_to(serve.directory.resolve())
            if "etc" in target:
                client.says("RETR link", 425, 550)
                client.says("SIZE link", 550)


def test_a_link_takes_nobody_s_place(serve: Maker, linking: int) -> None:
    """“SITE SYMLINK”: a file that is there stays, and the directory has to be there."""
    with Dialogue(linking) as client:
        client.logs_in()
        client.says('SITE SYMLINK file "two words"', 550)
        client.says("SITE SYMLINK file missing/link", 550)
        client.says("SITE SYMLINK file /", 550)
    assert (serve.directory / "two words").read_bytes() == b"words"


@pytest.mark.parametrize("argument", ["", "file", '"file"', "a b c", '"a b"', '"a b'])
def test_a_link_needs_two_paths(serve: Maker, linking: int, argument: str) -> None:
    """“501 where one is missing”"""
    with Dialogue(linking) as client:
        client.logs_in()
        client.says(f"SITE SYMLINK {argument}", 501)


@pytest.fixture
def ruled(serve: Maker) -> int:
    """The port of a server that makes links, to a user who may not do the same everywhere."""
    for name in ("secret", "fixed", "free"):
        (serve.directory / name).mkdir()
        (serve.directory / name / "file").write_bytes(b"content")
    rules = [
        Permission("/"),
        Permission("/secret", readable=False, writable=False),
        Permission("/fixed", writable=False),
    ]
    users = [User("user", "12345", base_path=serve.directory, permissions=rules)]
    return serve.with_settings(users, allow_symlinks=True)


def test_a_link_needs_the_right_to_read_and_to_write(serve: Maker, ruled: int) -> None:
    """library.md row 7: no link leads around a permission."""
    with Dialogue(ruled) as client:
        client.logs_in()
        client.says("SITE SYMLINK /secret/file /free/link", 550)
        client.says("SITE SYMLINK /secret /free/link", 550)
        client.says("SITE SYMLINK /free/file /fixed/link", 550)
        client.says("SITE SYMLINK /free/file /secret/link", 550)
        assert os.listdir(serve.directory / "free") == ["file"]


def test_no_link_leads_around_a_permission(serve: Maker, ruled: int) -> None:
    """library.md row 7: the nearest permission of the file decides, not that of a link to it.

    Whether such links are refused or lead nowhere is all the same.
    """
    with Dialogue(ruled) as client:
        client.logs_in()
        client.says("SITE SYMLINK / /free/all", 200, 550)
        client.says("SITE SYMLINK /fixed /free/directory", 200, 550)
        client.says("SITE SYMLINK /fixed/file /free/link", 200, 550)
        client.says("SIZE /free/all/secret/file", 550)
        client.says("SITE CHMOD 600 /free/link", 550)
        for name in ("all/fixed/file", "directory/file", "link"):
            client.says(f"DELE /free/{name}", 250, 550)
    assert (serve.directory / "fixed/file").read_bytes() == b"content"
