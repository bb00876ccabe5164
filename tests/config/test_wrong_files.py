"""Forty wrong files, and exactly what is said of each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trustme

from ftpcluster.cli.flags import Flags
from ftpcluster.config import ConfigError
from ftpcluster.config.load import load

SECRET = "s3cr3t"
_NO_VALUE = "expected a value; text stands in quotation marks, yes and no are true, false"

# (what the file says, what is said of it); every path in it is relative to the file
WRONG = [
    # ------------------------------------------------------------------ syntax
    ("workers 4\n", ["f.toml:1: expected key = value"]),
    ('{"workers": 4}\n', ["f.toml:1: expected key = value, or [table]"]),
    (
        '\n\nloop = "uvloop\n',
        ["f.toml:3: a text ends in another line: is a quotation mark missing?"],
    ),
    ('loop = "uvloop', ["f.toml:1: a text has no end: is a quotation mark missing?"]),
    (
        'welcome = "a\\d"\n',
        [
            "f.toml:1: a text in double quotation marks has a backslash in it; write two, or put "
            "the text in single ones"
        ],
    ),
    (
        "[listen]\n[[listen]]\n",
        ["f.toml:2: is given already, as something else; of tables that repeat, each is [[name]]"],
    ),
    (
        "[limits]\ndownload = 10MB\n",
        [
            'f.toml:2: expected the end of the line behind the value; text, such as "10MB", '
            "stands in quotation marks"
        ],
    ),
    ("[limits]\n[limits]\n", ["f.toml:2: [limits] is there already; put all its keys below one"]),
    (
        "[data.masquerade_for]\n[data.'masquerade_for']\n",
        ["f.toml:2: [data.masquerade_for] is there already; put all its keys below one"],
    ),
    (
        "workers = 4\nloop = 'uvloop'\nworkers = 5\n",
        ["f.toml:3: workers: is given already, in line 1"],
    ),
    (
        "[[user]]\nlogin = 'a'\n[[user]]\nlogin = 'b'\npermissions = [\n  { path = '/' },\n]\n"
        f"password = 'plain:{SECRET}'\npermissions = [\n]\n[log]\n",
        ["f.toml:10: user[1].permissions: is given already, in line 5"],
    ),
    (
        "limits.upload = 1\nlimits = 5\n",
        ["f.toml:2: limits: is given already, in line 1"],
    ),
    (
        "limits = { upload = 1 }\nlimits.download = 1\n",
        ["f.toml:2: limits: put all its keys between the braces"],
    ),
    ("workers = [1,\n2\n", ["f.toml:2: unclosed array"]),
    (f"[[user]]\npassword = plain:{SECRET}\n", [f"f.toml:2: {_NO_VALUE}"]),
    ("listen=YES\n", [f"f.toml:1: {_NO_VALUE}"]),
    ("workers = " + "9" * 5000 + "\n", ["f.toml: a number has thousands of digits"]),
    # ------------------------------------------------------------------ keys
    ("wrokers = 4\n", ['f.toml:1: wrokers: unknown key; did you mean "workers"?']),
    (
        "[log]\nzzz = 1\n",
        ["f.toml:2: log.zzz: unknown key; there are file, format, level, transfers"],
    ),
    (
        "[limits]\nworkers = 4\nuser_manager = 'a:b'\n[[listen]]\nrun_as = 'nobody'\n",
        [
            "f.toml:2: limits.workers: no key of this table; it belongs above the first table",
            "f.toml:3: limits.user_manager: no key of this table; it belongs above the first table",
            "f.toml:5: listen[0].run_as: no key of this table; it belongs above the first table",
        ],
    ),
    (
        '\n[[listen]]\n\n"tls mode" = 1\n',
        [
            'f.toml:4: listen[0]."tls mode": unknown key; there are '
            "address, any_address, port, proxy_protocol, tls"
        ],
    ),
    (
        "[user]\nlogin = 'alice'\n",
        ["f.toml:1: user: expected [[user]], got a table"],
    ),
    ("limits = 5\n", ["f.toml:1: limits: expected [limits], got 5"]),
    (
        "listen = []\n",
        ["f.toml:1: listen: expected at least one; leave the key out for the default"],
    ),
    (f"user = 'alice:{SECRET}'\n", ["f.toml:1: user: expected [[user]], got text"]),
    (
        "[[user]]\nlogin = 'alice'\n\n[[user]]\nroot = '.'\n",
        [
            "f.toml:1: user[0].password: is missing; expected a hash (`ftpcluster hash` makes "
            'one), or "plain:" with the password behind it',
            "f.toml:1: user[0].root: is missing; expected the path of a directory",
            "f.toml:4: user[1].login: is missing; expected a name with no space, no colon and no "
            "control character in it",
            "f.toml:4: user[1].password: is missing; expected a hash (`ftpcluster hash` makes "
            'one), or "plain:" with the password behind it',
        ],
    ),
    # ------------------------------------------------------------------ values
    (
        "workers = 0\nloop = 'trio'\nwelcome = \"a\\r\\nb\"\n",
        [
            "f.toml:1: workers: expected a whole number of workers from 1 to 1024, got 0",
            'f.toml:2: loop: expected one of "uvloop", "asyncio", got "trio"',
            'f.toml:3: welcome: expected one line of text, got "a\\r\\nb"',
        ],
    ),
    (
        "workers = true\n",
        ["f.toml:1: workers: expected a whole number of workers from 1 to 1024, got true"],
    ),
    (
        "workers = 100000\n[recycle]\nmemory = '99MB'\nage = '59s'\n",
        [
            "f.toml:1: workers: expected a whole number of workers from 1 to 1024, got 100000",
            'f.toml:3: recycle.memory: expected bytes, at least "100MB", such as "500MB", '
            'got "99MB"',
            'f.toml:4: recycle.age: expected a time, at least "1m", such as "24h", got "59s"',
        ],
    ),
    (
        "run_as = 'nobody_has_this:nor_this'\n",
        [
            "f.toml:1: run_as: cannot run as nobody_has_this:nor_this: there is no user "
            "nobody_has_this; see `getent passwd`",
        ],
    ),
    ("run_as = ':'\n", ['f.toml:1: run_as: expected a user, or "user:group", got ":"']),
    ("server = 'mine'\n", ['f.toml:1: server: expected package.module:name, got "mine"']),
    (
        "[limits]\nconnections = 0\ndownload = 'fast'\nupload = -1\n"
        "download_per_connection = '9999TB'\nupload_per_connection = 1.5\n",
        [
            "f.toml:2: limits.connections: expected a whole number, at least 1, got 0",
            'f.toml:3: limits.download: expected bytes per second such as "10MB" or "10MiB", '
            'got "fast"',
            'f.toml:4: limits.upload: expected bytes per second such as "10MB" or "10MiB", got -1',
            'f.toml:5: limits.download_per_connection: is more than "1000TB"; '
            "leave it out for no limit",
            "f.toml:6: limits.upload_per_connection: expected bytes per second such as "
            '"10MB" or "10MiB", got 1.5',
        ],
    ),
    (
        "timeouts.login = 0\ntimeouts.idle = '5 minutes'\ntimeouts.shutdown = '-1s'\n",
        [
            'f.toml:1: timeouts.login: expected seconds, or a time such as "30s", "5m" or "2h", '
            "got 0",
            'f.toml:2: timeouts.idle: expected seconds, or a time such as "30s", "5m" or "2h", '
            'got "5 minutes"',
            'f.toml:3: timeouts.shutdown: expected seconds, or a time such as "30s", "5m" or "2h", '
            'got "-1s"',
        ],
    ),
    (
        "[storage]\nrename_replaces = 'no'\nthreads = 5000\numask = 18\n",
        [
            'f.toml:2: storage.rename_replaces: expected true or false, got "no"',
            "f.toml:3: storage.threads: expected a whole number from 1 to 1024, got 5000",
            "f.toml:4: storage.umask: expected three octal digits in quotation marks, such as "
            '"022", got 18',
        ],
    ),
    (
        "[storage]\nhide = '*.tmp'\nforbid = ['', 'a/b', 5, '*.php', '..']\natomic_uploads = 1\n",
        [
            "f.toml:2: storage.hide: expected an array: […], got text",
            'f.toml:3: storage.forbid[0]: expected a pattern of names, without "/", such as '
            '"*.tmp", got ""',
            'f.toml:3: storage.forbid[1]: expected a pattern of names, without "/", such as '
            '"*.tmp", got "a/b"',
            'f.toml:3: storage.forbid[2]: expected a pattern of names, without "/", such as '
            '"*.tmp", got 5',
            'f.toml:3: storage.forbid[4]: expected a pattern of names, without "/", such as '
            '"*.tmp", got ".."',
            "f.toml:4: storage.atomic_uploads: expected true or false, got 1",
        ],
    ),
    (
        "[storage]\nthreads = [\n  1,\n]\n[log]\nlevel = { a = 1 }\n",
        [
            "f.toml:2: storage.threads: expected a whole number from 1 to 1024, got an array",
            'f.toml:6: log.level: expected one of "debug", "info", "warning", "error", got a table',
        ],
    ),
    # ------------------------------------------------------------------ addresses
    (
        "[[listen]]\nport = 70000\n[[listen]]\naddress = ['127.0.0.1', '1.2.3.400']\n",
        [
            "f.toml:2: listen[0].port: expected a whole number from 0 to 65535, got 70000",
            "f.toml:4: listen[1].address: '1.2.3.400' is no address to listen on; expected an "
            "address, or a name, of this machine",
        ],
    ),
    (
        "[[listen]]\naddress = ['::1', '0::1']\n",
        ["f.toml:2: listen[0].address: ::1 is given twice"],
    ),
    (
        "[[listen]]\naddress = '[::1]'\n[metrics]\nlisten = '::1:9121'\n"
        "[limits]\nconnections = '5'\n",
        [
            'f.toml:2: listen[0].address: "[::1]": without brackets, "::1"',
            'f.toml:4: metrics.listen: expected an address and a port such as "127.0.0.1:9121" '
            'or "[::1]:9121", got "::1:9121"',
            'f.toml:6: limits.connections: expected a whole number, at least 1, got "5"',
        ],
    ),
    (
        "[[listen]]\nproxy_protocol = '10.0.0.0/8'\n",
        ["f.toml:2: listen[0].proxy_protocol: expected an array: […], got text"],
    ),
    (
        "[[listen]]\nproxy_protocol = [\n  '10.0.0.0/8',\n  '10.0.0.1/8',\n  'proxy',\n]\n",
        [
            "f.toml:2: listen[0].proxy_protocol[1]: 10.0.0.1/8 has host bits set; "
            'the network is "10.0.0.0/8"',
            'f.toml:2: listen[0].proxy_protocol[2]: expected a network such as "10.0.0.0/8", '
            'got "proxy"',
        ],
    ),
    (
        "[[listen]]\naddress = '127.0.0.1'\nport = 21\n[[listen]]\naddress = '::1'\nport = 21\n"
        "[[listen]]\naddress = ['::1', '127.0.0.1']\nport = 21\n",
        [
            "f.toml:7: listen[2]: port 21 of ::1 is that of listen[1], too",
            "f.toml:7: listen[2]: port 21 of 127.0.0.1 is that of listen[0], too",
        ],
    ),
    (
        "workers = 4\n[data]\nports = '50000-50002'\nmasquerade = 'no name'\n",
        [
            "f.toml:3: data.ports: 3 ports are too few for 4 workers",
            "f.toml:4: data.masquerade: expected an IPv4 address such as 203.0.113.7, "
            'or a host name, got "no name"',
        ],
    ),
    (
        "[data]\nports = '50009-50000'\n[data.masquerade_for]\nhome = '::1'\n",
        [
            "f.toml:2: data.ports: expected ports from 1 to 65535, lower one first",
            'f.toml:4: data.masquerade_for.home: expected a network such as "10.0.0.0/8", '
            'got "home"',
            "f.toml:4: data.masquerade_for.home: expected an IPv4 address such as 203.0.113.7, "
            'or a host name, got "::1"',
        ],
    ),
    (
        "[data]\nports = 50000\nmasquerade_for = ['a']\nactive = 'yes'\n",
        [
            "f.toml:2: data.ports: expected a range such as 50000-50999, got 50000",
            "f.toml:3: data.masquerade_for: expected a table: { … }, got an array",
            'f.toml:4: data.active: expected true or false, got "yes"',
        ],
    ),
    (
        "[[listen]]\nport = 50000\n[[listen]]\nport = 21\n[data]\nports = '50000-50999'\n",
        [
            "f.toml:6: data.ports: the server itself listens on port 50000, which is among them: "
            "give others, or let it listen on another one"
        ],
    ),
    # ------------------------------------------------------------------ TLS
    (
        "[tls]\nkey = 'server.pem'\n",
        ["f.toml:1: tls.certificate: is missing; expected the path of a file"],
    ),
    (
        "[tls]\ncertificate = 'missing.pem'\nminimum_version = '1.1'\nrequired = 1\n",
        [
            'f.toml:3: tls.minimum_version: expected one of "1.2", "1.3", got "1.1"',
            "f.toml:4: tls.required: expected true or false, got 1",
        ],
    ),
    (
        "[tls]\ncertificate = 'missing.pem'\n",
        ["f.toml:2: tls.certificate: {here}/missing.pem: No such file or directory"],
    ),
    (
        "[tls]\ncertificate = 'server.pem'\nkey = 'other.pem'\n",
        [
            "f.toml:2: tls.certificate: {here}/server.pem, {here}/other.pem: "
            "the key is not that of the certificate"
        ],
    ),
    (
        "[tls]\ncertificate = 'server.pem'\nkey = 'f.toml'\n",
        ["f.toml:3: tls.key: {here}/f.toml: expected a key in PEM form"],
    ),
    (
        "[tls]\nkey = 'server.pem'\ncertificate = 'f.toml'\n",
        ["f.toml:3: tls.certificate: {here}/f.toml: expected a certificate in PEM form"],
    ),
    (
        "[tls]\ncertificate = 'chain.pem'\n",
        [
            "f.toml:2: tls.certificate: {here}/chain.pem: no key in it; name its file with "
            "tls.key, or --tls-key"
        ],
    ),
    (
        "[tls]\ncertificate = 'f.toml'\n",
        [
            "f.toml:2: tls.certificate: {here}/f.toml: expected a certificate and its key in PEM "
            "form"
        ],
    ),
    (
        "[tls]\ncertificate = 'server.pem'\nclient_ca = 'f.toml'\n",
        ["f.toml:3: tls.client_ca: {here}/f.toml: expected certificates in PEM form"],
    ),
    (
        "[[listen]]\ntls = 'implicit'\n[[listen]]\ntls = 'explicit'\nport = 2121\n",
        [
            "f.toml:1: listen[0].port: is missing; with implicit TLS it is 990 as a rule",
            'f.toml:2: listen[0].tls: "implicit" needs [tls] with a certificate',
            'f.toml:4: listen[1].tls: "explicit" needs [tls] with a certificate',
        ],
    ),
    (
        "[[listen]]\n[[listen]]\ntls = 'implicit'\n[tls]\ncertificate = 'server.pem'\n",
        ["f.toml:2: listen[1].port: is missing; with implicit TLS it is 990 as a rule"],
    ),
    (
        "[[listen]]\ntls = 'off'\n[tls]\ncertificate = 'server.pem'\nrequired = true\n"
        "required_data = true\n",
        [
            'f.toml:2: listen[0].tls: "off" serves nobody, since tls.required is true',
        ],
    ),
    # ------------------------------------------------------------------ accounts
    (
        f"[[user]]\nlogin = 'alice:{SECRET}'\npassword = '{SECRET}'\nroot = '.'\n",
        [
            "f.toml:2: user[0].login: expected a name with no space, no colon and no control "
            "character in it",
            "f.toml:3: user[0].password: expected a hash (`ftpcluster hash` makes one), or "
            '"plain:" with the password behind it',
        ],
    ),
    (
        f"[[user]]\nlogin = 'a'\npassword = '$argon2id${SECRET}'\nroot = '.'\n"
        f"[[user]]\nlogin = 'b'\npassword = 'plain:$2b$04${SECRET}'\nroot = '.'\n"
        "[[user]]\nlogin = 'c'\npassword = 'plain:'\nroot = '.'\n"
        f"[[user]]\nlogin = 'd'\npassword = ['{SECRET}']\nroot = '.'\n",
        [
            "f.toml:3: user[0].password: is not a whole argon2 hash (cut off?); "
            "`ftpcluster hash` makes one",
            'f.toml:7: user[1].password: a hash stands without "plain:" before it',
            "f.toml:11: user[2].password: the password is empty",
            "f.toml:15: user[3].password: expected a hash (`ftpcluster hash` makes one), or "
            '"plain:" with the password behind it',
        ],
    ),
    (
        "".join(
            f"[[user]]\nlogin = '{kind}'\npassword = '${kind}$salt${SECRET}'\nroot = '.'\n"
            for kind in ("2x", "3", "sha1", "apr1")
        ),
        [
            f"f.toml:{4 * index + 3}: user[{index}].password: a ${kind}$ hash cannot be checked "
            "here: a new password, see docs/moving.md"
            for index, kind in enumerate(("2x", "3", "sha1", "apr1"))
        ],
    ),
    (
        "strict_users = true\n"
        "[[user]]\nlogin = 'a'\npassword = 'plain:x'\nroot = '.'\n"
        "[[user]]\nlogin = 'a'\npassword = 'plain:x'\nroot = '.'\n"
        "[[user]]\nlogin = 'anonymous'\npassword = 'plain:x'\nroot = '.'\n"
        "[anonymous]\nroot = 'missing'\n",
        [
            'f.toml:7: user[1].login: "a" is the login of user[0], too',
            'f.toml:11: user[2].login: "anonymous" is the login of [anonymous], too',
            "f.toml:15: anonymous.root: {here}/missing: there is no such directory",
        ],
    ),
    (
        "[[user]]\nlogin = 'a'\npassword = 'plain:x'\nroot = 'f.toml'\nhome = 'up'\n"
        "[[user]]\nlogin = '..'\npassword = 'plain:x'\nroot = '{login}'\nhome = '/../b'\n"
        "[[user]]\nlogin = 'a/b'\npassword = 'plain:x'\nroot = '{login}'\n",
        [
            "f.toml:4: user[0].root: {here}/f.toml: not a directory",
            "f.toml:5: user[0].home: expected an absolute path as clients see it, such as "
            '"/incoming", got "up"',
            'f.toml:9: user[1].root: {login} would be "..", which is no directory\'s name',
            'f.toml:10: user[1].home: has an empty part, "." or ".." in it',
            'f.toml:14: user[2].root: {login} would be "a/b", which is no directory\'s name',
        ],
    ),
    (
        "[anonymous]\nroot = '.'\npermissions = []\n"
        "[[user]]\nlogin = 'a'\npassword = 'plain:x'\nroot = '.'\n"
        "[[user.permissions]]\npath = '/a'\n[[user.permissions]]\npath = '/a/'\nwrite = 'no'\n"
        "[[user.permissions]]\nread = true\n",
        [
            "f.toml:3: anonymous.permissions: expected at least one; leave the key out for the "
            "default",
            'f.toml:11: user[0].permissions[1].path: "/a" is given twice',
            'f.toml:12: user[0].permissions[1].write: expected true or false, got "no"',
            "f.toml:13: user[0].permissions[2].path: is missing; expected an absolute path as "
            'clients see it, such as "/incoming"',
        ],
    ),
    (
        "user_manager = 'a:b'\n[[user]]\nlogin = 'a'\npassword = 'plain:x'\nroot = '.'\n"
        "[anonymous]\nroot = '.'\n",
        [
            "f.toml:2: user: has no effect, since user_manager knows the users",
            "f.toml:6: anonymous: has no effect, since user_manager knows the users",
        ],
    ),
    (
        "[ban]\nfailures = 0\nwindow = 0\nduration = 'never'\nallow = '10.0.0.0/8'\n",
        [
            "f.toml:2: ban.failures: expected a whole number from 1 to 1000, got 0",
            'f.toml:3: ban.window: expected seconds, or a time such as "30s", "5m" or "2h", got 0',
            'f.toml:4: ban.duration: expected seconds, or a time such as "30s", "5m" or "2h", '
            'got "never"',
            'f.toml:5: ban.allow: expected an array of networks such as ["10.0.0.0/8"], '
            'got "10.0.0.0/8"',
        ],
    ),
    (
        "[ban]\nallow = ['10.0.0.1/8']\n",
        ['f.toml:2: ban.allow: 10.0.0.1/8 has host bits set; the network is "10.0.0.0/8"'],
    ),
    ("[ban]\nallow = ['::1', 7]\n", ["f.toml:2: ban.allow: 7 is no network"]),
    (
        "[ban]\ndeny = ['192.0.2.1/24']\n",
        ['f.toml:2: ban.deny: 192.0.2.1/24 has host bits set; the network is "192.0.2.0/24"'],
    ),
    (
        "[ban]\nallow = ['::1', '10.0.0.0/8']\ndeny = ['10.0.0.0/8', '10.0.0.1']\n",
        ["f.toml:3: ban.deny: 10.0.0.0/8 is in ban.allow, too; remove it from one of them"],
    ),
    *(
        (
            f"[limits]\nnew_connections_per_address = {value}\n",
            [
                "f.toml:2: limits.new_connections_per_address: expected a number in a time, such "
                f'as "60/m", "5/s" or "100/10m", got {got}'
            ],
        )
        for value, got in (
            ("60", "60"),
            ("'60'", '"60"'),
            ("'0/m'", '"0/m"'),
            ("'60/0s'", '"60/0s"'),
            ("'60/month'", '"60/month"'),
            ("'-1/m'", '"-1/m"'),
            ("'60/9000h'", '"60/9000h"'),
        )
    ),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    for name in ("server", "other"):
        issued = trustme.CA().issue_cert("localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(str(directory / f"{name}.pem"))
    issued.cert_chain_pems[0].write_to_path(str(directory / "chain.pem"))
    return directory


def test_there_are_forty() -> None:
    assert len(WRONG) >= 40


@pytest.mark.parametrize(("text", "says"), WRONG, ids=range(len(WRONG)))
def test_all_that_is_wrong_is_said_with_file_line_and_key(
    text: str,
    says: list[str],
    certificates: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for path in certificates.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("f.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(Path("f.toml"), Flags())
    lines = [line.replace(str(tmp_path), "{here}") for line in caught.value.lines]
    assert lines == says
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"welcome = 'ok'\nloop = '\xff'\n", "f.toml:2: not UTF-8; save the file in that encoding"),
        (b"a = " + b"[" * 100_000, "f.toml: brackets are nested too deeply"),
    ],
)
def test_what_is_no_text_is_said_to_be_none(
    content: bytes, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.toml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(Path("f.toml"), Flags())
    assert caught.value.lines == (says,)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no.toml", "no.toml: there is no such file; `ftpcluster init no.toml` writes one"),
        (".", ".: cannot be read: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(Path(name), Flags())
    assert caught.value.lines == (says,)
