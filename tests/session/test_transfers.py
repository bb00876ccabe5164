"""RETR, STOR, APPE and what may happen meanwhile (protocol.md, “Transfers”)."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import socket
import ssl
import threading
from pathlib import Path

import pytest

from ftpcluster import User
from ftpcluster.net.pipe import Pipe
from ftpcluster.session import deadlines
from ftpcluster.storage.local_file import LocalFile
from tests.session.conftest import Maker
from tests.support.cluster import until
from tests.support.dialogue import Dialogue, reset, rest_of

SIZES = (0, 1, 4096, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 300_000, 5_000_000)
CONTENT = os.urandom(max(SIZES))
TRANSFERS = ("RETR file", "STOR file", "APPE file", "LIST", "NLST", "MLSD")


def is_served(client: Dialogue, root: Path) -> bool:
    """Whether the session goes on as if nothing had happened, with no reply left over."""
    (root / "check").write_bytes(CONTENT[:300_000])
    client.says("NOOP", 200)
    client.says("TYPE I", 200)
    downloaded = client.downloads("RETR check") == CONTENT[:300_000]
    client.says("SYST", 215)
    return downloaded


@pytest.fixture
def big(root: Path) -> Path:
    """A file far larger than all that kernel and client hold unread."""
    path = root / "big"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    return path


# ---------------------------------------------------------------------- whole files


@pytest.mark.parametrize("size", SIZES)
def test_what_was_stored_is_there_when_226_comes(client: Dialogue, root: Path, size: int) -> None:
    """“Upload: 226 only after every byte was written *and* close succeeded”"""
    client.uploads("STOR file", CONTENT[:size])
    assert (root / "file").read_bytes() == CONTENT[:size]


@pytest.mark.parametrize("size", SIZES)
def test_what_was_appended_is_there_when_226_comes(client: Dialogue, root: Path, size: int) -> None:
    """“Upload: 226 only after every byte was written *and* close succeeded”"""
    (root / "file").write_bytes(b"before")
    client.uploads("APPE file", CONTENT[:size])
    assert (root / "file").read_bytes() == b"before" + CONTENT[:size]


def test_appending_to_nothing_makes_a_file(client: Dialogue, root: Path) -> None:
    client.uploads("APPE file", b"content")
    assert (root / "file").read_bytes() == b"content"


@pytest.mark.parametrize("size", SIZES)
def test_a_download_is_the_file(client: Dialogue, root: Path, size: int) -> None:
    (root / "file").write_bytes(CONTENT[:size])
    assert client.downloads("RETR file") == CONTENT[:size]


def test_an_upload_takes_the_place_of_a_longer_file(client: Dialogue, root: Path) -> None:
    (root / "file").write_bytes(b"a longer content")
    client.uploads("STOR file", b"short")
    assert (root / "file").read_bytes() == b"short"


def test_an_upload_in_drops_is_whole(client: Dialogue, root: Path) -> None:
    """“226 only after every byte was written”: however they come."""
    with client.begins("STOR file") as data:
        data.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in CONTENT[:2000]:
            data.send(bytes([byte]))
    client.expects(226)
    assert (root / "file").read_bytes() == CONTENT[:2000]


def test_the_data_connection_may_come_after_the_command(client: Dialogue, root: Path) -> None:
    """“150 when the data connection is there or awaited”"""
    (root / "file").write_bytes(CONTENT[:1000])
    port = client.epsv()
    client.says("RETR file", 150)
    with socket.create_connection((client.host, port), 20) as data:
        assert b"".join(iter(lambda: data.recv(65536), b"")) == CONTENT[:1000]
    client.expects(226)


def test_many_transfers_in_one_session(client: Dialogue, root: Path) -> None:
    """“one final reply, always”: nothing is left over from one for the next."""
    for number in range(100):
        client.uploads(f"STOR {number}", CONTENT[number : number + 500])
        assert client.downloads(f"RETR {number}") == CONTENT[number : number + 500]
    assert is_served(client, root)


# ---------------------------------------------------------------------- one final reply


@pytest.mark.parametrize("command", TRANSFERS)
def test_without_a_data_connection_nothing_is_transferred(
    client: Dialogue, root: Path, command: str
) -> None:
    """“data connection never came 425”: here nobody has asked for one."""
    (root / "file").write_bytes(b"content")
    client.says(command, 425)
    assert is_served(client, root)


@pytest.mark.parametrize("command", TRANSFERS)
def test_a_data_connection_that_does_not_come_is_not_awaited_for_ever(
    serve: Maker, command: str
) -> None:
    """“data connection never came 425”"""
    (serve.directory / "file").write_bytes(b"content")
    with Dialogue(serve(data_timeout=0.1)) as client:
        client.logs_in()
        client.epsv()
        client.says(command, 150)
        client.expects(425)
        assert is_served(client, serve.directory)


@pytest.mark.parametrize("verb", ["RETR", "STOR", "APPE", "LIST"])
def test_a_data_connection_is_for_one_transfer(client: Dialogue, root: Path, verb: str) -> None:
    """“one accept”: the next transfer needs its own."""
    (root / "file").write_bytes(b"content")
    client.downloads("RETR file")
    client.says(f"{verb} file", 425)


@pytest.mark.parametrize("command", ["STOR file", "APPE file"])
def test_a_client_that_is_gone_in_an_upload_is_426(
    client: Dialogue, root: Path, command: str
) -> None:
    """“Client gone 426”"""
    data = client.begins(command)
    data.sendall(CONTENT[:300_000])
    reset(data)
    client.expects(426)
    assert is_served(client, root)


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_that_is_gone_in_a_download_is_426(
    client: Dialogue, root: Path, big: Path, how: str
) -> None:
    """“Client gone 426”"""
    data = client.begins("RETR big", window=4096)
    assert data.recv(1000)
    if how == "reset":
        reset(data)
    else:
        data.close()
    client.expects(426)
    assert is_served(client, root)


def test_a_partial_upload_stays_to_be_resumed(client: Dialogue, root: Path) -> None:
    """“A partial upload stays for REST (default)”"""
    content = CONTENT[:400_000]
    file = root / "file"
    data = client.begins("STOR file")
    data.sendall(content[:250_000])
    until(lambda: file.stat().st_size == 250_000)
    reset(data)
    client.expects(426)
    assert file.read_bytes() == content[:250_000]
    client.says("REST 250000", 350)
    client.uploads("STOR file", content[250_000:])
    assert file.read_bytes() == content


@pytest.mark.parametrize("kind", ["I", "A"])
def test_a_file_that_shrinks_while_it_is_sent_is_451(
    client: Dialogue, root: Path, big: Path, kind: str
) -> None:
    """“local read or write failed 451”: never 226 for less than was announced."""
    client.says(f"TYPE {kind}", 200)
    with client.begins("RETR big", window=4096) as data:
        assert data.recv(1)
        os.truncate(big, 1000)
        while data.recv(1 << 16):
            pass
    client.expects(451)
    assert is_served(client, root)


@pytest.mark.parametrize("kind", ["I", "A"])
def test_of_a_file_that_grows_while_it_is_sent_what_was_announced_comes(
    client: Dialogue, root: Path, kind: str
) -> None:
    """Else a log that grows as fast as it is sent would never end."""
    client.says(f"TYPE {kind}", 200)
    (root / "log").write_bytes(b"x" * (8 << 20))
    with client.begins("RETR log", window=4096) as data:
        received = len(data.recv(1))
        with (root / "log").open("ab") as file:
            file.write(b"y" * 1000)
        while block := data.recv(1 << 16):
            received += len(block)
            assert b"y" not in block
    client.expects(226)
    assert received == 8 << 20


@pytest.mark.parametrize("how", ["I", "A", "P"])
def test_what_is_not_in_memory_is_read_by_a_thread(
    serve: Maker, monkeypatch: pytest.MonkeyPatch, server_context: ssl.SSLContext, how: str
) -> None:
    """design.md, law 8: “cold reads … go to a bounded thread pool”, by sendfile or by reading."""
    content = bytes(range(256)) * 20_000
    (serve.directory / "file").write_bytes(content)
    warm, threads = [0], []
    read_ahead = LocalFile.read_ahead

    def recorded(file: LocalFile, offset: int, count: int) -> None:
        read_ahead(file, offset, count)
        warm.append(offset + count)
        threads.append(threading.current_thread().name)

    monkeypatch.setattr(LocalFile, "is_resident", lambda _, offset: offset < warm[-1])
    monkeypatch.setattr(LocalFile, "read_ahead", recorded)
    with Dialogue(serve(tls=server_context)) as client:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        if how == "P":
            client.says("AUTH TLS", 234)
            client.sock = trusting.wrap_socket(client.sock)
        client.logs_in()
        if how == "P":
            client.says("PROT P", 200)
        client.says("TYPE A" if how == "A" else "TYPE I", 200)
        with client.begins("RETR file") as plain:
            with trusting.wrap_socket(plain) if how == "P" else plain as data:
                received = rest_of(data)
        client.expects(226)
    assert received == (content.replace(b"\n", b"\r\n") if how == "A" else content)
    assert len(threads) == 5  # of 1 MiB each
    assert all(name.startswith("ftpcluster-files") for name in threads)


def test_an_upload_needs_no_descriptors_for_a_pipe(
    serve: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's copy is faster, and all."""
    asked = []

    def refused(_: int) -> tuple[int, int]:
        asked.append(True)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    Pipe.close_idle()
    monkeypatch.setattr(os, "pipe2", refused)
    with Dialogue(serve()) as client:
        client.logs_in()
        client.uploads("STOR file", CONTENT)
    assert asked
    assert (serve.directory / "file").read_bytes() == CONTENT


# ---------------------------------------------------------------------- commands meanwhile


def test_noop_is_answered_during_an_upload(client: Dialogue) -> None:
    """“NOOP and STAT are answered meanwhile”"""
    with client.begins("STOR file"):
        for _ in range(3):
            client.says("NOOP", 200)
    client.expects(226)


def test_noop_is_answered_during_a_download(client: Dialogue, big: Path) -> None:
    """“NOOP and STAT are answered meanwhile”: also when the client does not read."""
    with client.begins("RETR big", window=4096):
        for _ in range(3):
            client.says("NOOP", 200)
    client.expects(426)


def test_noop_is_answered_while_the_data_connection_is_awaited(client: Dialogue) -> None:
    """“NOOP and STAT are answered meanwhile”"""
    port = client.epsv()
    client.says("STOR file", 150)
    client.says("NOOP", 200)
    socket.create_connection((client.host, port), 20).close()
    client.expects(226)


def test_other_commands_wait_for_the_end_in_their_order(client: Dialogue, root: Path) -> None:
    """“one final reply, always”: and then those of what came meanwhile."""
    with client.begins("STOR file") as data:
        # the answer to NOOP shows that the server has read what follows it in the same segment
        client.send("NOOP\r\nPWD\r\nSIZE file\r\nSYST")
        client.expects(200)
        data.sendall(b"content")
    client.expects(226)
    client.expects(257)
    assert client.expects(213) == "213 7"
    client.expects(215)


def test_a_transfer_can_wait_for_another(client: Dialogue, root: Path) -> None:
    """“one final reply, always”, for each of several commands that came at once."""
    port = client.epsv()
    client.send("STOR a\r\nEPSV")
    client.expects(150)
    with socket.create_connection((client.host, port), 20) as data:
        data.sendall(b"content")
    client.expects(226)
    match = re.search(r"\|(\d+)\|\)", client.expects(229))
    assert match
    with socket.create_connection((client.host, int(match[1])), 20) as data:
        client.says("RETR a", 150)
        assert data.recv(100) == b"content"
    client.expects(226)


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_quit_during_an_upload_lets_it_finish(client: Dialogue, root: Path, size: int) -> None:
    """“QUIT during a transfer: it finishes, 226, then 221 and close.”"""
    with client.begins("STOR file") as data:
        client.send("NOOP\r\nQUIT")
        client.expects(200)
        data.sendall(CONTENT[:size])
    client.expects(226)
    client.expects(221)
    assert client.is_closed()
    assert (root / "file").read_bytes() == CONTENT[:size]


def test_quit_during_a_download_lets_it_finish(client: Dialogue, root: Path) -> None:
    """“QUIT during a transfer: it finishes, 226, then 221 and close.”"""
    with (root / "file").open("wb") as file:
        file.truncate(30_000_000)
    received = 0
    with client.begins("RETR file", window=65536) as data:
        client.send("NOOP\r\nQUIT")
        client.expects(200)
        while block := data.recv(1 << 20):
            received += len(block)
    assert received == 30_000_000
    client.expects(226)
    client.expects(221)
    assert client.is_closed()


def test_a_client_may_close_behind_quit(client: Dialogue, root: Path) -> None:
    """“QUIT during a transfer: it finishes”: also when the client says no more than that."""
    with client.begins("STOR file") as data:
        client.send("NOOP\r\nQUIT")
        client.sock.shutdown(socket.SHUT_WR)
        client.expects(200)
        data.sendall(CONTENT[:300_000])
    client.expects(226)
    client.expects(221)
    assert client.is_closed()
    assert (root / "file").read_bytes() == CONTENT[:300_000]


@pytest.mark.parametrize("command", ["STOR file", "RETR big", "RETR unconnected"])
def test_a_client_that_hangs_up_in_a_transfer_frees_all(
    serve: Maker, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """faults.md: “client vanishes in RETR, STOR, LIST: … resources back … slot released”."""
    # else that takes as long as data may be on their way
    monkeypatch.setattr(deadlines, "_STALL_CHECK", 0.1)
    monkeypatch.setattr(deadlines, "_RESET", 0.5)
    for name in ("big", "unconnected"):
        with (serve.directory / name).open("wb") as file:
            file.truncate(1 << 30)
    users = [User("user", "12345", base_path=serve.directory, maximum_connections=1)]
    port = serve(users=users)
    server = serve.made[-1]
    with Dialogue(port) as client, contextlib.ExitStack() as stack:
        client.logs_in()
        if command == "RETR unconnected":
            client.epsv()
            client.says(command, 150)
        else:
            stack.enter_context(client.begins(command, window=4096))
        reset(client.sock)
        until(lambda: server.call(lambda: server.server.ledger.connections == 0))
    with Dialogue(port) as client:
        client.logs_in()


# ---------------------------------------------------------------------- ABOR


def aborts(client: Dialogue) -> None:
    """ABOR of a transfer that runs: both replies, exactly once."""
    client.send("ABOR")
    client.expects(426)
    client.expects(226)


@pytest.mark.parametrize("prepared", [False, True])
def test_abort_with_nothing_to_abort(client: Dialogue, root: Path, prepared: bool) -> None:
    """“ABOR idle: 226 (or 225)”"""
    if prepared:
        client.epsv()
    client.says("ABOR", 225, 226)
    assert is_served(client, root)


@pytest.mark.parametrize("read", [0, 1, 3_000_000])
def test_abort_of_a_download(client: Dialogue, root: Path, big: Path, read: int) -> None:
    """“during RETR …: 426 then 226, exactly once, even when the client has stopped reading and
    the data connection is stalled”"""
    with client.begins("RETR big", window=4096) as data:
        received = 0
        while received < read:
            received += len(data.recv(1 << 20))
        aborts(client)
    assert is_served(client, root)


def test_abort_of_a_text(client: Dialogue, root: Path, big: Path) -> None:
    """“during RETR …: 426 then 226”, in TYPE A as well."""
    client.says("TYPE A", 200)
    with client.begins("RETR big", window=4096):
        aborts(client)
    assert is_served(client, root)


@pytest.mark.parametrize("command", ["STOR file", "APPE file"])
@pytest.mark.parametrize("sent", [0, 1000, 1_000_000])
def test_abort_of_an_upload(client: Dialogue, root: Path, command: str, sent: int) -> None:
    """“during … STOR …: 426 then 226, exactly once”"""
    with client.begins(command) as data:
        data.sendall(CONTENT[:sent])
        until(lambda: (root / "file").stat().st_size == sent)
        aborts(client)
        assert select.select([data], [], [], 20)[0], "the data connection is still open"
    assert is_served(client, root)


def test_abort_of_an_upload_that_goes_on(client: Dialogue, root: Path) -> None:
    """“during … STOR …: 426 then 226”, while the client still sends."""
    data = client.begins("STOR file")

    def send() -> None:
        with contextlib.suppress(OSError):
            while True:
                data.sendall(CONTENT[:100_000])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        until(lambda: (root / "file").stat().st_size > 1_000_000)
        aborts(client)
    finally:
        sender.join(20)
        data.close()
    assert is_served(client, root)


def test_abort_of_listings(client: Dialogue, root: Path, big_directory: Path) -> None:
    """“during … MLSD: 426 then 226, exactly once, even when the client has stopped reading”"""
    for verb in ("MLSD", "LIST"):
        with client.begins(f"{verb} directory", window=4096):
            aborts(client)
        assert is_served(client, root)


@pytest.mark.parametrize("command", TRANSFERS)
def test_abort_before_the_data_connection(client: Dialogue, root: Path, command: str) -> None:
    """faults.md: “ABOR …, also before the data connection”: 426, 226."""
    (root / "file").write_bytes(CONTENT[:1000])
    client.epsv()
    client.says(command, 150)
    aborts(client)
    assert is_served(client, root)


def test_abort_as_urgent_data(client: Dialogue, root: Path, big: Path) -> None:
    """“Urgent data arrives in line (SO_OOBINLINE)”: IP, Synch and ABOR end a transfer too."""
    with client.begins("RETR big", window=4096):
        client.sock.sendall(b"\xff\xf4\xff")
        client.sock.send(b"\xf2", socket.MSG_OOB)
        client.sock.sendall(b"ABOR\r\n")
        client.expects(426)
        client.expects(226)
    assert is_served(client, root)


def test_abort_behind_other_commands(client: Dialogue, root: Path, big: Path) -> None:
    """“426 then 226, exactly once”: what came before ABOR is answered between them."""
    with client.begins("RETR big", window=4096):
        client.send("PWD\r\nNOOP\r\nABOR")
        assert [client.reply()[0] for _ in range(4)] == [426, 257, 200, 226]
    assert is_served(client, root)


def test_abort_twice(client: Dialogue, root: Path, big: Path) -> None:
    """“426 then 226, exactly once”: a second ABOR finds nothing to abort."""
    with client.begins("RETR big", window=4096):
        client.send("ABOR\r\nABOR")
        client.expects(426)
        client.expects(226)
        client.expects(225, 226)
    assert is_served(client, root)


def test_abort_at_any_moment(client: Dialogue, root: Path) -> None:
    """faults.md: “ABOR at random moments …: exactly {226}, {225} or {426, 226}; the next RETR has
    the right checksum”: whether the transfer has ended or not, each has its reply."""
    (root / "file").write_bytes(CONTENT)
    for step in range(40):
        with client.begins("RETR file", window=65536) as data:
            wanted, received = len(CONTENT) * step // 30, 0
            while received < wanted and (block := data.recv(1 << 18)):
                received += len(block)
            client.send("ABOR")
            ended = client.reply()[0]
            assert ended in (226, 426)
            client.expects(226, *([225] if ended == 226 else []))
        client.says("NOOP", 200)
    assert is_served(client, root)


def test_abort_right_after_the_last_byte(client: Dialogue, root: Path) -> None:
    """faults.md: “ABOR …, after the last byte”: {226, 226 or 225} or {426, 226}."""
    for number in range(30):
        with client.begins(f"STOR {number}") as data:
            data.sendall(CONTENT[:10_000])
        client.send("ABOR")
        ended = client.reply()[0]
        assert ended in (226, 426)
        client.expects(226, *([225] if ended == 226 else []))
        if ended == 226:
            assert (root / str(number)).read_bytes() == CONTENT[:10_000]
    assert is_served(client, root)


def test_the_type_survives_an_abort(client: Dialogue, root: Path, big: Path) -> None:
    """“the next command works”, under the parameters that were set."""
    (root / "text").write_bytes(b"a\nb\n")
    client.says("TYPE A", 200)
    with client.begins("RETR big", window=4096):
        aborts(client)
    assert client.downloads("RETR text") == b"a\r\nb\r\n"


def test_an_upload_without_data_connection_leaves_the_file_alone(
    client: Dialogue, root: Path
) -> None:
    """STOR of which no byte can come must not cost the file that is there."""
    (root / "file").write_bytes(b"content")
    client.says("STOR file", 425)
    client.says("APPE new", 425)
    assert (root / "file").read_bytes() == b"content"
    assert not (root / "new").exists()


def test_an_upload_whose_data_never_comes_leaves_the_file_alone(serve: Maker) -> None:
    """The data connection is awaited, in vain: 425, and the file is what it was."""
    (serve.directory / "file").write_bytes(b"content")
    with Dialogue(serve(data_timeout=0.5)) as client:
        client.logs_in()
        client.epsv()
        client.says("STOR file", 150)
        client.expects(425)
    assert (serve.directory / "file").read_bytes() == b"content"
