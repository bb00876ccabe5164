"""Where the settings of accounts come from, and what becomes of accounts that are wrong."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest

from ftpcluster.cli.flags import Flags
from ftpcluster.config import Config, ConfigError
from ftpcluster.config.accounts import BrokenUser, UserConfig
from ftpcluster.config.environment import Environment
from ftpcluster.config.load import load
from ftpcluster.config.sources import Sources
from ftpcluster.config.warnings import warnings

GOOD = "[[user]]\nlogin = 'good'\npassword = 'plain:x'\nroot = '.'\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(text: str, environment: dict[str, str] | None = None) -> tuple[Config, list[str]]:
    """The configuration of a file, and its warnings."""
    Path("f.toml").write_text(text)
    doubts: list[str] = []

    def note(_: Config, sources: Sources) -> None:
        doubts.extend(sources.doubts)

    config = load(Path("f.toml"), Flags(), note, environment=Environment(environment))
    return config, [line.replace(os.getcwd(), "{here}") for line in doubts]


def users(config: Config) -> dict[str, UserConfig]:
    return {each.login: each for each in config.users}


# ---------------------------------------------------------------------- users of other files


def test_users_of_other_files_are_added() -> None:
    Path("users.d").mkdir()
    for name in ("bob", "alice"):
        text = f"[[user]]\nlogin = '{name}'\npassword = 'plain:x'\nroot = '.'\n"
        Path("users.d", f"{name}.toml").write_text(text)
    config, doubts = loaded(f"users = 'users.d/*.toml'\n{GOOD}")
    assert list(users(config)) == ["good", "alice", "bob"]
    assert users(config)["alice"].root == os.path.abspath("users.d"), "relative to its own file"
    assert doubts == []


def test_a_directory_without_users_is_no_error() -> None:
    """“a folder of users that is empty is none”"""
    Path("users.d").mkdir()
    config, doubts = loaded("users = 'users.d/*.toml'\n")
    assert (config.users, doubts) == ((), [])


def test_a_directory_that_is_missing_is_an_error() -> None:
    """At a reload all its users would be thrown out."""
    with pytest.raises(ConfigError) as caught:
        loaded(f"users = 'users.d/*.toml'\n{GOOD}")
    assert caught.value.lines == (
        f"f.toml:1: users: {os.getcwd()}/users.d: there is no such directory; make it, or mount it",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("login = ", "users.d/a.toml:1: expected a value; text stands in quotation marks, yes and "
         "no are true, false"),
        ("[limits]\n", "users.d/a.toml:1: limits: only [[user]] tables may stand in a file of "
         "users"),
        ("user = 3\n", "users.d/a.toml:1: user: expected [[user]]"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_harms_nobody_else(text: str, says: str) -> None:
    Path("users.d").mkdir()
    Path("users.d/a.toml").write_text(text)
    start = f"users = 'users.d/*.toml'\n{GOOD}"
    config, doubts = loaded(start)
    assert list(users(config)) == ["good"]
    assert doubts == [f"{says}; its users cannot log in until that is mended"]
    with pytest.raises(ConfigError) as caught:
        loaded(f"strict_users = true\n{start}")
    assert caught.value.lines == (says,)


def test_what_is_wrong_with_a_user_of_another_file_names_that_file() -> None:
    Path("users.d").mkdir()
    Path("users.d/a.toml").write_text(
        "\n[[user]]\nlogin = 'a'\npassword = 'plain:x'\nroot = '.'\ndownload = 'fast'\n"
    )
    config, doubts = loaded(f"users = 'users.d/*.toml'\n{GOOD}")
    why = (
        'users.d/a.toml:6: user[0].download: expected bytes per second such as "10MB" or "10MiB"'
        ', got "fast"'
    )
    assert config.broken_users == (BrokenUser("a", why),)
    assert doubts == [f"{why}; its user cannot log in until that is mended"]


def test_passwords_in_files_of_users_that_others_may_read_are_one_warning() -> None:
    Path("users.d").mkdir()
    for name in "abc":
        file = Path(f"users.d/{name}.toml")
        file.write_text(GOOD.replace("good", name))
        file.chmod(0o640 if name == "a" else 0o644)
    found: list[str] = []

    def note(config: Config, sources: Sources) -> None:
        found.extend(warnings(config, sources))

    Path("f.toml").write_text("users = 'users.d/*.toml'\n")
    load(Path("f.toml"), Flags(), note)
    assert found == [
        "users.d/a.toml: its group may read the passwords in it; `chmod 600 users.d/a.toml`; 2 "
        "other files of users are like it"
    ]


def test_a_variable_may_name_the_files() -> None:
    Path("users.d").mkdir()
    Path("users.d/a.toml").write_text(GOOD)
    config, _ = loaded("", {"FTPCLUSTER__USERS": "users.d/*.toml"})
    assert list(users(config)) == ["good"]


# ---------------------------------------------------------------------- defaults and groups


def test_a_user_has_what_the_group_has_and_then_the_defaults() -> None:
    """“Every other key is a default, in the order user, group, `user_defaults`, built in.”"""
    os.mkdir("of_defaults")
    os.mkdir("of_group")
    os.mkdir("own")
    config, _ = loaded(
        "[user_defaults]\nroot = 'of_defaults'\nupload = 1\ndownload = 1\nhome = '/'\n"
        "allow = ['192.0.2.1']\n"
        "[[group]]\nname = 'staff'\nroot = 'of_group'\nupload_per_connection = 2\n"
        "[[user]]\nlogin = 'a'\npassword = 'plain:x'\n"
        "[[user]]\nlogin = 'b'\npassword = 'plain:x'\ngroup = 'staff'\n"
        "[[user]]\nlogin = 'c'\npassword = 'plain:x'\ngroup = 'staff'\nroot = 'own'\nupload = 3\n"
        "allow = ['192.0.2.2']\n"
    )
    found = users(config)
    assert [os.path.basename(found[each].root) for each in "abc"] == [
        "of_defaults", "of_group", "own",
    ]  # fmt: skip
    assert [found[each].upload for each in "abc"] == [1, 1, 3]
    assert [found[each].upload_per_connection for each in "abc"] == [None, 2, 2]
    assert [found[each].allow for each in "abc"] == [
        ("192.0.2.1/32",), ("192.0.2.1/32",), ("192.0.2.2/32",),
    ]  # fmt: skip


def test_patterns_that_are_forbidden_add_up_and_hidden_ones_do_not() -> None:
    """“Lists replace, but `forbid` adds.”"""
    config, _ = loaded(
        "[user_defaults]\nroot = '.'\nforbid = ['d']\nhide = ['d']\n"
        "[[group]]\nname = 'g'\nforbid = ['g']\nhide = ['g']\n"
        "[[user]]\nlogin = 'a'\npassword = 'plain:x'\ngroup = 'g'\nforbid = ['u']\n"
    )
    assert (config.users[0].forbid, config.users[0].hide) == (("u", "g", "d"), ("g",))


@pytest.mark.parametrize("key", ["connections", "download", "upload"])
def test_what_a_group_shares_is_no_default_of_its_users(key: str) -> None:
    config, _ = loaded(
        f"[[group]]\nname = 'staff'\n{key} = 7\n"
        "[[user]]\nlogin = 'a'\npassword = 'plain:x'\nroot = '.'\ngroup = 'staff'\n"
    )
    assert getattr(users(config)["a"], key) is None
    assert getattr(config.groups[0], key) == 7


def test_what_is_wrong_with_defaults_is_an_error_at_their_line() -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(f"[user_defaults]\nupload = 'x'\n{GOOD}")
    assert caught.value.lines == (
        'f.toml:2: user_defaults.upload: expected bytes per second such as "10MB" or "10MiB", got '
        '"x"',
    )


def test_a_default_directory_has_the_name_of_its_user() -> None:
    os.mkdir("a")
    config, doubts = loaded(
        "[user_defaults]\nroot = '{login}'\n"
        "[[user]]\nlogin = 'a'\npassword = 'plain:x'\n"
        "[[user]]\nlogin = 'b'\npassword = 'plain:x'\n"
    )
    assert users(config)["a"].root == os.path.abspath("a")
    assert doubts == [
        "f.toml:2: user_defaults.root: {here}/b: there is no such directory; its user cannot log "
        "in until that is mended"
    ]


def test_two_groups_have_no_common_name() -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(f"[[group]]\nname = 'a'\n[[group]]\nname = 'a'\n{GOOD}")
    assert caught.value.lines == ('f.toml:4: group[1].name: "a" is the name of group[0], too',)


# ---------------------------------------------------------------------- a broken account


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("root = '.'\npassword = '$6$'", "f.toml:8: user[1].password: is"),
        ("root = '.'\npassword = 'plain:x'\ngroup = 'g'",
         'f.toml:9: user[1].group: there is no [[group]] named "g"'),
        ("root = '.'\npassword_file = 'nothing'",
         "f.toml:8: user[1].password_file: {here}/nothing: cannot be read: No such file or "
         "directory"),
        ("root = '.'\npassword = 'plain:x'\npassword_file = 'f.toml'",
         "f.toml:9: user[1].password_file: password is given, too: leave one of them out"),
        ("root = '.'", "f.toml:5: user[1].password: is missing; expected a hash"),
        ("password = 'plain:x'", "f.toml:5: user[1].root: is missing; expected the path"),
        ("root = '.'\npassword = 'plain:x'\nexpires = 'soon'",
         'f.toml:9: user[1].expires: expected a date such as 2027-01-31, got "soon"'),
    ],
)  # fmt: skip
def test_a_broken_account_harms_only_itself(keys: str, says: str) -> None:
    """“a warning with file and line, that login is refused …, everyone else is served”"""
    text = f"{GOOD}[[user]]\nlogin = 'bad'\n{keys}\n"
    config, (doubt,) = loaded(text)
    assert list(users(config)) == ["good"]
    assert doubt.startswith(says)
    assert doubt.endswith("; its user cannot log in until that is mended")
    (broken,) = config.broken_users
    assert broken.login == "bad"
    with pytest.raises(ConfigError) as caught:
        loaded(f"{GOOD}[[user]]\nlogin = 'bad'\n{keys}\n[limits]\n".replace(
            "[[user]]", "strict_users = true\n[[user]]", 1))  # fmt: skip
    (line,) = caught.value.lines
    assert says.split(": ", 1)[1].split(": ")[0] in line


def test_if_no_account_is_left_it_is_an_error() -> None:
    with pytest.raises(ConfigError):
        loaded(GOOD.replace("plain:x", "x"))


@pytest.mark.parametrize("wrong", [("plain:x", "x"), ("root = '.'", "root = 'gone'")])
def test_if_no_account_is_left_and_more_may_come_it_is_a_warning(wrong: tuple[str, str]) -> None:
    Path("users.d").mkdir()
    Path("users.d/good.toml").write_text(GOOD.replace(*wrong))
    _, (doubt,) = loaded("users = 'users.d/*.toml'\n")
    assert doubt.endswith("; its user cannot log in until that is mended")


def test_of_two_users_of_one_name_the_first_is_served() -> None:
    config, (doubt,) = loaded(GOOD + GOOD.replace("plain:x", "plain:y"))
    assert [each.password for each in config.users] == ["plain:x"]
    assert config.broken_users == ()
    assert doubt.startswith('f.toml:6: user[1].login: "good" is the login of user[0], too')


# ---------------------------------------------------------------------- single keys


@pytest.mark.parametrize(
    ("content", "password"),
    [(b"secret", "plain:secret"), (b"secret\n", "plain:secret"), (b"plain:a\r\n", "plain:a")],
)
def test_a_password_may_be_in_a_file(content: bytes, password: str) -> None:
    Path("p").write_bytes(content)
    config, _ = loaded("[[user]]\nlogin = 'a'\npassword_file = 'p'\nroot = '.'\n")
    assert config.users[0].password == password


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff", b"x" * 2000, b"plain:"])
def test_a_file_without_a_password_is_refused(content: bytes) -> None:
    Path("p").write_bytes(content)
    with pytest.raises(ConfigError, match=r"f\.toml:3: user\[0\]\.password_file: "):
        loaded("[[user]]\nlogin = 'a'\npassword_file = 'p'\nroot = '.'\n")


@pytest.mark.parametrize("written", ["2027-01-31", "'2027-01-31'"])
def test_an_account_expires_on_a_day(written: str) -> None:
    config, _ = loaded(f"{GOOD}expires = {written}\n")
    assert config.users[0].expires == datetime.date(2027, 1, 31)


def test_the_directories_of_accounts_are_beneath_roots() -> None:
    """“a root elsewhere is an error of `check` for accounts in files”"""
    os.mkdir("in")
    os.mkdir("out")
    text = "roots = ['in']\n[[user]]\nlogin = 'a'\npassword = 'plain:x'\nroot = '{}'\n"
    assert loaded(text.format("in"))[0].roots == (os.path.abspath("in"),)
    with pytest.raises(ConfigError) as caught:
        loaded(text.format("out"))
    assert caught.value.lines == (
        f"f.toml:5: user[0].root: {os.getcwd()}/out: is not beneath any of the `roots`, so workers "
        "may not open it",
    )


@pytest.mark.parametrize(
    ("head", "root", "says"),
    [
        ("roots = ['.']", "new", None),
        ("confine = false", "new", None),
        ("", "new", "f.toml:8: user[1].root: {here}/new: there is no such directory; confined "
         "workers may make it only beneath `roots`: name {here} there"),
        ("confine = false", "no/new", "f.toml:8: user[1].root: {here}/no/new: there is no "
         "directory {here}/no, in which it could be made"),
    ],
)  # fmt: skip
def test_a_directory_that_will_be_made_need_not_be_there(
    head: str, root: str, says: str | None
) -> None:
    _, doubts = loaded(
        f"{head or '#'}\n{GOOD}[[user]]\nlogin = 'a'\nroot = '{root}'\npassword = 'plain:x'\n"
        "create_home = true\n"
    )
    why = [] if says is None else [f"{says}; its user cannot log in until that is mended"]
    assert doubts == why
