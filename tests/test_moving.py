"""What docs/moving.md and docs/moving-library.md show is loaded, executed and looked up."""

from __future__ import annotations

import ftplib
import functools
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import argon2.low_level
import bcrypt
import pytest
import trustme

import ftpcluster
from ftpcluster.cli.flags import Flags
from ftpcluster.cli.main import cli
from ftpcluster.config import ConfigError
from ftpcluster.config.load import load
from ftpcluster.config.setting import kind_of
from ftpcluster.passwords import hash_password, verify
from tests.config.keys import TABLES
from tests.support.cluster import Cluster
from tests.support.configured import configured
from tests.support.dialogue import Dialogue
from tests.support.programs import need

DOCS = Path(__file__).parent.parent / "docs"
SERVERS = (DOCS / "moving.md").read_text()
PROGRAMS = (DOCS / "moving-library.md").read_text()
PATH = {"PYTHONPATH": str(DOCS.parent)}


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [text for kind, text in found if kind == language]


def second_column(page: str, heading: str) -> list[tuple[str, str]]:
    """Rows of the table whose heading begins so: the first cell, and what is code in the second."""
    (table,) = re.findall(rf"^\| {heading} \|.*\n\|---.*\n((?:\|.*\n)+)", page, re.MULTILINE)
    rows = [[cell.strip() for cell in row.split(" | ")] for row in table.splitlines()]
    found = []
    for first, second, *_ in rows:
        codes = re.findall("`([^`]+)`", second)
        assert codes or second == "–", f"{first}: {second}"
        found += [(first, code) for code in codes]
    assert found
    return found


# ---------------------------------------------------------------------- servers


@pytest.mark.parametrize("heading", ["vsftpd", "ProFTPD", "Pure-FTPd"])
def test_the_tables_name_keys_that_there_are_with_values_that_fit(heading: str) -> None:
    for theirs, ours in second_column(SERVERS, heading):
        name, _, value = ours.partition(" = ")
        table, _, key = name.rpartition(".")
        assert key in TABLES[table], (theirs, ours)
        leaf = kind_of(TABLES[table][key].annotation) if value else None
        if leaf is not None:
            leaf.read(tomllib.loads(f"x = {value}")["x"])


def test_each_of_the_three_old_configurations_is_of_the_same_server() -> None:
    assert len(blocks(SERVERS, "toml")) == 1
    assert len(blocks(SERVERS, "")) == 3
    for old in blocks(SERVERS, ""):
        assert "203.0.113.7" in old
        assert "/etc/ssl/ftp/fullchain.pem" in old


def test_the_configuration_serves_its_user_and_anonymous_ones_over_tls_alone(
    tmp_path: Path,
) -> None:
    """Only directories and the port are not those of the page."""
    (text,) = blocks(SERVERS, "toml")
    directory = tmp_path / "srv" / "ftp"
    for name in ("alice", "pub"):
        (directory / name).mkdir(parents=True)
    (directory / "pub" / "file").write_bytes(b"content")
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(tmp_path / "privkey.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "fullchain.pem"))
    text = text.replace("/srv/ftp", str(directory)).replace("/etc/ssl/ftp/", "")
    text = text.replace("/var/log/ftpcluster/", "")
    with configured(tmp_path, text) as cluster:
        with protected(cluster.port) as session:
            assert session.welcome == "220 files.example.com"
            session.login("alice", "secret")
            session.prot_p()
            session.storbinary("STOR new", io.BytesIO(b"content"))
        with protected(cluster.port) as session:
            session.login("anonymous", "")
            session.prot_p()
            session.retrbinary("RETR file", (received := bytearray()).extend)
            with pytest.raises(ftplib.error_perm, match="550"):
                session.delete("file")
        with Dialogue(cluster.port) as client:
            client.says("USER alice", 530)
    assert (directory / "alice" / "new").read_bytes() == received == b"content"
    assert "/new b _ i r alice" in (tmp_path / "xferlog").read_text()


def protected(port: int) -> ftplib.FTP_TLS:
    session = ftplib.FTP_TLS(timeout=20)
    session.connect("127.0.0.1", port)
    return session


def shown_commands() -> list[str]:
    """What stands behind ``ftpcluster``, in a line of its own, behind ``runuser``, or in text."""
    pages = SERVERS + PROGRAMS
    lines = re.findall(r"^[#$] (?:.* -- )?ftpcluster (.+)$", pages, re.MULTILINE)
    return sorted({*lines, *re.findall(r"`ftpcluster (\w[^`]*)`", pages)})


def test_the_commands_that_matter_are_shown() -> None:
    assert {"check", "run", "hash"} <= {command.split()[0] for command in shown_commands()}


@pytest.mark.parametrize("command", shown_commands())
def test_the_commands_that_are_shown_are_there_with_these_options(command: str) -> None:
    name, *arguments = shlex.split(command)
    parsed = cli.commands[name]
    parsed.make_parser(parsed.make_context(name, [], resilient_parsing=True)).parse_args(arguments)


def test_the_flags_that_are_named_are_those_of_run() -> None:
    flags = {flag for option in cli.commands["run"].params for flag in option.opts}
    named = set(re.findall(r"`(--[a-z-]+)", SERVERS + PROGRAMS))
    assert "--implicit-tls-port" in named
    assert named <= flags


# ---------------------------------------------------------------------- passwords


def argon2i(password: str) -> str:
    hashed = argon2.low_level.hash_secret(
        password.encode(), b"0123456789abcdef", 1, 8, 1, 16, argon2.low_level.Type.I
    )
    return hashed.decode()


def bcrypted(prefix: str) -> Callable[[str], str]:
    def make(password: str) -> str:
        return prefix + bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()[4:]

    return make


def scrypted(password: str) -> str:
    assert password == "secret"
    return "$scrypt$ln=4,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$gEeb/KeWbm5g+kBQOFr1yJbkjBxxxDOkhSmrSXFFwOg"


OF_CRYPT = {
    "$y$": "$y$j9T$Di9T9LFtYxAVzJ4kCtCXO.$wITBgr5I77ez.nU.kqzYCIptzonhBNw9Cebrk4FSYn1",
    "$6$": "$6$gPzN1VdoF.5IHTKH$tnUIBV6LSeDVFq4fZ1ywOybOWC7KOQZ.QA/FUocd8S."
    "mPuGhPKYrFCeSfBtWs3MUcNUrs8PlV0wodwe0pxD400",
    "$5$": "$5$tShvLy9YRMyBSflN$WwPfLbi7VXFzFnFcSx1wn94EFzrf1t.ugnit7MfW0yB",
    "$1$": "$1$.d68QdAh$NZaITPZw6Jae.O1Q8WlsY.",
    "$7$": "$7$C6..../....Bgk8YtA9E81nO/3iIptc4Mg3l0F77BQF1hkhmj8JX55$"
    "B99zcBcbdSwrNSvJD7Hph2OnBy/jcxT6u6RmSk.icG0",  # libsodium's, which pure-pw takes
}
"""Hashes of "secret"."""

OF_TRADITIONAL_CRYPT = "wPxOpps4WpMOc"


def of_crypt(prefix: str, password: str) -> str:
    assert password == "secret"
    return OF_CRYPT[prefix]


TAKEN: dict[str, Callable[[str], str]] = {
    "$argon2id$": hash_password,
    "$argon2i$": argon2i,
    "$2a$": bcrypted("$2a$"),
    "$2b$": bcrypted("$2b$"),
    "$2y$": bcrypted("$2y$"),
    "$scrypt$": scrypted,
    **{prefix: functools.partial(of_crypt, prefix) for prefix in OF_CRYPT},
}


def rows_of_hashes(end: str) -> list[str]:
    rows = re.findall(rf"^\| (`\$.+) \| .+ \| {end}", SERVERS, re.MULTILINE)
    return re.findall(r"`(\$\w+\$)`", " ".join(rows))


def test_the_table_of_hashes_names_those_that_are_tested_here() -> None:
    assert rows_of_hashes("as it is") == list(TAKEN)
    assert rows_of_hashes(r"not: a new password \|") == ["$apr1$"]


def account(directory: Path, password: str) -> Path:
    file = directory / "ftpcluster.toml"
    file.write_text(f'[[user]]\nlogin = "alice"\npassword = "{password}"\nroot = "."\n')
    return file


@pytest.mark.parametrize("prefix", TAKEN)
def test_hashes_that_can_be_copied_are_taken_and_verify(tmp_path: Path, prefix: str) -> None:
    stored = TAKEN[prefix]("secret")
    assert stored.startswith(prefix)
    (user,) = load(account(tmp_path, stored), Flags()).users
    assert verify(user.password, "secret")
    assert not verify(user.password, "Secret")


@pytest.mark.parametrize("stored", [OF_TRADITIONAL_CRYPT, "$apr1$GxpoFL5N$uVLvYlxlFoEm8RSnPJcvJ/"])
def test_hashes_that_cannot_be_copied_are_refused_with_their_place(
    tmp_path: Path, stored: str
) -> None:
    said = r"toml:3: user\[0\]\.password: (expected a hash|a \$\w+\$ hash cannot be checked here)"
    with pytest.raises(ConfigError, match=said):
        load(account(tmp_path, stored), Flags())


@pytest.fixture
def crypted(tmp_path: Path) -> Path:
    """``crypted.py`` of the page, and where its file of users is to be."""
    (module,) = [each for each in blocks(SERVERS, "python") if each.startswith("# crypted.py\n")]
    file = tmp_path / "passwd"
    (tmp_path / "crypted.py").write_text(module.replace("/etc/ftpcluster/passwd", str(file)))
    return file


def lets_in(directory: Path, *names: str) -> None:
    """The manager lets each of them in with "secret", and nobody with something else."""
    text = f'user_manager = "crypted:Users"\nconfine_allow = {{ write = ["{directory}"] }}\n'
    with (
        configured(
            directory, text, env={"PYTHONPATH": f"{directory}:{PATH['PYTHONPATH']}"}
        ) as cluster,
        Dialogue(cluster.port) as client,
    ):
        for name in names:
            client.logs_in(name, "secret")
            client.uploads("STOR file", name.encode())
            assert (directory / name / "file").read_bytes() == name.encode()
        for name in (names[0], "nobody"):
            assert client.guesses(name, "Secret")[0] == 530


def test_the_user_manager_over_crypt_takes_every_other_hash(tmp_path: Path, crypted: Path) -> None:
    hashes = [*OF_CRYPT.values(), OF_TRADITIONAL_CRYPT, hash_password("secret")]
    crypted.write_text("# whoever edits it may say so\n\n")
    for number, stored in enumerate(hashes):
        (tmp_path / f"user{number}").mkdir()
        with crypted.open("a") as file:
            file.write(f"user{number}:{stored}:1000:1000::{tmp_path}/user{number}/./:::::\n")
    lets_in(tmp_path, *(f"user{number}" for number in range(len(hashes))))


@pytest.mark.parametrize("stored", ["", "*", "!", "x", "!$1$.d68QdAh$NZaITPZw6Jae.O1Q8WlsY."])
def test_the_user_manager_over_crypt_lets_nobody_in_whose_password_is_locked(
    crypted: Path, stored: str
) -> None:
    names: dict[str, Callable[[str, str], bool]] = {}
    exec((crypted.parent / "crypted.py").read_text(), names)
    for given in ("", "secret", stored):
        assert not names["verify"](stored, given)


def fake(directory: Path, name: str, script: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def shell(script: str, directory: Path) -> None:
    env = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-e", "-c", script], cwd=directory, env=env, timeout=60, check=True)


def test_the_lines_of_system_users_are_what_the_user_manager_reads(
    tmp_path: Path, crypted: Path
) -> None:
    (script,) = [each for each in blocks(SERVERS, "sh") if "getent" in each]
    fake(
        tmp_path,
        "getent",
        f"if [ $1 = shadow ]; then echo $2:'{OF_CRYPT['$y$']}:19700:0:99999:7:::'\n"
        f"else echo $2:x:1000:1000:,,,:{tmp_path}/$2:/bin/bash; fi",
    )
    fake(tmp_path, "chgrp", "exit 0")  # there need not be such a group
    for name in ("alice", "bob"):
        (tmp_path / name).mkdir()
    shell(script.replace("/etc/ftpcluster/passwd", str(crypted)), tmp_path)
    lets_in(tmp_path, "alice", "bob")


def test_the_line_of_shell_makes_tables_of_users(tmp_path: Path) -> None:
    need("awk")
    (script,) = [each for each in blocks(SERVERS, "sh") if "awk" in each]
    hashed = hash_password("secret")
    (tmp_path / "pureftpd.passwd").write_text(
        f"joe:{hashed}:1000:1000::{tmp_path}/./:512000:1024000:::3:::::::\n"
        f"bob:{hashed}:1001:1001::{tmp_path}:/bin/false\n"
    )
    (tmp_path / "ftpcluster.toml").write_text("workers = 1\n")
    shell(script, tmp_path)
    users = load(tmp_path / "ftpcluster.toml", Flags()).users
    assert [(user.login, user.password, user.root) for user in users] == [
        ("joe", hashed, str(tmp_path)),
        ("bob", hashed, str(tmp_path)),
    ]


# ---------------------------------------------------------------------- programs


def test_the_table_of_pyftpdlib_names_what_there_is() -> None:
    known = {"Server", *dir(ftpcluster.Server), "readable", "writable", "commands_mapping"}
    for each in (ftpcluster.Server, ftpcluster.User, ftpcluster.Permission):
        known |= set(inspect.signature(each).parameters)
    for theirs, ours in second_column(PROGRAMS, "pyftpdlib"):
        assert ours.partition("(")[0] in known, (theirs, ours)


def program(mark: str) -> str:
    (found,) = [each for each in blocks(PROGRAMS, "python") if re.search(mark, each, re.MULTILINE)]
    assert "port=2121" in found
    return found.replace("port=2121", "port=0")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str], tuple[int, subprocess.Popen[str]]]]:
    """Run a program in a directory of its own: its port, and the process."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str) -> tuple[int, subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", text], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        return int(process.stdout.readline().split()[-1]), process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_program_for_pyftpdlib_s_users_tells_of_whole_uploads_and_has_no_dele(
    tmp_path: Path, serve: Callable[[str], tuple[int, subprocess.Popen[str]]]
) -> None:
    port, process = serve(program("^import ftpcluster$"))
    assert process.stdout is not None
    with Dialogue(port, greeting=None) as client:
        assert client.expects(220) == "220 files.example.com"
        client.says("STOR file", 530)
        client.logs_in("alice", "secret")
        for content in (b"old", b"new"):
            client.uploads("STOR file", content)
            assert process.stdout.readline() == "received file\n"
        with client.begins("STOR file") as data:
            data.sendall(b"half")
            client.says("ABOR", 426)
            client.expects(226)
        client.says("DELE file", 500, 502)
        client.logs_in("anonymous", "")
        assert client.downloads("RETR file") == b"new"
        client.says("STOR file", 550, 553)
        client.logs_in("alice", "secret")
        client.uploads("STOR last", b"")
        assert process.stdout.readline() == "received last\n"  # and of no other since
    assert (tmp_path / "file").read_bytes() == b"new"


def test_the_class_for_pyftpdlib_s_users_runs_in_workers_without_the_server_s_limits(
    tmp_path: Path,
) -> None:
    text = program("^import ftpcluster$")
    limit = "            maximum_connections=512,\n"
    assert limit in text
    (tmp_path / "shop.py").write_text(text.replace(limit, ""))
    arguments = ("--server", "shop:Server", "--user", "alice:secret", "--writable")
    with (
        Cluster("--workers", "2", "--root", ".", *arguments, cwd=tmp_path, env=PATH) as cluster,
        Dialogue(cluster.port) as client,
    ):
        client.logs_in("alice", "secret")
        client.uploads("STOR file", b"content")
        client.says("DELE file", 500, 502)
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_program_of_aioftp_serves_with_the_import_replaced(
    tmp_path: Path, serve: Callable[[str], tuple[int, subprocess.Popen[str]]]
) -> None:
    text = program("^import aioftp$")
    (line,) = re.findall("`(import ftpcluster as aioftp)`", PROGRAMS)
    port, _ = serve(text.replace("import aioftp", line))
    with Dialogue(port) as client:
        client.logs_in("alice", "secret")
        client.uploads("STOR file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


# ---------------------------------------------------------------------- links


@pytest.mark.parametrize("page", ["moving.md", "moving-library.md"])
def test_the_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", (DOCS / page).read_text()):
        name, _, anchor = target.partition("#")
        file = DOCS / (name or page)
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {slug(each) for each in headings}, target


def slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
