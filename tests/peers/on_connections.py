"""Attempts on connections: TLS, data connections, lines."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

from tests.peers.target import OTHER_HOST, TAKEN, UNKNOWN, USER, Broken, Client, Lacking, Target
from tests.support.dialogue import DEADLINE, rest_of

INJECTED = f"USER {USER[0]}\r\nPASS {USER[1]}\r\nMKD injected\r\n".encode()


def bytes_behind_auth(target: Target) -> None:
    """“bytes behind AUTH TLS in one segment, or 1 ms later: never executed”"""
    with Client(target.port) as client:
        if client.asks("AUTH TLS")[0] in UNKNOWN:
            raise Lacking("has no AUTH TLS")
    for apart, when in ((0.0, "in the same segment"), (0.001, "1 ms later")):
        with Client(target.port) as client:
            if apart:
                client.send("AUTH TLS")
                time.sleep(apart)  # what is tried, not a wait for something
                client.sock.sendall(INJECTED)
            else:
                client.sock.sendall(b"AUTH TLS\r\n" + INJECTED)
            if converses(client):
                raise Broken(f"a login behind AUTH TLS, {when}, was executed")
        if (target.root / "injected").exists():
            raise Broken(f"MKD behind AUTH TLS, {when}, was executed")


def converses(client: Client) -> bool:
    """Begin TLS after all, and see whether somebody is logged in then."""
    with contextlib.suppress(EOFError, ConnectionError, ssl.SSLError):
        if client.reply()[0] != 234:
            return False
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # no SSLSocket: making one leaks its descriptor where the connection is reset just then
        tls = context.wrap_bio(incoming, outgoing)

        def through(step: Callable[[], bytes | None]) -> bytes | None:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    client.sock.sendall(outgoing.read())
                    if not (data := client.sock.recv(1 << 16)):
                        raise EOFError from None
                    incoming.write(data)

        through(tls.do_handshake)
        tls.write(b"PWD\r\n")
        received = b""
        while not (answer := re.search(rb"^(257|530|503) ", received, re.MULTILINE)):
            received += through(lambda: tls.read(1 << 16)) or b""
        return answer[1] == b"257"
    return False


def another_host_at_the_data_port(target: Target) -> None:
    """“someone else connects to the passive port first: gets no byte; the right client then
    gets all”"""
    content = b"content" * 1000
    (target.root / "file").write_bytes(content)
    with target.session() as client:
        port = client.epsv()
        with connected(port, OTHER_HOST) as other:
            # a server that drops other hosts at once has done it then; others have them in line
            select.select([other], [], [], 0.5)
            with connected(port) as data:
                code, _ = client.asks("RETR file")
                if code not in TAKEN:
                    raise Broken(
                        f"RETR is answered with {code}, which was about the other connection"
                    )
                if rest_of(other):
                    raise Broken("the other address gets the file")
                if rest_of(data) != content or client.final() != 226:
                    raise Broken("the client does not get the file")


MANY = 70
"""Connections that fill the queue of a listener that nobody accepts from; 64 is a usual length."""


def many_other_hosts_at_the_data_port(target: Target) -> None:
    """“70 strangers' connections at a data port before the client's own”: it is made all the same,
    and they get nothing."""
    content = b"content" * 1000
    (target.root / "file").write_bytes(content)
    with target.session() as client, ExitStack() as stack:
        port = client.epsv()
        others = [stack.enter_context(calling(port)) for _ in range(MANY)]
        try:
            data = stack.enter_context(connected(port))
        except OSError:
            raise Broken("the client's own connection is not made") from None
        dropped(others, 1.0)
        code, _ = client.asks("RETR file")
        if code not in TAKEN:
            raise Broken(f"RETR is answered with {code}, which was about another connection")
        received = rest_of(data)
        final = client.final()
        if any(map(arrived, others)):
            raise Broken("another address gets the file")
        if received != content or final != 226:
            raise Broken("the client does not get the file")


def dropped(socks: list[socket.socket], seconds: float) -> None:
    """Wait until all have been closed by the server, or so long: it may drop them only later."""
    end = time.monotonic() + seconds
    left = socks
    while left and (rest := end - time.monotonic()) > 0:
        ended = select.select(left, [], [], rest)[0]
        left = [sock for sock in left if sock not in ended]


def calling(port: int) -> socket.socket:
    """Another host's connection, which may have to wait to be made."""
    sock = socket.socket()
    sock.bind((OTHER_HOST, 0))
    sock.setblocking(False)
    sock.connect_ex(("127.0.0.1", port))
    return sock


def arrived(sock: socket.socket) -> bytes:
    """What has come over a connection, or none where there is none."""
    with contextlib.suppress(OSError):
        return sock.recv(1 << 16)
    return b""


def connected(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), DEADLINE, (source, 0))


MALFORMED = (
    *("PORT", "PORT 127,0,0,1,1", "PORT 127,0,0,1,1,1,1", "PORT 127.0.0.1,200,200"),
    *("PORT 127,0,0,1,256,1", "PORT a,b,c,d,e,f", "PORT -1,0,0,1,200,200"),
    *("EPRT", "EPRT |", "EPRT |1||50000|", "EPRT |1|127.0.0.1|65536|", "EPRT |1|127.0.0.1|5x|"),
    *("EPRT |1|::1|50000|", "EPRT |9|127.0.0.1|50000|"),
)
LOW = ("PORT 127,0,0,1,0,80", "PORT 127,0,0,1,3,255", "EPRT |1|127.0.0.1|80|")


def connections_to_others(target: Target) -> None:
    """“PORT/EPRT to others, to low ports, malformed: 501, no SYN leaves”"""
    with target.session() as client:
        if {client.asks(verb)[0] for verb in ("PORT", "EPRT")} <= set(UNKNOWN):
            raise Lacking("has no PORT or EPRT")
    with socket.create_server((OTHER_HOST, 0)) as victim:
        number = victim.getsockname()[1]
        others = (
            f"PORT {OTHER_HOST.replace('.', ',')},{number >> 8},{number & 255}",
            f"EPRT |1|{OTHER_HOST}|{number}|",
        )
        for command in (*others, *LOW, *MALFORMED):
            with target.session() as client:
                code, text = client.asks(command)
                if not 500 <= code < 600:
                    raise Broken(f"{command} is answered with {text!r}")
                client.asks("NLST")  # whoever took it connects now at the latest
                client.asks("SYST")
        victim.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            victim.accept()[0].close()
            raise Broken("somebody else was called")


LINES = {
    "512 bytes": b"x" * 512,
    "4 KiB": b"RETR " + b"x" * 4000,
    "60 KB": b"x" * 60_000,
    "1 MB": b"x" * 1_000_000,
    "not UTF-8": b"CWD \xff\xfe\xfd",
    "REST ²": "REST ²".encode(),
    "REST 10³⁰": b"REST 1" + b"0" * 30,
    "TYPE ²": "TYPE ²".encode(),
    "an empty line": b"",
    "spaces": b"   ",
    "no verb": b"%s%n\x1b\x01 ;",
}
MAY_END = ("1 MB",)
"""Lines that may end their session."""
MAY_BE_SKIPPED = ("an empty line",)
"""Lines that need no reply: two of the three large servers in C skip them."""


def lines_of_all_kinds(target: Target) -> None:
    """“lines of 512 B to 10 MB, not UTF-8, `REST ²`, 10³⁰ …: one final reply each”"""
    wrong: dict[str, str] = {}
    for login in (False, True):
        for what, line in LINES.items():
            with Client(target.port) as client:
                if login:
                    client.logs_in(*USER)
                found = misbehaves(client, what, line)
                if found:
                    wrong[what] = found
    if wrong:
        raise Broken("; ".join(f"{what}: {found}" for what, found in wrong.items()))


def misbehaves(client: Client, what: str, line: bytes) -> str | None:
    """What is wrong with the answers to a line and to SYST after it; None where nothing is."""
    codes = []
    try:
        client.send(line)
        if what not in MAY_BE_SKIPPED:
            codes.append(client.reply()[0])
        client.send("SYST")
        while not codes or codes[-1] != 215:
            codes.append(client.reply()[0])
    except (EOFError, ConnectionError):
        if len(codes) > 1:
            return "more than one reply"
        return None if what in MAY_END else "ends the session"
    return None if len(codes) <= 2 else "more than one reply"


TIMES, NOTHING = 3, 0.005
"""By how much others may wait longer, and the seconds that are no delay on a busy machine."""


def much_behind_a_transfer(target: Target) -> None:
    """Lines that take long to look at wait behind a download that stands still; then bytes come
    one by one, and with each somebody else says PWD. There are several, one at least for each
    process of the server."""
    with (target.root / "large").open("wb") as file:
        file.truncate(1 << 30)
    with ExitStack() as stack:
        others = [stack.enter_context(target.session()) for _ in range(4)]
        quiet = max(median_of_pwd(other, None) for other in others)
        greedy = stack.enter_context(target.session())
        greedy.asks("TYPE I")
        stack.enter_context(greedy.passive(window=4096))
        if greedy.asks("RETR large")[0] not in TAKEN:
            raise Broken("RETR is refused")
        greedy.sock.settimeout(0.1)
        with contextlib.suppress(OSError):
            for _ in range(250):
                greedy.sock.sendall(b"\xff" * 4090 + b"\r\n")
        worst = max(median_of_pwd(other, greedy) for other in others)
    if worst > TIMES * max(quiet, NOTHING):
        raise Broken("others wait for what one client has said")


def median_of_pwd(client: Client, greedy: Client | None) -> float:
    """How long PWD takes, each behind a byte of somebody else's."""
    took = []
    for _ in range(30):
        if greedy is not None:
            with contextlib.suppress(OSError):  # its session may have been ended
                greedy.sock.send(b"x", socket.MSG_DONTWAIT)
        began = time.perf_counter()
        client.asks("PWD")
        took.append(time.perf_counter() - began)
    return statistics.median(took)
