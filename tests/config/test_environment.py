"""``FTPCLUSTER__SECTION__KEY``: what it lays over a file, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftpcluster.cli.flags import Flags
from ftpcluster.config import Config, ConfigError
from ftpcluster.config.environment import Environment, take_environment, value_of
from ftpcluster.config.load import admin_socket, load
from ftpcluster.config.setting import every_key, kind_of
from ftpcluster.config.sources import variable_of

SECRET = "s3cr3t"
ANYBODY = "[anonymous]\nroot = '.'\n"
COUNT = "a whole number, at least 1"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory. The file is in another one."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def variables(**given: str) -> Environment:
    return Environment({f"FTPCLUSTER__{name}": value for name, value in given.items()})


def loaded(text: str | None, environment: Environment, **flags: Any) -> Config:
    file = None if text is None else Path("../f.toml")
    if file is not None and text is not None:
        file.write_text(text)
    return load(file, Flags(**flags), environment=environment)


def refused(text: str | None, environment: Environment, **flags: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text, environment, **flags)
    assert SECRET not in str(caught.value)
    return [line.replace("../f.toml", "f.toml") for line in caught.value.lines]


# ---------------------------------------------------------------------- what it stands for


def test_it_wins_over_the_file_and_a_flag_wins_over_it() -> None:
    text = "workers = 5\n[limits]\nconnections = 1\nupload = 1\ndownload = 1\n" + ANYBODY
    environment = variables(LIMITS__CONNECTIONS="2", LIMITS__UPLOAD="2KB", WORKERS="4")
    config = loaded(text, environment, max_connections=3)
    limits = config.limits
    assert (limits.connections, limits.upload, limits.download) == (3, 2000, 1)
    assert config.workers == 4


def test_values_are_written_as_in_a_file_and_text_without_quotation_marks(here: Path) -> None:
    environment = variables(
        LOOP="asyncio",
        CONFINE="false",
        WELCOME="[hello] 5",
        LISTEN__0__ADDRESS="::1",
        LISTEN__0__PORT="2121",
        LISTEN__1__ADDRESS='["127.0.0.1", "127.0.0.2"]',
        LISTEN__1__PORT="2_122",
        DATA__MASQUERADE_FOR='{ "10.0.0.0/8" = "10.1.2.3" }',
        TIMEOUTS__IDLE="90",
        TIMEOUTS__LOGIN="2m",
        STORAGE__HIDE='[".*", "*.tmp"]',
        STORAGE__UMASK="027",
        BAN__ALLOW="[]",
        LOG__FILE="log",
        ANONYMOUS__ROOT=".",
        ANONYMOUS__PERMISSIONS="[{ path = '/', write = true }]",
    )
    config = loaded(None, environment)
    assert (config.loop, config.confine, config.welcome) == ("asyncio", False, "[hello] 5")
    assert [(each.address, each.port) for each in config.listen] == [
        (("::1",), 2121),
        (("127.0.0.1", "127.0.0.2"), 2122),
    ]
    assert config.data.masquerade_for == {"10.0.0.0/8": "10.1.2.3"}
    assert (config.timeouts.idle, config.timeouts.login) == (90, 120)
    assert (config.storage.hide, config.storage.umask) == ((".*", "*.tmp"), 0o27)
    assert config.ban.allow == ()
    assert config.log.file == str(here / "log")
    assert config.anonymous is not None
    assert [each.write for each in config.anonymous.permissions] == [True]


def test_it_changes_accounts_of_the_file_and_makes_some_without_a_file() -> None:
    text = "[[user]]\nlogin = 'alice'\npassword = 'plain:x'\nroot = '.'\n"
    (alice,) = loaded(text, variables(USER__0__CONNECTIONS="7")).users
    assert (alice.login, alice.connections) == ("alice", 7)
    bob = {
        "USER__0__LOGIN": "bob",
        "USER__0__PASSWORD": f"plain:{SECRET}",
        "USER__0__ROOT": ".",
    }
    for file in (None, ""):
        config = loaded(file, variables(**bob))
        assert [user.login for user in config.users] == ["bob"]
        assert config.anonymous is None


def test_a_whole_array_of_tables_may_be_given_and_single_keys_over_it() -> None:
    environment = variables(
        USER=f"[{{ login = 'a', password = 'plain:{SECRET}', root = '.' }}]",
        USER__0__LOGIN="b",
    )
    assert [user.login for user in loaded(None, environment).users] == ["b"]


def test_without_accounts_and_file_everybody_may_read_as_without_it() -> None:
    config = loaded(None, variables(LIMITS__CONNECTIONS="5"))
    assert config.anonymous is not None


def test_a_file_without_accounts_stays_refused() -> None:
    (line,) = refused("workers = 1\n", variables(LIMITS__CONNECTIONS="5"))
    assert line.startswith("f.toml:1: user: there are no accounts, so nobody could log in: ")
    assert loaded("workers = 1\n", variables(ANONYMOUS__ROOT=".")).anonymous is not None


def test_a_flag_replaces_an_account_whole() -> None:
    environment = variables(
        USER__0__LOGIN="alice", USER__0__PASSWORD="plain:x", USER__0__ROOT="/missing"
    )
    (alice,) = loaded(None, environment, user=(f"alice:{SECRET}",)).users
    assert alice.password == f"plain:{SECRET}"


@pytest.mark.parametrize(
    "path", [path for path, key in every_key(Config)], ids=lambda path: variable_of(path)
)
def test_every_key_has_a_variable(path: tuple[Any, ...]) -> None:
    """What none of them takes is refused under its name, so it has arrived."""
    lines = refused(None, Environment({variable_of(path): "\0"}))
    assert any(line.startswith(variable_of(path)) for line in lines), lines


def test_the_kinds_of_all_keys_read_what_a_file_would_have() -> None:
    kinds = {key.annotation for _, key in every_key(Config) if kind_of(key.annotation) is not None}
    assert {value_of(kind, "5") for kind in kinds} == {5, "5"}
    assert value_of(bool, "true") is True
    assert value_of(bool, "yes") == "yes"


# ---------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"LIMITS__CONNECTIONS": "many", "LIMITS__UPLOAD": "0"},
            [
                f'FTPCLUSTER__LIMITS__CONNECTIONS: expected {COUNT}, got "many"',
                "FTPCLUSTER__LIMITS__UPLOAD: expected bytes per second such as "
                '"10MB" or "10MiB", got 0',
            ],
        ),
        ({"CONFINE": "yes"}, ['FTPCLUSTER__CONFINE: expected true or false, got "yes"']),
        (
            {"LOOP": ""},
            ['FTPCLUSTER__LOOP: expected one of "uvloop", "asyncio", got ""'],
        ),
        (
            {"LIMITS__CONECTIONS": "5"},
            [
                "FTPCLUSTER__LIMITS__CONECTIONS: unknown key; did you mean "
                "FTPCLUSTER__LIMITS__CONNECTIONS?"
            ],
        ),
        (
            {"LISTEN__3__PROT": "5", "limits__upload": "5"},
            [
                "FTPCLUSTER__LISTEN__3__PROT: unknown key; did you mean "
                "FTPCLUSTER__LISTEN__3__PORT?",
                "FTPCLUSTER__limits__upload: unknown key; did you mean FTPCLUSTER__LIMITS__UPLOAD?",
            ],
        ),
        (
            {"LISTEN__1__PORT": "5"},
            [
                "FTPCLUSTER__LISTEN__1__PORT: expected FTPCLUSTER__LISTEN__0__PORT, as there are "
                "0 [[listen]] before it"
            ],
        ),
        (
            {"LISTEN__0__PORT": "5", "LISTEN__2__PORT": "5"},
            [
                "FTPCLUSTER__LISTEN__2__PORT: expected FTPCLUSTER__LISTEN__1__PORT, as there is "
                "1 [[listen]] before it"
            ],
        ),
        (
            {"ANONYMOUS__ROOT": ".", "ANONYMOUS__PERMISSIONS__1__PATH": "/"},
            [
                "FTPCLUSTER__ANONYMOUS__PERMISSIONS__1__PATH: expected "
                "FTPCLUSTER__ANONYMOUS__PERMISSIONS__0__PATH, as there are 0 "
                "[[anonymous.permissions]] before it"
            ],
        ),
        (
            {"USER__0__PERMISSIONS__1__PATH": "/"},
            [
                "FTPCLUSTER__USER__0__PERMISSIONS__1__PATH: expected "
                "FTPCLUSTER__USER__0__PERMISSIONS__0__PATH, as there are 0 [[user.permissions]] "
                "before it"
            ],
        ),
        (
            {"LISTEN__0__PORT": "5", "LISTEN__00__PORT": "6"},
            [
                "FTPCLUSTER__LISTEN__00__PORT: unknown key; did you mean "
                "FTPCLUSTER__LISTEN__0__PORT?"
            ],
        ),
        (
            {"PASSWORDS_OF_ALL": "5"},
            [
                "FTPCLUSTER__PASSWORDS_OF_ALL: unknown key; the keys are in docs/configuration.md",
            ],
        ),
        (
            {"STORAGE__HIDE": '["a"]\nforbid = ["b"]'},
            ["FTPCLUSTER__STORAGE__HIDE: expected an array: […], got text"],
        ),
        (
            {"STORAGE__HIDE": ".*"},
            ["FTPCLUSTER__STORAGE__HIDE: expected an array: […], got text"],
        ),
        (
            {"STORAGE__HIDE": '["a/b"]'},
            [
                'FTPCLUSTER__STORAGE__HIDE: [0]: expected a pattern of names, without "/", such '
                'as "*.tmp", got "a/b"'
            ],
        ),
        (
            {"USER__0__LOGIN": "alice", "USER__0__ROOT": "missing"},
            [
                "FTPCLUSTER__USER__0__ROOT: {here}/missing: there is no such directory",
                "FTPCLUSTER__USER__0__PASSWORD: is missing; expected a hash (`ftpcluster hash` "
                'makes one), or "plain:" with the password behind it',
            ],
        ),
        (
            {"USER": f"[{{ login = 'a', password = '{SECRET}', root = '.' }}]"},
            [
                "FTPCLUSTER__USER: [0].password: expected a hash (`ftpcluster hash` makes one), "
                'or "plain:" with the password behind it'
            ],
        ),
        ({"USER": f"alice:{SECRET}"}, ["FTPCLUSTER__USER: expected [[user]], got text"]),
        (
            {"DATA__PORTS": "50000-50001", "WORKERS": "3"},
            ["FTPCLUSTER__DATA__PORTS: 2 ports are too few for 3 workers"],
        ),
        (
            {"USER_MANAGER": "a:b", "ANONYMOUS__ROOT": "."},
            ["FTPCLUSTER__ANONYMOUS: has no effect, since user_manager knows the users"],
        ),
        (
            {"TLS__KEY": "k"},
            ["FTPCLUSTER__TLS__CERTIFICATE: is missing; expected the path of a file"],
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_variable(
    given: dict[str, str], says: list[str], here: Path
) -> None:
    lines = [line.replace(str(here), "{here}") for line in refused(None, variables(**given))]
    assert sorted(lines) == sorted(says)


def test_what_is_wrong_in_file_environment_and_flags_is_said_at_once() -> None:
    lines = refused(
        "workers = 'x'\n" + ANYBODY,
        variables(LIMITS__UPLOAD="fast", TIMEOUTS__IDEL="5"),
        data_ports="1",
    )
    assert lines == [
        'f.toml:1: workers: expected a whole number of workers from 1 to 1024, got "x"',
        "FTPCLUSTER__TIMEOUTS__IDEL: unknown key; did you mean FTPCLUSTER__TIMEOUTS__IDLE?",
        "--data-ports 1: expected a range such as 50000-50999",
        "FTPCLUSTER__LIMITS__UPLOAD: expected bytes per second such as "
        '"10MB" or "10MiB", got "fast"',
    ]


def test_it_mends_what_is_wrong_in_the_file_and_a_flag_mends_it() -> None:
    assert loaded("workers = 'x'\n" + ANYBODY, variables(WORKERS="2")).workers == 2
    assert loaded(ANYBODY, variables(WORKERS="x"), workers=2).workers == 2


# ---------------------------------------------------------------------- the process's own


def test_the_variables_are_taken_out_of_the_environment_and_shown_nowhere() -> None:
    environment = {"FTPCLUSTER__USER__0__PASSWORD": SECRET, "FTPCLUSTER_USER_BOB": "x", "HOME": "/"}
    taken = take_environment(environment)
    assert environment == {"FTPCLUSTER_USER_BOB": "x", "HOME": "/"}
    assert taken.names == ["FTPCLUSTER__USER__0__PASSWORD"]
    assert SECRET not in repr(taken)


def test_names_that_mean_a_key_and_have_another_prefix_are_doubtful() -> None:
    environment = {
        "FTPCLUSTER_LIMITS_CONNECTIONS": "5",
        "FTPCLUSTER_LIMITS__UPLOAD": "5",
        "ftpcluster__user__3__password": SECRET,
        "FTPCLUSTER_LISTEN_1_PORT": "5",
        # a user called manager, what Kubernetes sets, and what is somebody else's
        "FTPCLUSTER_USER_MANAGER": SECRET,
        "FTPCLUSTER_PORT": "tcp://10.0.0.1:21",
        "FTPCLUSTER_SERVICE_PORT": "21",
        "FTPCLUSTER_DATA": "/srv",
        "WORKERS": "3",
    }
    taken = take_environment(environment)
    assert list(taken.doubts()) == [
        "FTPCLUSTER_LIMITS_CONNECTIONS: has no effect; did you mean "
        "FTPCLUSTER__LIMITS__CONNECTIONS?",
        "FTPCLUSTER_LIMITS__UPLOAD: has no effect; did you mean FTPCLUSTER__LIMITS__UPLOAD?",
        "FTPCLUSTER_LISTEN_1_PORT: has no effect; did you mean FTPCLUSTER__LISTEN__1__PORT?",
        "ftpcluster__user__3__password: has no effect; did you mean FTPCLUSTER__USER__3__PASSWORD?",
    ]
    assert taken.names == []
    assert SECRET not in [value for name, value in environment.items() if "password" in name]


def test_the_admin_socket_is_found_whatever_else_is_wrong(here: Path) -> None:
    file = here / "f.toml"
    file.write_text("wrong = 1\n[admin]\nsocket = 'of the file'\n")
    assert admin_socket(file, Environment()) == str(here / "of the file")
    environment = variables(ADMIN__SOCKET="other", LIMITS__UPLOAD="fast", NONE="1")
    assert admin_socket(file, environment) == str(here / "other")
    assert admin_socket(None, environment) == str(here / "other")
    assert admin_socket(None, Environment()) is None
    table = variables(ADMIN="{ socket = 'in a table' }", LIMITS="{ upload = 'fast' }")
    assert admin_socket(file, table) == str(here / "in a table")
