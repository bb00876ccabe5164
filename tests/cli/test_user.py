"""``ftpcluster user``: users in files of their own, edited by command and by hand."""

from __future__ import annotations

import codecs
import contextlib
import errno
import fcntl
import grp
import json
import os
import pty
import pwd
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftpcluster.cli import user_directory
from ftpcluster.cli.user_accounts import UserDirectory
from ftpcluster.cli.user_directory import editing
from ftpcluster.cli.user_tables import created, edited, users_in
from ftpcluster.config import ConfigError, UserConfig
from ftpcluster.config.setting import keys
from ftpcluster.passwords import is_hash
from tests.support.cluster import Cluster
from tests.support.command import command
from tests.support.dialogue import Dialogue
from tests.support.forking import environment, fork

MAIN = """\
users = "users.d/*.toml"

[[group]]
name = "staff"
download = "10MB"
upload_per_connection = "1MB"

[user_defaults]
root = "pub"

[[user]]
login = "main"
password = "plain:x"
"""
ALICE = """\
# Alice, of the second floor

[[user]]
login = "alice"     # her name
password = "plain:x"

# as agreed in May
download = "5MB"    # a second
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a configuration, and no server."""
    (tmp_path / "users.d").mkdir(mode=0o750)
    (tmp_path / "pub").mkdir()
    (tmp_path / "ftpcluster.toml").write_text(
        f"{MAIN}\n[admin]\nsocket = {json.dumps(str(tmp_path / 'admin.sock'))}\n"
    )
    (tmp_path / "ftpcluster.toml").chmod(0o640)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def alice(here: Path, text: str = ALICE) -> Path:
    file = here / "users.d" / "alice.toml"
    file.write_text(text)
    return file


def user(*arguments: str | bytes, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return command("user", *arguments, cwd=Path.cwd(), stdin=stdin)


def refused(*arguments: str | bytes, stdin: str = "") -> str:
    """What the command says, which changes nothing, and exits with 2."""
    before = contents()
    done = user(*arguments, stdin=stdin)
    assert (done.returncode, done.stdout, contents()) == (2, "", before)
    assert all(line.startswith("ftpcluster: error: ") for line in done.stderr.splitlines())
    return done.stderr.replace("ftpcluster: error: ", "").strip()


def did(*arguments: str, stdin: str = "") -> list[str]:
    """The first lines of what the command says; the last says that no server is there."""
    done = user(*arguments, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, last = done.stdout.splitlines()
    assert last.startswith("no server was told, so it holds from the next start on: ")
    return lines


def contents() -> dict[str, bytes | str]:
    """The names in the directory of users, each with what is in it."""
    files = sorted(Path("users.d").iterdir()) if Path("users.d").exists() else []
    return {each.name: os.readlink(each) if each.is_symlink() else each.read_bytes()
            for each in files if not each.is_fifo()}  # fmt: skip


# ---------------------------------------------------------------------- what the commands do


def test_a_user_is_added_with_a_hash_and_the_mode_of_the_main_file(here: Path) -> None:
    options = ("--group", "staff", "--expires", "2027-01-31", "--allow", "192.0.2.0/24")
    permissions = '[{ path = "/", read = true }, { path = "/in", write = true }]'
    done = did("add", "bob", "--password-stdin", *options, "--permissions", permissions,
               "--connections", "8", "--enabled", "false", stdin="secret\nmore\n")  # fmt: skip
    assert done == ["users.d/bob.toml is written"]
    file = here / "users.d" / "bob.toml"
    lines = file.read_text().splitlines()
    assert lines[:2] == ["[[user]]", 'login = "bob"']
    assert is_hash(lines[2].removeprefix('password = "').removesuffix('"'))
    assert lines[3:] == [
        'group = "staff"',
        "connections = 8",
        "enabled = false",
        "expires = 2027-01-31",
        'allow = ["192.0.2.0/24"]',
        f"permissions = {permissions.replace('[{ ', '[{').replace(' }', '}').replace('{ ', '{')}",
    ]
    status, like = file.stat(), (here / "ftpcluster.toml").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o640, like.st_gid)
    assert os.listdir("users.d") == ["bob.toml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_has_the_main_file_s_group_and_keeps_its_owner(here: Path) -> None:
    os.chown("ftpcluster.toml", 0, 1)
    file = alice(here)
    os.chown(file, 2, 2)
    assert did("disable", "alice") == ["users.d/alice.toml is written"]
    assert (file.stat().st_uid, file.stat().st_gid) == (2, 1)


def test_comments_order_and_blank_lines_stay(here: Path) -> None:
    file = alice(here)
    assert did("set", "alice", "download=6MB", "root=pub") == ["users.d/alice.toml is written"]
    changed = ALICE.replace('"5MB"', '"6MB"') + f'root = "{here}/pub"\n'
    assert file.read_text() == changed, "a path is that of the command's directory"
    did("set", "alice", "--unset", "root", "--unset", "download")
    assert file.read_text() == ALICE.replace('download = "5MB"    # a second\n', "")


def test_users_are_disabled_and_enabled(here: Path) -> None:
    file = alice(here)
    did("disable", "alice")
    assert file.read_text() == ALICE + "enabled = false\n"
    did("enable", "alice")
    assert file.read_text() == ALICE + "enabled = true\n"


def test_another_password_replaces_the_hash_or_the_file_of_the_password(here: Path) -> None:
    Path("secret").write_text("x\n")
    text = "[[user]]\nlogin = 'alice'\npassword_file = '../secret'\n"
    file = alice(here, text)
    did("passwd", "alice", "--password-stdin", stdin="another\n")
    *rest, last = file.read_text().splitlines()
    assert rest == ["[[user]]", "login = 'alice'"]
    assert is_hash(last.removeprefix('password = "').removesuffix('"'))


def test_a_broken_account_may_be_changed_and_mended(here: Path) -> None:
    alice(here, ALICE + "root = '/nowhere/at/all'\n")
    did("disable", "alice")
    assert json.loads(user("list", "--json").stdout)[1]["problems"]
    did("set", "alice", "root=pub")
    assert not json.loads(user("list", "--json").stdout)[1]["problems"]


def test_a_user_is_removed(here: Path) -> None:
    alice(here)
    assert refused("remove", "alice") == (
        "remove alice: nobody is asked without a terminal: give --yes"
    )
    assert did("remove", "alice", "--yes") == ["users.d/alice.toml is removed"]
    assert contents() == {}


def test_other_commands_import_nothing_of_it() -> None:
    code = "import sys, ftpcluster.cli; print({'tomlkit', 'ftpcluster.cli.user'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert "  user  " in command("--help").stdout


def test_every_key_has_an_option_of_its_own(here: Path) -> None:
    said = user("add", "--help").stdout
    for name in keys(UserConfig).keys() - {"login", "password"}:
        assert f"--{name.replace('_', '-')} " in said, name


def test_all_users_are_listed_with_what_is_wrong(here: Path) -> None:
    alice(here, ALICE + "expires = 2030-01-01\ngroup = 'nobody'\n")
    where = "users.d/alice.toml:10: user[0].group"
    wrong = f'{where}: there is no [[group]] named "nobody"; there are "staff"'
    done = user("list")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(maxsplit=5) for line in done.stdout.splitlines()] == [
        ["LOGIN", "GROUP", "ENABLED", "EXPIRES", "IN", "WRONG"],
        ["main", "yes", "ftpcluster.toml:11"],
        ["alice", "nobody", "yes", "2030-01-01", "users.d/alice.toml:3", wrong],
    ]
    assert json.loads(user("list", "--json").stdout)[1] == {
        "login": "alice", "group": "nobody", "enabled": True, "expires": "2030-01-01",
        "in": "users.d/alice.toml:3", "problems": [wrong],
    }  # fmt: skip


def test_what_holds_for_a_user_is_shown_with_its_origin_and_without_the_password(
    here: Path,
) -> None:
    alice(here, ALICE.replace("plain:x", "plain:s3cr3t") + 'group = "staff"\n')
    done = user("show", "alice")
    told = user("show", "alice", "--json")
    assert "s3cr3t" not in done.stdout + told.stdout
    rows = [line.split("  ") for line in done.stdout.splitlines()]
    cells = {row[0]: [each.strip() for each in row[1:] if each] for row in rows}
    assert cells["download"] == ['"5MB"', "user", "users.d/alice.toml:8"]
    assert cells["root"] == [f'"{here}/pub"', "user_defaults", "ftpcluster.toml:9"]
    assert cells["upload_per_connection"] == ['"1MB"', "group", "ftpcluster.toml:6"]
    assert cells["download of all in staff"] == ['"10MB"', "group", "ftpcluster.toml:5"]
    assert cells["upload"] == ["no limit", "built in"]
    assert cells["permissions"] == ["everything may be read and written", "built in"]
    values = json.loads(told.stdout)["values"]
    assert values["download"] == {
        "value": 5_000_000, "from": "user", "where": "users.d/alice.toml:8"
    }  # fmt: skip
    assert values["password"]["value"] is None


# ---------------------------------------------------------------------- what is wrong


def test_what_would_make_a_broken_account_is_refused(here: Path) -> None:
    wrong = ("--root", "/nope", "--group", "nobody", "--download", "10XB", "--expires", "soon")
    assert refused("add", "bob", "--password-stdin", *wrong, stdin="x\n").splitlines() == [
        'bob: download: expected bytes per second such as "10MB" or "10MiB", got "10XB"',
        'bob: expires: expected a date such as 2027-01-31, got "soon"',
        'bob: group: there is no [[group]] named "nobody"; there are "staff"',
        "bob: root: /nope: there is no such directory",
    ]
    alice(here)
    assert refused("set", "alice", "root=/nope") == "alice: root: /nope: there is no such directory"
    assert refused("set", "alice", "connections=0") == (
        "alice: connections: expected a whole number, at least 1, got 0"
    )
    Path("ftpcluster.toml").write_text(f'roots = ["/usr"]\n{MAIN}')
    assert "is not beneath any of the `roots`" in refused("set", "alice", "root=pub")


def test_a_user_without_a_root_is_refused(here: Path) -> None:
    Path("ftpcluster.toml").write_text('users = "users.d/*.toml"\n')
    assert refused("add", "bob", "--password-stdin", stdin="x\n") == (
        "bob: root: is missing; expected the path of a directory"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "alice", "rot=/x"), 'rot: unknown key; did you mean "root"?'),
        (("set", "alice", "root"), "root: expected KEY=VALUE"),
        (("set", "alice"), "set alice: expected KEY=VALUE, or --unset KEY"),
        (("set", "alice", "root=a", "root=b"), "root: given twice"),
        (("set", "alice", "root=a", "--unset", "root"), "root: is set and removed: leave one out"),
        (
            ("set", "alice", "password=x"),
            "password: other users of the machine see arguments: `ftpcluster user passwd` asks "
            "for it",
        ),
        (
            ("set", "alice", "--unset", "login"),
            "login: a login stays: add another user, and remove this one",
        ),
        (("set", "alice", b"home=/\xff"), "home: not UTF-8, which a file has to be"),
        (("add", "bob"), "no password: give --password-stdin, with the password as its first line"),
        (("add", "bob", "--password-stdin"), "the password is empty"),
        (
            ("add", "bob", "--password-stdin", "--password-file", "x"),
            "--password-stdin: --password-file is given, too: leave one out",
        ),
        (
            ("show", "bob"),
            'there is no user "bob"; `ftpcluster user list` shows those that there are',
        ),
        (
            ("add", "a/b", "--password-stdin"),
            '"a/b" cannot be the name of a file: put that user into the main file by hand, or '
            "choose another name",
        ),
        (
            ("add", "a b", "--password-stdin"),
            "login: expected a name with no space, no colon and no control character in it",
        ),
        (
            ("add", b"\xff", "--password-stdin"),
            "login: expected a name with no space, no colon and no control character in it",
        ),
        (
            ("add", "x" * 251, "--password-stdin"),
            "login: is too long for the name of a file: at most 250 bytes",
        ),
        (
            ("disable", ".hidden"),
            'ftpcluster.toml:1: users: ".hidden.toml" would not be read, since it does not match '
            '"*.toml"; expected a pattern such as "users.d/*.toml"',
        ),
    ],
)
def test_wrong_arguments_say_what_to_do(
    here: Path, arguments: tuple[str | bytes, ...], said: str
) -> None:
    alice(here)
    stdin = "" if said == "the password is empty" else "x\n"
    assert refused(*arguments, stdin=stdin) == said


def test_a_user_who_stands_elsewhere_is_named_with_file_and_line(here: Path) -> None:
    (here / "users.d" / "team.toml").write_text("\n[[user]]\nlogin = 'bob'\npassword = 'plain:x'\n")
    elsewhere = '"{}" stands here; `ftpcluster user` changes {}.toml only: edit this by hand, or move that table there'  # noqa: E501
    for verb in (("disable",), ("remove", "--yes"), ("passwd", "--password-stdin")):
        assert refused(*verb, "main", stdin="x\n") == (
            "ftpcluster.toml:11: user[0]: " + elsewhere.format("main", "main")
        )
        assert refused(*verb, "bob", stdin="x\n") == (
            "users.d/team.toml:2: user[0]: " + elsewhere.format("bob", "bob")
        )
    assert refused("add", "main", "--password-stdin", stdin="x\n") == (
        'ftpcluster.toml:11: user[0]: "main" is there already'
    )


def test_a_file_with_several_users_is_not_removed_but_edited(here: Path) -> None:
    bob = "\n# Bob\n[[user]]\nlogin = 'bob'\npassword = 'plain:x'\n"
    file = alice(here, ALICE + bob)
    assert refused("remove", "alice", "--yes") == (
        'users.d/alice.toml: has other users, too: remove the table of "alice" by hand'
    )
    did("set", "alice", "connections=2")
    assert file.read_text() == ALICE + "connections = 2\n" + bob
    file.write_text(bob)
    assert refused("add", "alice", "--password-stdin", stdin="x\n") == (
        "users.d/alice.toml: is there already, and has other users: edit it by hand, or rename it"
    )


def test_a_login_that_is_there_twice_is_not_changed(here: Path) -> None:
    alice(here)
    (here / "users.d" / "b.toml").write_text(ALICE)
    assert refused("disable", "alice") == (
        '"alice" is there twice, users.d/alice.toml:3: user[0] and users.d/b.toml:3: user[0]: '
        "remove one of them by hand"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[[user]]\nlogin = 'main'\npassword = 'plain:x'\nroot = '.'\n",
            "ftpcluster.toml:1: users is not set, so there is no directory for files of users; add "
            'users = "users.d/*.toml" above the first table, and make that directory',
        ),
        (
            'users = "*/*.toml"\n',
            "ftpcluster.toml:1: users: names several directories, so a new file has no place; "
            'expected one with a pattern behind it, such as "users.d/*.toml"',
        ),
        (
            'users = "users.d/*.conf"\n',
            'ftpcluster.toml:1: users: "bob.toml" would not be read, since it does not match '
            '"*.conf"; expected a pattern such as "users.d/*.toml"',
        ),
        (
            'users = "no.d/*.toml"\n[user_defaults]\nroot = "pub"\n',
            "ftpcluster.toml:1: users: there is no directory no.d; `mkdir -m 750 no.d` makes it, "
            "and it needs the group of the main file",
        ),
        ("users = \n", "ftpcluster.toml:1: expected a value"),
    ],
)
def test_a_configuration_without_a_directory_for_users_says_what_is_missing(
    here: Path, text: str, said: str
) -> None:
    Path("ftpcluster.toml").write_text(text)
    assert refused("add", "bob", "--password-stdin", stdin="x\n").startswith(said)


def test_without_a_configuration_the_file_is_asked_for(here: Path) -> None:
    Path("ftpcluster.toml").unlink()
    assert refused("list") == (
        "there is no ftpcluster.toml here; name the configuration file of the server: -c FILE"
    )


def test_links_and_what_is_no_file_are_left_alone(here: Path) -> None:
    outside = here / "outside.toml"
    outside.write_text(ALICE)
    (here / "users.d" / "alice.toml").symlink_to(outside)
    assert refused("disable", "alice") == (
        "users.d/alice.toml: is a symbolic link, which is not followed: edit its target by hand, "
        "or put the file itself here"
    )
    assert refused("remove", "alice", "--yes").startswith("users.d/alice.toml: is a symbolic link")
    assert outside.read_text() == ALICE
    (here / "users.d" / "bob.toml").symlink_to(here / "new.toml")
    refused("add", "bob", "--password-stdin", stdin="x\n")
    assert not (here / "new.toml").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone is led elsewhere")
def test_root_writes_in_no_directory_of_another_user(here: Path) -> None:
    alice(here)
    os.chown("users.d", 65534, 0)
    assert refused("disable", "alice") == (
        f"ftpcluster.toml:1: users: {here}/users.d belongs to nobody, who could have root write "
        f"elsewhere: `chown root {here}/users.d`, or name another path"
    )


def test_what_cannot_be_edited_is_edited_by_hand(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"^f: is no TOML"):
        users_in("[[", "f")
    alice(here, "\N{BOM}" + ALICE.replace("\n", "\r\n"))
    did("set", "alice", "download=6MB", "upload=1MB")
    written = (here / "users.d" / "alice.toml").read_bytes().decode()
    assert written == (ALICE.replace('"5MB"', '"6MB"') + 'upload = "1MB"\n').replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("before", "values", "without", "after"),
    [
        ("user = [{login = 'a'}]\n", {"x": 1}, (), "user = [{login = 'a', x = 1}]\n"),
        ("[[user]]\nlogin = 'a'", {"x": [1]}, (), "[[user]]\nlogin = 'a'\nx = [1]\n"),
        (
            "[[user]]\nlogin = 'a'\n[[user.permissions]]\npath = '/'\n# end\n",
            {"permissions": [{"path": "/in", "write": True}], "x": "1"},
            (),
            '[[user]]\nlogin = \'a\'\npermissions = [{path = "/in", write = true}]\nx = "1"\n',
        ),
        (
            "[[user]]\nlogin = 'a'\n\n# rights\n[[user.permissions]]\npath = '/'\n",
            {"x": "1"},
            (),
            "[[user]]\nlogin = 'a'\nx = \"1\"\n\n# rights\n[[user.permissions]]\npath = '/'\n",
        ),
    ],
)
def test_all_ways_to_write_a_user_are_edited(
    before: str, values: dict[str, object], without: tuple[str, ...], after: str
) -> None:
    found = edited(before, "f", ("user", 0), values, without)
    assert tomllib.loads(found) == tomllib.loads(after)
    assert created("# a comment", {"login": "a"}) == '# a comment\n[[user]]\nlogin = "a"\n'


# ---------------------------------------------------------------------- who else is there


@pytest.fixture
def open_to_nobody(here: Path) -> Iterator[Path]:
    """The directory, where nobody may go, too."""
    with tempfile.TemporaryDirectory(prefix="ftpcluster-") as name:
        os.chmod(name, 0o755)
        whole = Path(name, "conf")
        shutil.copytree(here, whole)
        for each in (whole, *whole.rglob("*")):
            os.chmod(each, 0o755 if each.is_dir() else 0o644)
        yield whole


def as_nobody(directory: Path) -> str:
    """What nobody is told who writes the file of alice anew."""
    codecs.lookup("utf-8-sig")  # nobody may be unable to import it
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(grp.getgrnam("nogroup").gr_gid)
            os.setuid(pwd.getpwnam("nobody").pw_uid)
            with editing(opened(directory)) as found:
                old = found.read("alice.toml")
                found.write("alice.toml", "new", old and old[1], os.stat("ftpcluster.toml"))
        except ConfigError as error:
            os.write(theirs, str(error).encode())
        except BaseException as error:  # it has no other way out
            os.write(theirs, repr(error).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    os.waitpid(child, 0)
    with open(ours) as said:
        return said.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_files_and_directories_of_others_are_refused(
    open_to_nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(open_to_nobody)
    file = open_to_nobody / "users.d" / "alice.toml"
    file.write_text(ALICE)
    shutil.chown("ftpcluster.toml", group="nogroup")
    shutil.chown(file, "nobody")
    assert as_nobody(open_to_nobody) == (
        "f.toml:1: users: users.d cannot be written: Permission denied; nothing was changed"
    )
    shutil.chown("users.d", "nobody")
    shutil.chown(file, "root")
    assert as_nobody(open_to_nobody) == (
        "users.d/alice.toml: belongs to root: run this as root; nothing was changed"
    )
    shutil.chown(file, "nobody")
    shutil.chown("ftpcluster.toml", group="root")
    assert as_nobody(open_to_nobody) == (
        "users.d: a file in it has to have the group root, as the main file has, and only root or "
        "a member may give it that; nothing was changed"
    )
    assert os.listdir("users.d") == ["alice.toml"]
    assert file.read_text() == ALICE
    shutil.chown("ftpcluster.toml", group="nogroup")
    assert as_nobody(open_to_nobody) == ""
    assert file.read_text() == "new"


def test_several_at_once_lose_nothing(here: Path) -> None:
    file = alice(here)
    wanted = {"download": "7MB", "upload": "8MB", "connections": "9"}
    with open(os.devnull, "r+b") as nowhere:
        fds = [nowhere.fileno()] * 3
        started = [
            fork(["ftpcluster", "user", "set", "alice", f"{key}={value}"], environment({}), fds,
                 cwd=here)
            for key, value in wanted.items()
        ]  # fmt: skip
        assert [each.wait(60) for each in started if each is not None] == [0, 0, 0]
    found = tomllib.loads(file.read_text())["user"][0]
    assert {key: str(found[key]) for key in wanted} == wanted
    assert os.listdir("users.d") == ["alice.toml"]


def opened(here: Path) -> UserDirectory:
    return UserDirectory(str(here / "users.d"), "f.toml:1: users", None)


def test_a_lock_that_is_held_too_long_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_directory, "_PATIENCE", 0.05)
    fd = os.open("users.d", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(ConfigError, match=r"^users\.d: another command holds it for"):
        with editing(opened(here)):
            pass
    os.close(fd)
    with editing(opened(here)):
        pass


def test_what_an_editor_saved_meanwhile_is_not_lost(here: Path) -> None:
    file = alice(here)
    with editing(opened(here)) as directory:
        found = directory.read("alice.toml")
        assert found is not None
        file.write_text(ALICE + "connections = 1\n")
        for change in (
            lambda: directory.write("alice.toml", "", found[1], None),
            lambda: directory.remove("alice.toml", found[1]),
            lambda: directory.write("alice.toml", "", None, None),
        ):
            with pytest.raises(ConfigError, match="was changed meanwhile, by somebody else"):
                change()
    assert file.read_text() == ALICE + "connections = 1\n"
    assert os.listdir("users.d") == ["alice.toml"]


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_kill_leaves_the_old_file_and_the_next_command_clears_up(here: Path, call: str) -> None:
    file = alice(here)
    child = os.fork()
    if not child:
        try:
            setattr(os, call, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
            with editing(opened(here)) as directory:
                found = directory.read("alice.toml")
                directory.write("alice.toml", "new", found and found[1], os.stat("users.d"))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert file.read_text() == ALICE
    assert len(os.listdir("users.d")) == 2
    with editing(opened(here)):
        assert os.listdir("users.d") == ["alice.toml"]


def test_a_full_disk_leaves_the_old_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = alice(here)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with editing(opened(here)) as directory:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(
            ConfigError, match=r"users\.d cannot be written: No space left on device"
        ):
            directory.write("alice.toml", "new", file.stat(), None)
    assert contents() == {"alice.toml": ALICE.encode()}


# ---------------------------------------------------------------------- people and shells


def typed(here: Path, lines: list[str], *arguments: str) -> tuple[int, str]:
    """A command at a terminal: its exit code, and what it shows."""
    ours, theirs = pty.openpty()
    process = fork(
        ["ftpcluster", "user", *arguments], environment({}), [theirs] * 3, cwd=here,
        new_session=True,
    )  # fmt: skip
    assert process is not None
    shown = b""
    for line in lines:
        while not shown.endswith(b": "):
            shown += os.read(ours, 1000)
        shown += b"|"
        os.write(ours, f"{line}\n".encode())
    code = process.wait(60)
    os.close(theirs)
    try:
        while more := os.read(ours, 1000):
            shown += more
    except OSError:  # EIO: it is the end
        pass
    os.close(ours)
    return code, shown.decode().replace("\r\n", "\n")


def test_a_password_is_asked_for_twice_and_not_shown(here: Path) -> None:
    code, shown = typed(here, ["s3cr3t", "s3cr3t"], "add", "bob")
    assert (code, "s3cr3t" in shown) == (0, False)
    assert "Password: |" in shown
    assert "Once more: |" in shown
    assert 'login = "bob"' in Path("users.d/bob.toml").read_text()
    code, shown = typed(here, [], "add", "carol", "--root", "/nope")
    assert (code, "Password" in shown) == (2, False), "nobody types one in vain"
    assert typed(here, ["n"], "remove", "bob")[0] == 130
    assert list(contents()) == ["bob.toml"]
    assert typed(here, ["y"], "remove", "bob")[0] == 0
    assert contents() == {}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ftpcluster user s", ["set", "show"]),
        ("ftpcluster user show a", ["alice"]),
        ("ftpcluster user set alice do", ["download=", "download_per_connection="]),
        ("ftpcluster user set alice group=", ["group=staff"]),
        ("ftpcluster user set alice enabled=f", ["enabled=false"]),
        ("ftpcluster user set alice --unset exp", ["expires"]),
        ("ftpcluster user add bob --group s", ["staff"]),
    ],
)
def test_a_shell_completes_logins_keys_and_values(here: Path, line: str, words: list[str]) -> None:
    alice(here)
    given = shlex.split(line)
    done = command(
        cwd=here,
        env={
            "_FTPCLUSTER_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(given) - 1),
        },
    )
    assert [each.partition(",")[2] for each in done.stdout.splitlines()] == words


# ---------------------------------------------------------------------- the server


@contextlib.contextmanager
def a_server_that_says(here: Path, reply: str) -> Iterator[list[str]]:
    """A socket at which each request gets the same reply."""
    asked: list[str] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(here / "admin.sock"))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rw") as lines:
                asked.append(lines.readline())
                if reply:
                    lines.write(reply + "\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield asked
        thread.join(60)
    (here / "admin.sock").unlink()


def test_a_server_that_refuses_is_said_and_the_file_stays(here: Path) -> None:
    file = alice(here)
    refusal = '{"type": "refused", "text": "not in force: no root"}'
    with a_server_that_says(here, refusal) as asked:
        done = user("disable", "alice")
    assert (done.returncode, done.stdout) == (1, "users.d/alice.toml is written\n")
    assert done.stderr == (
        "ftpcluster: error: users.d/alice.toml is written, but that is not in force: no root\n"
    )
    assert json.loads(asked[0]) == {"type": "changed_user", "login": "alice"}
    assert file.read_text() == ALICE + "enabled = false\n"
    with a_server_that_says(here, ""):
        done = user("enable", "alice")
    assert (done.returncode, done.stdout) == (1, "users.d/alice.toml is written\n")
    assert done.stderr == (
        "ftpcluster: error: users.d/alice.toml is written, but that is not in force: the server at "
        f"{here}/admin.sock has ended\n"
    )


def test_a_running_server_takes_a_change_at_once(here: Path) -> None:
    Path("ftpcluster.toml").write_text(MAIN + '[[listen]]\naddress = "127.0.0.1"\nport = 0\n')
    with Cluster("--config", "ftpcluster.toml", "--workers", "1", hosts=None, cwd=here) as cluster:
        of_server = ("--socket", cluster.admin)
        done = user("add", "bob", "--password-stdin", *of_server, stdin="secret\n")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("users.d/bob.toml is written\n")
        with Dialogue(cluster.port) as session:
            session.logs_in("bob", "secret")
            assert user("disable", "bob", *of_server).returncode == 0
            assert session.reply()[0] == 421
        with Dialogue(cluster.port) as session:
            session.says("USER bob", 331)
            session.says("PASS secret", 530)
