"""HASH, RANG, XCRC, XMD5, XSHA1, XSHA256 (protocol.md, “Verbs”; issue 4, 1: “off the loop,
cancellable, with a size above which they are refused”)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import statistics
import threading
import time
import zlib
from pathlib import Path

import pytest

from ftpcluster import Permission, User
from ftpcluster.storage.local_file import LocalFile
from tests.session.conftest import Maker, Serving
from tests.support.cluster import open_files, until
from tests.support.dialogue import Dialogue, reset
from tests.support.latency import assert_unnoticed, felt_time

CONTENT = os.urandom(10_000_000)
"""More than a thread reads at once."""
HUGE = 4 << 30
"""The most that is looked at: seconds of work."""
ALGORITHMS = ("SHA-256", "SHA-1", "MD5", "CRC32")
VERBS = {"XCRC": "CRC32", "XMD5": "MD5", "XSHA1": "SHA-1", "XSHA256": "SHA-256"}


def digest(algorithm: str, content: bytes) -> str:
    """What it has to be."""
    if algorithm == "CRC32":
        return f"{zlib.crc32(content):08x}"
    return hashlib.new(algorithm.replace("-", ""), content).hexdigest()


def hashed(client: Dialogue, name: str) -> tuple[str, str, str, str]:
    """The reply to HASH: algorithm, range, digest, name (draft-bryan-ftpext-hash, 3.2)."""
    algorithm, span, value, path = client.says(f"HASH {name}", 213)[4:].split(" ", 3)
    return algorithm, span, value, path


def hash_feature(client: Dialogue) -> str:
    [line] = [line for line in client.says("FEAT", 211).split("\n") if line.startswith(" HASH ")]
    return line.removeprefix(" HASH ")


def x_digest(client: Dialogue, command: str) -> str:
    """The digest in the reply to XCRC and its like, in lower case."""
    text = client.says(command, 250)
    return text.removeprefix("250 ").lower()


@pytest.fixture
def file(root: Path) -> Path:
    path = root / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def huge(root: Path) -> Path:
    path = root / "huge"
    with path.open("wb") as file:
        file.truncate(HUGE)
    return path


# ---------------------------------------------------------------------- HASH


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [0, 1, 100, 4 << 20, (4 << 20) + 1, len(CONTENT)])
def test_hash_is_the_digest_of_a_file(
    client: Dialogue, root: Path, algorithm: str, size: int
) -> None:
    """“HASH (SHA-256, SHA-1, MD5, CRC32; RANG with it)”"""
    (root / "file").write_bytes(CONTENT[:size])
    assert client.says(f"OPTS HASH {algorithm}", 200) == f"200 {algorithm}"
    span = f"0-{max(size - 1, 0)}"
    assert hashed(client, "file") == (algorithm, span, digest(algorithm, CONTENT[:size]), "file")


def test_hash_names_what_was_asked_for(client: Dialogue, root: Path) -> None:
    """“HASH …”: the name stands last in the reply, as it was written."""
    (root / "a directory").mkdir()
    (root / "a directory/two  words 12").write_bytes(b"content")
    expected = ("SHA-256", "0-6", digest("SHA-256", b"content"))
    assert hashed(client, "a directory/two  words 12") == (*expected, "a directory/two  words 12")
    client.says("CWD a directory", 250)
    assert hashed(client, "two  words 12") == (*expected, "two  words 12")


def test_control_characters_stay_out_of_the_reply(client: Dialogue, root: Path) -> None:
    """“Control characters never reach a log or a listing unescaped.”"""
    (root / "a\x1b[2Jb").write_bytes(b"content")
    assert "\x1b" not in client.says("HASH a\x1b[2Jb", 213)


def test_hash_takes_files_as_they_are_in_either_type(client: Dialogue, root: Path) -> None:
    """“HASH …”: of the bytes that are stored; nothing is converted."""
    (root / "file").write_bytes(b"a\nb\r\n")
    client.says("TYPE A", 200)
    assert hashed(client, "file")[2] == digest("SHA-256", b"a\nb\r\n")


def test_the_algorithm_that_hash_uses_has_the_star(client: Dialogue, file: Path) -> None:
    """“FEAT has … HASH”: with a star at what OPTS HASH has chosen."""
    assert hash_feature(client) == "SHA-256*;SHA-1;MD5;CRC32"
    client.says("OPTS HASH sha-1", 200)
    assert hash_feature(client) == "SHA-256;SHA-1*;MD5;CRC32"
    assert client.says("OPTS HASH", 200) == "200 SHA-1"
    assert hashed(client, "file")[0] == "SHA-1"


@pytest.mark.parametrize("argument", ["SHA-512", "MD4", "SHA256", "SHA-1;", "SHA-1 MD5"])
def test_an_unknown_algorithm_is_refused(client: Dialogue, file: Path, argument: str) -> None:
    """“OPTS HASH”: what FEAT does not name is 501 or 504, and changes nothing."""
    client.says("OPTS HASH MD5", 200)
    client.says(f"OPTS HASH {argument}", 501, 504)
    assert client.says("OPTS HASH", 200) == "200 MD5"


def test_the_algorithm_is_one_session_s_own(client: Dialogue, port: int) -> None:
    """“OPTS HASH” is about this session."""
    client.says("OPTS HASH MD5", 200)
    with Dialogue(port) as other:
        other.logs_in()
        assert hash_feature(other) == "SHA-256*;SHA-1;MD5;CRC32"


# ---------------------------------------------------------------------- RANG


@pytest.mark.parametrize(
    ("first", "last"), [(0, 0), (0, 99), (5, 5), (100, 4 << 20), (9_999_999, 9_999_999)]
)
def test_rang_is_for_a_part(client: Dialogue, file: Path, first: int, last: int) -> None:
    """“RANG with it”: from the first byte to the last, both included."""
    client.says(f"RANG {first} {last}", 350)
    expected = digest("SHA-256", CONTENT[first : last + 1])
    assert hashed(client, "file")[1:3] == (f"{first}-{last}", expected)


def test_rang_is_for_one_hash(client: Dialogue, file: Path) -> None:
    """“RANG with it”, one-shot: the next HASH but one looks at all again."""
    whole = digest("SHA-256", CONTENT)
    client.says("RANG 1 3", 350)
    assert hashed(client, "file")[2] != whole
    assert hashed(client, "file")[2] == whole
    client.says("RANG 1 3", 350)
    client.says("HASH missing", 550)
    assert hashed(client, "file")[2] == whole


def test_rang_1_0_is_for_all_again(client: Dialogue, file: Path) -> None:
    """“RANG with it”: ``RANG 1 0`` takes it back (draft-bryan-ftp-range)."""
    client.says("RANG 1 3", 350)
    client.says("RANG 1 0", 350)
    assert hashed(client, "file")[2] == digest("SHA-256", CONTENT)


def test_rang_past_the_end_is_up_to_it(client: Dialogue, root: Path) -> None:
    """“RANG with it”: the reply names the bytes that were looked at."""
    (root / "file").write_bytes(CONTENT[:100])
    client.says("RANG 90 1000", 350)
    assert hashed(client, "file")[1:3] == ("90-99", digest("SHA-256", CONTENT[90:100]))


def test_rang_behind_the_end_is_refused(client: Dialogue, root: Path) -> None:
    """“RANG with it”: there is nothing to look at, and nobody is told a digest of it."""
    (root / "file").write_bytes(CONTENT[:100])
    client.says("RANG 101 200", 350)
    client.says("HASH file", 501, 550, 551, 554)


@pytest.mark.parametrize(
    "argument",
    ["", "1", "1 ", " 1", "5 4", "a b", "-1 5", "1 5 7", "1.5 2", "+1 2", "١ ٢", "0 " + "9" * 30],
)
def test_a_range_that_is_none_is_a_syntax_error(
    client: Dialogue, file: Path, argument: str
) -> None:
    """“501 where one is missing”, and where it isn't two numbers in their order."""
    client.says(f"RANG {argument}", 501)
    assert hashed(client, "file")[2] == digest("SHA-256", CONTENT)


def test_rein_resets_algorithm_and_range(client: Dialogue, file: Path) -> None:
    """“USER or REIN while logged in logs out”: and REIN begins anew (RFC 959, 4.1.1)."""
    client.says("OPTS HASH MD5", 200)
    client.says("RANG 1 3", 350)
    client.says("REIN", 220)
    client.logs_in()
    assert hash_feature(client) == "SHA-256*;SHA-1;MD5;CRC32"
    assert hashed(client, "file")[:3] == (
        "SHA-256",
        f"0-{len(CONTENT) - 1}",
        digest("SHA-256", CONTENT),
    )


# ---------------------------------------------------------------------- XCRC and its like


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "name",
    ["file", "two words", "file 12", "12", "file 1 2", 'say "hi"', "a  b", "-dash", "{a,b} [c]*"],
)
def test_names_may_be_quoted_or_not(client: Dialogue, root: Path, verb: str, name: str) -> None:
    """“XCRC XMD5 XSHA1 XSHA256”: names with spaces and digits, in quotes and without."""
    (root / name).write_bytes(CONTENT[:1000])
    expected = digest(VERBS[verb], CONTENT[:1000])
    quoted = '"' + name.replace('"', '""') + '"'
    assert x_digest(client, f"{verb} {name}") == expected
    assert x_digest(client, f"{verb} {quoted}") == expected
    assert x_digest(client, f"{verb} {quoted} 10 20") == digest(VERBS[verb], CONTENT[10:20])


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ["file", '"file"'])
@pytest.mark.parametrize(
    ("span", "start", "end"),
    [
        ("", 0, None),
        (" 0", 0, None),
        (" 5000000", 5_000_000, None),
        (" 0 1", 0, 1),
        (" 10 9000000", 10, 9_000_000),
        (" 7 7", 7, 7),
        (" 9999990 20000000", 9_999_990, None),
    ],
)
def test_a_range_is_from_its_start_to_before_its_end(
    client: Dialogue, file: Path, verb: str, name: str, span: str, start: int, end: int | None
) -> None:
    """“XCRC XMD5 XSHA1 XSHA256”: of a part, as mod_digest of ProFTPD counts it."""
    assert x_digest(client, f"{verb} {name}{span}") == digest(VERBS[verb], CONTENT[start:end])


def test_a_name_goes_before_a_range(client: Dialogue, root: Path) -> None:
    """“XCRC …”: digits are a range only where no file has the whole as its name."""
    (root / "file").write_bytes(b"0123456789")
    (root / "file 5").write_bytes(b"content")
    assert x_digest(client, "XMD5 file 5") == digest("MD5", b"content")
    assert x_digest(client, 'XMD5 "file" 5') == digest("MD5", b"56789")
    (root / "file 5").unlink()
    assert x_digest(client, "XMD5 file 5") == digest("MD5", b"56789")


@pytest.mark.parametrize("span", ["11", "11 12", "5 4"])
def test_a_range_that_the_file_does_not_have_is_refused(
    client: Dialogue, root: Path, span: str
) -> None:
    """“XCRC …”: nobody is told a digest of bytes that are not there."""
    (root / "file").write_bytes(b"0123456789")
    client.says(f'XCRC "file" {span}', 501, 550, 551, 554)


def test_rang_and_opts_are_not_for_these(client: Dialogue, file: Path) -> None:
    """“HASH (…; RANG with it)”: the older verbs have their own ranges and names."""
    client.says("OPTS HASH MD5", 200)
    client.says("RANG 1 3", 350)
    assert x_digest(client, "XCRC file") == digest("CRC32", CONTENT)
    assert hashed(client, "file")[:2] == ("MD5", "1-3")


# ---------------------------------------------------------------------- refused

DIGESTS = ("HASH", *VERBS)


@pytest.mark.parametrize("verb", DIGESTS)
def test_what_is_no_file_has_no_digest(client: Dialogue, root: Path, verb: str) -> None:
    """“Only regular files are opened (FIFO, socket, device: 550 at once, `O_NONBLOCK`).”"""
    (root / "directory").mkdir()
    os.mkfifo(root / "fifo")
    (root / "out").symlink_to("/etc/passwd")
    for name in ("missing", "directory", "/", "fifo", "out", "missing/file"):
        client.says(f"{verb} {name}", 550)
    client.says("NOOP", 200)


@pytest.mark.parametrize("verb", DIGESTS)
def test_a_name_is_needed(client: Dialogue, verb: str) -> None:
    """“501 where one is missing”"""
    client.says(verb, 501)
    client.says(f"{verb} a\0b", 501)


@pytest.mark.parametrize("command", [*DIGESTS, "RANG"])
def test_unauthenticated_clients_get_no_digest(port: int, root: Path, command: str) -> None:
    """“Before login everything is 530”"""
    (root / "file").write_bytes(b"content")
    with Dialogue(port) as client:
        client.says(f"{command} file", 530)


@pytest.mark.parametrize("verb", DIGESTS)
def test_who_may_not_read_gets_no_digest(serve: Maker, verb: str) -> None:
    """library.md row 7: a digest tells about a file as reading it does."""
    (serve.directory / "secret").mkdir()
    (serve.directory / "secret/file").write_bytes(b"content")
    rules = [Permission("/"), Permission("/secret", readable=False)]
    users = [User("user", "12345", base_path=serve.directory, permissions=rules)]
    with Dialogue(serve(users=users)) as client:
        client.logs_in()
        for name in ("secret/file", "/secret/file", "x/../secret/file"):
            client.says(f"{verb} {name}", 550)
        if verb != "HASH":
            client.says(f'{verb} "secret/file" 1', 550)
            client.says(f"{verb} secret/file 1", 550)


def test_what_is_too_large_is_refused_but_for_a_part(serve: Maker) -> None:
    """Issue 4, 1: “with a size above which they are refused”: of what is to be looked at."""
    for size in (1000, 1001):
        (serve.directory / str(size)).write_bytes(CONTENT[:size])
    with Dialogue(serve.with_settings(max_digest=1000)) as client:
        client.logs_in()
        assert hashed(client, "1000")[2] == digest("SHA-256", CONTENT[:1000])
        client.says("HASH 1001", 550, 552)
        client.says("RANG 1 1000", 350)
        assert hashed(client, "1001")[2] == digest("SHA-256", CONTENT[1:1001])
        for verb, algorithm in VERBS.items():
            client.says(f"{verb} 1001", 550, 552)
            assert x_digest(client, f'{verb} "1001" 1') == digest(algorithm, CONTENT[1:1001])


@pytest.mark.parametrize("verb", DIGESTS)
def test_a_file_above_the_default_size_is_refused_at_once(
    client: Dialogue, root: Path, verb: str
) -> None:
    """Issue 4, 1: “with a size above which they are refused”: under `run`, too."""
    with (root / "file").open("wb") as file:
        file.truncate(1 << 40)
    client.says(f"{verb} file", 550, 552)


# ---------------------------------------------------------------------- meanwhile


@pytest.mark.parametrize("verb", DIGESTS)
def test_a_digest_can_be_aborted(client: Dialogue, huge: Path, verb: str) -> None:
    """“ABOR …: 426 then 226, exactly once”: a digest is as long as a transfer."""
    for _ in range(2):
        client.send(f"{verb} huge")
        client.says("NOOP", 200)
        client.says("ABOR", 426)
        client.expects(226)
        client.says("PWD", 257)
    (huge.parent / "file").write_bytes(b"content")
    assert x_digest(client, "XMD5 file") == digest("MD5", b"content")


def test_noop_and_stat_are_answered_during_a_digest(client: Dialogue, huge: Path) -> None:
    """“NOOP and STAT are answered meanwhile; the next command works.”"""
    client.send("HASH huge")
    for _ in range(20):
        client.says("NOOP", 200)
        client.says("STAT", 211)
    client.send("PWD\r\nABOR")
    client.expects(426)
    client.expects(257)
    client.expects(226)


def test_others_do_not_notice_a_digest(port: int, client: Dialogue, huge: Path) -> None:
    """design.md, law 8: “Blocking work never stalls the loop”."""
    trips = []
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(Dialogue(port)) for _ in range(4)]
        client.send("HASH huge")
        client.says("NOOP", 200)
        for _ in range(25):
            for other in others:
                begin = time.monotonic()
                other.says("NOOP", 200)
                trips.append(time.monotonic() - begin)
        client.says("ABOR", 426)  # it still ran
        client.expects(226)
    assert statistics.median(trips) < 0.05


def test_many_digests_share_the_threads(port: int, root: Path, huge: Path) -> None:
    """design.md, law 8: “a bounded thread pool”: long digests do not keep short ones waiting."""
    (root / "file").write_bytes(CONTENT)
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(Dialogue(port)) for _ in range(40)]
        for client in busy:
            client.logs_in()
            client.send("HASH huge")
        with Dialogue(port) as client:
            client.logs_in()
            assert hashed(client, "file")[2] == digest("SHA-256", CONTENT)
        for client in busy:
            client.send("ABOR")
        for client in busy:
            client.expects(426)
            client.expects(226)


def test_a_client_that_goes_away_leaves_nothing(
    serving: Serving, client: Dialogue, huge: Path
) -> None:
    """“Closed or reset connections … harm nobody.”: the file is closed, the threads are free.

    Behind a FIN the digest is computed: its client may have ended only what it sends.
    """
    server = serving.process_of(client)
    client.send("HASH huge")
    until(lambda: str(huge) in open_files(server))
    reset(client.sock)
    until(lambda: str(huge) not in open_files(server))


def test_no_file_is_closed_while_a_thread_reads_it(
    serve: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ABOR and the client's end leave to a thread is not taken from it.

    Its descriptor could be somebody else's file meanwhile.
    """
    entered, release = threading.Event(), threading.Event()
    read_now = LocalFile.read

    def slow(self: LocalFile, count: int) -> bytes:
        entered.set()
        assert release.wait(20)
        return read_now(self, count)

    monkeypatch.setattr(LocalFile, "read", slow)
    path = serve.directory / "file"
    path.write_bytes(CONTENT)
    port = serve()
    try:
        with Dialogue(port) as client, Dialogue(port) as other:
            client.logs_in()
            client.send("HASH file")
            assert entered.wait(20)
            client.send("ABOR\r\nNOOP")
            other.says("NOOP", 200)
            client.sock.close()
            for _ in range(50):
                other.says("NOOP", 200)
            assert str(path) in open_files(os.getpid())
    finally:
        release.set()
    until(lambda: str(path) not in open_files(os.getpid()))


def test_a_file_that_shrinks_meanwhile_has_no_digest(
    serve: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """“one final reply, always”: and no digest of something that never was."""
    path = serve.directory / "file"
    path.write_bytes(CONTENT)
    read_now = LocalFile.read

    def shrink(self: LocalFile, count: int) -> bytes:
        os.truncate(path, 100)
        return read_now(self, count)

    with Dialogue(serve()) as client:
        client.logs_in()
        monkeypatch.setattr(LocalFile, "read", shrink)
        client.says("HASH file", 450, 451, 550)
        client.says("NOOP", 200)


def test_one_user_s_digests_take_one_thread(serve: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not one of those that wait for disks."""
    running, most, names = 0, 0, set()
    lock = threading.Lock()
    read = LocalFile.read

    def watched(self: LocalFile, count: int) -> bytes:
        nonlocal running, most
        if os.fstat(self.fd).st_ino != ours:
            return read(self, count)  # another server of this process still digests
        with lock:
            running += 1
            most = max(most, running)
            names.add(threading.current_thread().name.partition("_")[0])
        try:
            return read(self, count)
        finally:
            with lock:
                running -= 1

    (serve.directory / "file").write_bytes(CONTENT)
    ours = (serve.directory / "file").stat().st_ino
    port = serve()
    monkeypatch.setattr(LocalFile, "read", watched)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Dialogue(port)) for _ in range(8)]
        for client in clients:
            client.logs_in()
            client.send("HASH file")
        for client in clients:
            assert digest("SHA-256", CONTENT) in client.expects(213)
    assert most == 1
    assert names == {"ftpcluster-digests"}


@pytest.mark.slow
@pytest.mark.alone
def test_whoever_has_many_digests_computed_disturbs_nobody(
    port: int, root: Path, huge: Path
) -> None:
    (root / "small").write_bytes(b"x" * 1_000_000)
    with contextlib.ExitStack() as stack:
        honest = stack.enter_context(Dialogue(port))
        honest.logs_in()
        quiet = felt_time(lambda: honest.downloads("RETR small"))
        greedy = [stack.enter_context(Dialogue(port)) for _ in range(32)]
        for client in greedy:
            client.logs_in()
            client.send("HASH huge")
        assert_unnoticed(lambda: honest.downloads("RETR small"), quiet)
