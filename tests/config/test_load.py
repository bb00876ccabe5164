"""A file and flags → Config: what wins, and what paths are relative to."""

from __future__ import annotations

import itertools
import os
import pickle
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from ftpcluster.cli.flags import Flags, take_passwords
from ftpcluster.config import Config, ConfigError, Listen
from ftpcluster.config.example import example
from ftpcluster.config.load import load
from ftpcluster.config.model import available_cores
from ftpcluster.config.sources import Sources
from ftpcluster.config.warnings import warnings
from ftpcluster.protocol.protection import Protection
from tests.config.keys import TABLES, table_text

SECRET = "s3cr3t"
ALICE = f"[[user]]\nlogin = 'alice'\npassword = 'plain:{SECRET}'\nroot = '.'\n"
ANYBODY = "[anonymous]\nroot = '.'\n"
BCRYPT = "$2b$04$" + "a" * 21 + "u" + "a" * 31
KEY_OR_TABLE = re.compile(r"# (\w+ = |\[|  \{|\])")
EXAMPLE = example()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory. The file is in another one."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The directory of the file."""
    directory = tmp_path / "there"
    directory.mkdir()
    return directory


def loaded(text: str, there: Path, **flags: Any) -> Config:
    file = there / "f.toml"
    file.unlink(missing_ok=True)  # to truncate one makes some file systems write it to disk
    file.write_text(text)
    return load(file, Flags(**flags))


def refused(text: str, there: Path, **flags: Any) -> list[str]:
    """The errors of a file; none where there is nothing wrong."""
    try:
        loaded(text, there, **flags)
    except ConfigError as error:
        return [line.replace(f"{there}/", "") for line in error.lines]
    return []


# ---------------------------------------------------------------------- without and with a file


def test_a_file_with_nothing_in_it_is_none_where_flags_name_who_may_log_in(there: Path) -> None:
    for flags in ({"user": ("a:b",)}, {"anonymous": True}):
        assert loaded("# nothing\n", there, port=5, **flags) == load(None, Flags(port=5, **flags))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "# workers = 2\n",
        "\ufeff# only a byte order mark\n",
        "workers = 2\n[[listen]]\nport = 2121\n",
        ALICE.replace("[", "# [").replace("\n", "\n# "),
        "# [anonymous]\n# root = '.'\n[limits]\nconnections = 5\n",
    ],
)
def test_a_file_that_names_nobody_is_refused(text: str, there: Path) -> None:
    """It was cut off or emptied: nobody is to read the directory that the server was started in."""
    (line,) = refused(text, there)
    assert re.match(r"f\.toml:1: user: there are no accounts, so nobody could log in: ", line)
    (line, *others) = refused(text, there, root=Path())
    assert line.startswith("--root .: there is no account that would have it beside ")
    assert not others


def test_users_that_are_an_empty_array_are_refused(there: Path) -> None:
    (line,) = refused("user = []\n", there)
    assert line.startswith("f.toml:1: user: expected at least one")


def test_a_misspelt_table_of_users_is_what_is_wrong(there: Path) -> None:
    (line,) = refused(ALICE.replace("user", "usr"), there)
    assert line.startswith("f.toml:1: usr: unknown key")


def test_users_that_flags_give_are_accounts_beside_a_file_that_has_none(there: Path) -> None:
    config = loaded("workers = 2\n", there, user=("bob:b",))
    assert ([user.login for user in config.users], config.anonymous) == (["bob"], None)
    assert loaded("", there, anonymous=True).anonymous is not None


def test_without_anything_everybody_may_read_the_current_directory(here: Path) -> None:
    config = load(None, Flags())
    assert config.anonymous is not None
    assert config.anonymous.root == str(here)
    assert [(each.path, each.write) for each in config.anonymous.permissions] == [("/", False)]
    assert (config.users, config.listen) == ((), (Listen(),))
    assert config.listen[0].port == (21 if os.geteuid() == 0 else 2121)
    assert config.workers == available_cores()


@pytest.mark.parametrize(
    "text",
    [ALICE, "user_manager = 'a:b'\n", "server = 'a:b'\n"],
    ids=["user", "user_manager", "server"],
)
def test_nobody_is_anonymous_where_the_file_says_who_there_is(text: str, there: Path) -> None:
    assert loaded(text, there).anonymous is None


def test_a_server_class_of_the_flags_gets_anonymous_users_only_without_a_file(there: Path) -> None:
    assert load(None, Flags(server="a:b")).anonymous is not None
    assert loaded("", there, server="a:b").anonymous is None


def test_what_the_file_names_is_relative_to_the_file_and_what_flags_name_is_not(
    here: Path, there: Path
) -> None:
    (there / "alice").mkdir()
    text = ALICE.replace("'.'", "'{login}'")
    config = loaded(text, there, user=("bob:b",))
    assert [user.root for user in config.users] == [str(there / "alice"), str(here)]


def test_login_stands_for_the_name_in_root_and_home(there: Path) -> None:
    (there / "of alice").mkdir()
    config = loaded(ALICE.replace("'.'", "'of {login}'\nhome = '/{login}/'"), there)
    assert config.users[0].root == str(there / "of alice")
    assert config.users[0].home == "/alice"


def test_links_in_a_root_that_others_control_are_followed_once(there: Path) -> None:
    """Ours and root's stay what they are: who points one elsewhere has the other served."""
    (there / "real").mkdir()
    (there / "link").symlink_to("real")
    text = ALICE.replace("'.'", "'link'")
    assert loaded(text, there).users[0].root == str(there / "link")
    if os.geteuid() == 0:
        os.chown(there / "link", 1234, 1234, follow_symlinks=False)
        assert loaded(text, there).users[0].root == str(there / "real")


def test_an_account_that_cannot_be_served_harms_no_other(there: Path) -> None:
    """“a warning …, everyone else is served”; unless nobody is left."""
    broken = "[[user]]\nlogin = 'bob'\npassword = 'plain:b'\nroot = '/nowhere/at/all'\n"
    doubts: list[str] = []

    def note(_: Config, sources: Sources) -> None:
        doubts.extend(sources.doubts)

    (there / "f.toml").write_text(ALICE + broken)
    config = load(there / "f.toml", Flags(), note)
    assert [user.root for user in config.users] == [str(there), "/nowhere/at/all"]
    (doubt,) = doubts
    assert doubt.startswith(f"{there}/f.toml:")
    assert "user[1].root: /nowhere/at/all: there is no such directory" in doubt
    for text in (broken, "strict_users = true\n" + ALICE + broken):
        (there / "f.toml").write_text(text)
        with pytest.raises(ConfigError, match="there is no such directory"):
            load(there / "f.toml", Flags())


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(there: Path) -> None:
    text = "\ufeffworkers = 3\nloop = 'asyncio'\n" + ANYBODY
    (there / "f.toml").write_bytes(text.replace("\n", "\r\n").encode())
    config = load(there / "f.toml", Flags())
    assert (config.workers, config.loop) == (3, "asyncio")


def test_loading_again_gives_the_same_and_changes_nothing_of_the_process(there: Path) -> None:
    environment = {"FTPCLUSTER_USER_BOB": SECRET, "OTHER": "x"}
    users = ("bob",)
    flags = Flags(user=users, passwords=take_passwords(environment))
    assert environment == {"OTHER": "x"}
    (there / "f.toml").write_text(ALICE)
    before = dict(os.environ), os.getcwd()
    first = load(there / "f.toml", flags)
    assert first == load(there / "f.toml", flags)
    assert [user.password for user in first.users] == [f"plain:{SECRET}"] * 2
    assert (dict(os.environ), os.getcwd()) == before


def test_a_configuration_reaches_other_processes_whole_and_shows_no_password(there: Path) -> None:
    flags = Flags(user=(f"bob:{SECRET}",))
    (there / "f.toml").write_text(ALICE + "[[listen]]\ntls = 'off'\n")
    config = load(there / "f.toml", flags)
    assert pickle.loads(pickle.dumps(config)) == config
    assert SECRET not in repr(config)
    assert SECRET not in repr(flags)


# ---------------------------------------------------------------------- flags win


def test_flags_win_over_the_file(there: Path) -> None:
    text = (
        "workers = 3\nloop = 'uvloop'\n[limits]\nconnections = 5\ndownload = 1\nupload = 7\n"
        "[data]\nports = '50000-50009'\nmasquerade = '1.1.1.1'\n"
        "masquerade_for = { '10.0.0.0/8' = '1.1.1.2', '11.0.0.0/8' = '1.1.1.3' }\n"
        "[log]\nlevel = 'error'\n"
    )
    config = loaded(
        text + ANYBODY,
        there,
        workers=2,
        loop="asyncio",
        max_connections=6,
        download_limit="2KB",
        data_ports="50010-50019",
        masquerade=("2.2.2.2", "10.0.0.0/8=2.2.2.3"),
        log_level="debug",
    )
    assert (config.workers, config.loop, config.log.level) == (2, "asyncio", "debug")
    limits = config.limits
    assert (limits.connections, limits.download, limits.upload) == (6, 2000, 7)
    assert (config.data.ports, config.data.masquerade) == ((50010, 50019), "2.2.2.2")
    assert config.data.masquerade_for == {"10.0.0.0/8": "2.2.2.3", "11.0.0.0/8": "1.1.1.3"}


def test_user_replaces_the_one_of_that_login_and_adds_others(there: Path) -> None:
    text = ALICE + "connections = 3\n" + ALICE.replace("alice", "carol")
    config = loaded(text, there, user=("bob:b", "alice:new"), max_connections_per_user=9)
    assert [(user.login, user.password) for user in config.users] == [
        ("alice", "plain:new"),
        ("carol", f"plain:{SECRET}"),
        ("bob", "plain:b"),
    ]
    assert [user.connections for user in config.users] == [9, 9, 9]
    assert [each.write for user in config.users for each in user.permissions] == [
        False,
        True,
        False,
    ]


def test_limits_per_user_hold_for_anonymous_users_too(there: Path) -> None:
    text = "[anonymous]\nroot = '.'\nupload = 5\n"
    config = loaded(text, there, download_limit_per_user="1KB")
    assert config.anonymous is not None
    assert (config.anonymous.download, config.anonymous.upload) == (1000, 5)


def test_anonymous_and_root_are_one_with_the_table(here: Path, there: Path) -> None:
    text = "[anonymous]\nroot = '.'\nconnections = 5\n"
    config = loaded(text, there, anonymous=True)
    assert config.anonymous is not None
    assert (config.anonymous.root, config.anonymous.connections) == (str(there), 5)
    config = loaded(text, there, anonymous=True, root=Path())
    assert config.anonymous is not None
    assert (config.anonymous.root, config.anonymous.connections) == (str(here), 5)


def test_a_root_that_nobody_would_have_is_refused(there: Path) -> None:
    (line,) = refused(ALICE, there, root=Path("/srv"))
    assert line.startswith("--root /srv: the accounts of ")
    (line,) = refused("server = 'a:b'\n", there, root=Path("/srv"))
    assert line.startswith("--root /srv: there is no account that would have it")


@pytest.mark.parametrize(
    ("flag", "given"),
    [
        ("--user", {"user": (f"a:{SECRET}",)}),
        ("--anonymous", {"anonymous": True}),
        ("--writable", {"writable": True}),
        ("--root", {"root": Path("/tmp")}),
        ("--max-connections-per-user", {"max_connections_per_user": 1}),
        ("--download-limit-per-user", {"download_limit_per_user": "2MB"}),
        ("--upload-limit-per-user", {"upload_limit_per_user": "2MB"}),
    ],
)
@pytest.mark.parametrize("where", ["file", "flag"])
def test_a_flag_about_accounts_is_refused_where_a_user_manager_knows_them(
    flag: str, given: dict[str, Any], where: str, there: Path
) -> None:
    text = "user_manager = 'a:b'\n" if where == "file" else ""
    flags = given if where == "file" else {**given, "user_manager": "a:b"}
    assert refused(text, there, **flags) == [
        f"{flag}: has no effect, since user_manager knows the users: leave it out; "
        "directories, permissions and limits are those of the users that it makes"
    ]


def test_accounts_of_a_file_are_refused_where_a_flag_names_a_user_manager(there: Path) -> None:
    assert refused(ALICE, there, user_manager="a:b") == [
        "f.toml:1: user: has no effect, since user_manager knows the users"
    ]


def test_limits_of_the_whole_server_go_with_a_user_manager(there: Path) -> None:
    flags = {"max_connections": 1, "max_connections_per_address": 1, "upload_limit": "1MB"}
    assert loaded("", there, user_manager="a:b", **flags).limits.connections == 1


def test_a_hash_of_a_flag_that_cannot_be_checked_is_no_plain_password(there: Path) -> None:
    assert refused("", there, user=(f"bob:$apr1${SECRET}$def",)) == [
        "--user bob: a $apr1$ hash cannot be checked here: a new password, see docs/moving.md"
    ]


def test_a_port_of_a_flag_among_the_data_ports_is_refused(there: Path) -> None:
    assert refused("", there, port=50000, data_ports="50000-50999") == [
        "--data-ports 50000-50999: the server itself listens on port 50000, which is among them: "
        "give others, or let it listen on another one"
    ]
    assert refused(ANYBODY, there, port=50000, data_ports="50001-51000") == []


def ports(config: Config) -> list[tuple[tuple[str, ...], int, Protection]]:
    return [(each.address, each.port, each.tls) for each in config.listen]


@pytest.fixture
def certificate(there: Path) -> Path:
    path = there / "server.pem"
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


def test_host_and_port_are_those_of_the_first_listener_that_is_not_implicit(
    there: Path, certificate: Path
) -> None:
    text = (
        "[[listen]]\nport = 990\ntls = 'implicit'\n[[listen]]\nport = 21\ntls = 'off'\n"
        "[[listen]]\nport = 22\n[tls]\ncertificate = 'server.pem'\n" + ANYBODY
    )
    config = loaded(text, there, port=0, host=("::1", "127.0.0.1"), implicit_tls_port=991)
    assert ports(config) == [
        ((), 991, Protection.IMPLICIT),
        (("::1", "127.0.0.1"), 0, Protection.OFF),
        ((), 22, Protection.EXPLICIT),
    ]


def test_a_new_listener_with_implicit_tls_listens_where_the_other_does(
    there: Path, certificate: Path
) -> None:
    config = load(
        None,
        Flags(
            host=("127.0.0.1",),
            port=5,
            implicit_tls_port=6,
            tls_cert=certificate,
            proxy_protocol=("10.0.0.0/8",),
        ),
    )
    assert ports(config) == [
        (("127.0.0.1",), 5, Protection.EXPLICIT),
        (("127.0.0.1",), 6, Protection.IMPLICIT),
    ]
    assert [each.proxy_protocol for each in config.listen] == [("10.0.0.0/8",)] * 2


def test_a_certificate_of_a_flag_comes_with_its_key(there: Path, certificate: Path) -> None:
    text = "[tls]\ncertificate = 'no.pem'\nkey = 'no.key'\nrequired_data = true\n"
    config = loaded(text + ANYBODY, there, tls_cert=certificate, require_tls=True)
    assert config.tls is not None
    assert (config.tls.certificate, config.tls.key_file) == (str(certificate), str(certificate))
    assert (config.tls.required, config.tls.required_data) == (True, True)


def test_what_is_wrong_in_the_file_and_in_flags_is_said_at_once(there: Path) -> None:
    lines = refused(
        "limits = 5\nworkers = 'x'\n" + ALICE + "upload = 'x'\n",
        there,
        max_connections=0,
        user=("bob",),
        data_ports="1",
        upload_limit_per_user="y",
        proxy_protocol=("a", "10.0.0.0/8", "b"),
    )
    assert lines == [
        "f.toml:1: limits: expected [limits], got 5",
        'f.toml:2: workers: expected a whole number of workers from 1 to 1024, got "x"',
        "--user bob: no password; give bob:PASSWORD or set FTPCLUSTER_USER_BOB",
        '--proxy-protocol a: expected a network such as "10.0.0.0/8"',
        '--proxy-protocol b: expected a network such as "10.0.0.0/8"',
        "--data-ports 1: expected a range such as 50000-50999",
        '--upload-limit-per-user y: expected bytes per second such as "10MB" or "10MiB"',
    ]


def test_a_flag_mends_what_is_wrong_in_the_file(there: Path) -> None:
    assert loaded("workers = 'x'\n" + ANYBODY, there, workers=2).workers == 2


# ---------------------------------------------------------------------- warnings


def doubts(file: Path, **flags: Any) -> list[str]:
    found: list[str] = []
    load(file, Flags(**flags), lambda config, tree: found.extend(warnings(config, tree)))
    return found


@pytest.mark.parametrize(
    ("mode", "password", "says"),
    [
        (0o600, f"plain:{SECRET}", None),
        (0o640, f"plain:{SECRET}", "its group may read the passwords"),
        (0o644, f"plain:{SECRET}", "others may read the passwords"),
        (0o640, BCRYPT, None),
        (0o644, BCRYPT, "others may read the password hashes"),
        (0o644, None, None),
    ],
)
def test_a_file_whose_passwords_others_may_read_is_warned_of(
    mode: int, password: str | None, says: str | None, there: Path
) -> None:
    text = ANYBODY if password is None else ALICE.replace(f"plain:{SECRET}", password)
    file = there / "f.toml"
    file.write_text(text)
    file.chmod(mode)
    lines = doubts(file)
    assert len(lines) == (says is not None)
    for line in lines:
        assert f"{file}: {says}" in line
        assert "chmod" in line
        assert SECRET not in line


def test_a_password_of_a_flag_does_not_stand_in_the_file(there: Path) -> None:
    file = there / "f.toml"
    file.write_text("workers = 1\n")
    file.chmod(0o644)
    assert doubts(file, user=(f"alice:{SECRET}",)) == []


def test_a_password_of_the_file_stands_there_also_where_a_flag_replaces_it(there: Path) -> None:
    file = there / "f.toml"
    file.write_text(ALICE)
    file.chmod(0o644)
    (line,) = doubts(file, user=(f"alice:{BCRYPT}",))
    assert "others may read the passwords in it" in line


def test_a_command_that_is_to_be_copied_has_names_quoted(there: Path) -> None:
    file = there / "it's mine.toml"
    file.write_text(ALICE)
    file.chmod(0o644)
    (line,) = doubts(file)
    assert line.endswith(f"`{shlex.join(('chmod', '600', str(file)))}`")


# ---------------------------------------------------------------------- anything at all

ODD = (
    "0", "-1", "1", "4294967296", "1.5", "nan", "true", "''", "'x'", "'\\u0000'", '"\\u0000"',
    "'/'", "'a:b'", "'127.0.0.1'", "'10MB'", "'{login}'", "[]", "[1]", "['x']", "[[]]", "[{}]",
    "{}", "{ x = 1 }", "{ x = {} }", "1979-05-27", "1979-05-27T07:32:00Z", "07:32:00",
)  # fmt: skip


def everything_odd() -> Iterator[str]:
    """Each odd value at each key, and in the place of each table."""
    for table, keys in TABLES.items():
        for key in keys:
            for value in ODD:
                yield table_text(table, {key: value})
        for value in ODD if table else ():
            yield f"{table.partition('.')[0]} = {value}\n"


EVERY_FLAG: dict[str, Any] = {
    "workers": 2, "host": ("::1",), "port": 0, "user": ("a:b", "x:y"), "anonymous": True,
    "data_ports": "50000-50999", "masquerade": ("1.2.3.4", "10.0.0.0/8=1.2.3.4"),
    "proxy_protocol": ("10.0.0.0/8",), "max_connections": 1, "max_connections_per_user": 1,
    "upload_limit": "1MB", "upload_limit_per_user": "1MB", "require_tls": True,
    "tls_key": Path("key.pem"), "implicit_tls_port": 0, "loop": "asyncio", "log_level": "info",
}  # fmt: skip


def test_every_file_is_a_configuration_or_has_its_errors_said_with_lines(there: Path) -> None:
    outcomes = {True: 0, False: 0}
    for text in everything_odd():
        tomllib.loads(text)  # it is TOML
        lines = refused(text, there)
        outcomes[not lines or "there are no accounts" in lines[0]] += 1
        for line in lines:
            assert re.match(r"f\.toml:\d+: \S", line), (text, line)
    assert min(outcomes.values()) > 40


@pytest.mark.parametrize(
    # 8 and the number of odd values have no divisor in common: some of them stand at each key
    "step",
    [8, pytest.param(1, marks=pytest.mark.slow)],
)
def test_every_file_is_a_configuration_or_has_its_errors_said_also_with_all_flags(
    there: Path, step: int
) -> None:
    for text in itertools.islice(everything_odd(), 0, None, step):
        for line in refused(text, there, **EVERY_FLAG):
            assert line.startswith(("f.toml:", "--")), (text, line)


# ---------------------------------------------------------------------- the example


def test_the_example_has_every_key_and_no_other(there: Path) -> None:
    """With all its lines uncommented nothing is wrong but files that are not there."""
    text = "\n".join(
        "" if line.startswith("#") and not KEY_OR_TABLE.match(line) else line.removeprefix("# ")
        for line in EXAMPLE.splitlines()
    )
    tree = tomllib.loads(text)
    for table, keys in TABLES.items():
        found: Any = tree
        for name in table.split(".") if table else ():
            found = found[name]
            found = found[0] if isinstance(found, list) else found
        if table == "anonymous":  # which has the keys of [[user]]
            assert set(found) == {"root", "permissions"}
        else:
            assert set(keys) <= set(found), table
    lines = refused(text, there)
    known = (
        "no such directory",
        "No such file",
        "no such file",
        "there is no user ftp",
        "user_manager knows",
    )
    assert not [line for line in lines if not any(words in line for words in known)], lines


@pytest.mark.parametrize(
    ("text", "allow"),
    [
        ("", ("127.0.0.0/8", "::1/128")),
        ("allow = []", ()),
        ("allow = ['192.0.2.7', '2001:db8::/32']", ("192.0.2.7/32", "2001:db8::/32")),
    ],
)
def test_the_networks_that_are_never_banned_may_be_none(
    tmp_path: Path, text: str, allow: tuple[str, ...]
) -> None:
    file = tmp_path / "f.toml"
    file.write_text(f"[ban]\n{text}\n{ANYBODY}")
    assert load(file, Flags()).ban.allow == allow
