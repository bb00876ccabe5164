"""ABOR at random moments (faults.md, “Data”, row 4): “exactly {226}, {225} or {426, 226}; the next
RETR has the right checksum”, also before the data connection and after the last byte.

The moments are of a seed, so what failed can be tried again: the seed is in the message.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from tests.support.kinds import KINDS, Running, running
from tests.tls.support import Client

CONTENT = random.Random(0).randbytes(4_000_000)
DIGEST = hashlib.sha256(CONTENT).digest()
COMMANDS = ("RETR file", "STOR up", "APPE up", "STOU up", "LIST many", "MLSD many", "NLST")
MOMENTS = ("before the data connection", "with the command", "in the middle", "after the last byte")
ABOR = (b"ABOR\r\n", b"\xff\xf4\xff\xf2ABOR\r\n", b"NOOP\r\nABOR\r\n")


@pytest.fixture(scope="module", params=KINDS)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Running, ssl.SSLContext]]:
    directory = tmp_path_factory.mktemp("aborts")
    authority = trustme.CA()
    certificate = str(directory / "server.pem")
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(certificate)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    many = directory / "root" / "many"
    many.mkdir(parents=True)
    for number in range(3000):
        (many / f"{number:04d}{'x' * 100}").touch()
    (directory / "root" / "file").write_bytes(CONTENT)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    options: dict[str, Any] = {"tls": context}
    if request.param == "cluster":
        options = {"text": f"[tls]\ncertificate = '{certificate}'"}
    with running(request.param, directory, **options) as server:
        yield server, trusting


class Aborting:
    """One client that aborts again and again."""

    def __init__(self, client: Client, chance: random.Random, protected: bool) -> None:
        self.client = client
        self.chance = chance
        self.protected = protected

    def aborts(self) -> None:
        """A transfer that ABOR meets at some moment."""
        command, moment = self.chance.choice(COMMANDS), self.chance.choice(MOMENTS)
        port = self.client.epsv()
        if moment == "before the data connection":
            self.client.send(command)
            if self.chance.random() < 0.5:
                self.client.expects(150)
                self.hears(self.abor(), began=True)
            else:
                self.hears(self.abor(), began=False)
            return
        plain = socket.create_connection(("127.0.0.1", port), 20)
        if moment == "with the command":
            with plain:
                self.client.send(command)
                self.hears(self.abor(), began=False)
            return
        self.client.says(command, 150)
        with self.wrapped(plain) as data:
            self.moves(data, command, to_its_end=moment == "after the last byte")
            if moment == "after the last byte":
                data.close()
            self.hears(self.abor(), began=True)

    def wrapped(self, plain: socket.socket) -> socket.socket:
        if not self.protected:
            return plain
        return self.client.wraps(plain, self.client.tls.session)

    def moves(self, data: socket.socket, command: str, *, to_its_end: bool) -> None:
        """Send or receive some, or all."""
        most = len(CONTENT) if to_its_end else self.chance.randrange(len(CONTENT))
        with contextlib.suppress(ssl.SSLError if self.protected else ()):
            if command.startswith(("STOR", "APPE", "STOU")):
                data.sendall(CONTENT[:most])
                return
            received = 0
            while received < most and (block := data.recv(1 << 16)):
                received += len(block)

    def abor(self) -> bool:
        """Say so, in one of the ways; whether a NOOP went before it."""
        line = self.chance.choice(ABOR)
        self.client.sock.sendall(line)
        return line.startswith(b"NOOP")

    def hears(self, with_noop: bool, *, began: bool) -> None:
        """The replies to both, and no other ones before that of SYST."""
        self.client.send("SYST")
        codes = []
        while (code := self.client.reply()[0]) != 215:
            codes.append(code)
        if not began and codes[0] == 150:  # else it was aborted before it could say so
            del codes[0]
        if with_noop:
            codes.remove(200)
        assert codes in ([426, 226], [226, 226], [226, 225]), codes

    def downloads(self) -> None:
        """“the next RETR has the right checksum”"""
        with self.client.passive() as plain:
            self.client.says("RETR file", 150)
            with self.wrapped(plain) as data:
                digest = hashlib.sha256()
                while block := data.recv(1 << 16):
                    digest.update(block)
        self.client.expects(226)
        assert digest.digest() == DIGEST


@pytest.mark.parametrize(
    ("rounds", "seed"),
    [(30, 1), pytest.param(2000, None, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
@pytest.mark.parametrize("protected", [False, True], ids=["plain", "TLS"])
def test_abor_at_random_moments_has_its_replies_and_harms_nothing(
    shared: tuple[Running, ssl.SSLContext], protected: bool, rounds: int, seed: int | None
) -> None:
    server, trusting = shared
    seed = random.randrange(1 << 32) if seed is None else seed
    with Client(server.port, trusting) as client:
        if protected:
            client.secures(protected=True)
        else:
            client.logs_in()
        aborting = Aborting(client, random.Random(seed), protected)
        for number in range(rounds):
            try:
                aborting.aborts()
                aborting.downloads()
                for path in server.root.glob("up*"):
                    path.unlink()
            except BaseException as error:
                error.add_note(f"seed {seed}, round {number}")
                raise
