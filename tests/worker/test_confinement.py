"""What a confined process can and cannot do; each is one of its own, since it is for good."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import trustme

from ftpcluster.worker import confinement
from ftpcluster.worker.confinement import Right, directories_of, needed_by_python
from tests.support.said import said_by

DEADLINE = 30.0

BEGIN = '''
import asyncio, ctypes, os, signal, socket, stat, sys, threading
from ftpcluster.storage.base import WriteMode
from ftpcluster.storage.contained import Root
from ftpcluster.storage.local import LocalStorage
from tests.support.awaited import Awaited
from ftpcluster.worker import confinement
from ftpcluster.worker.confinement import confine, needed_by_python

root, outside = sys.argv[1:]

def another_process(function):
    """Calls a function when told to: one that is not confined later."""
    down, up = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(up)
            os.read(down, 1)
            function()
            status = 0
        finally:
            os._exit(status)
    def call():
        os.write(up, b"!")
        assert os.waitpid(child, 0)[1] == 0
    return call
'''


def run(code: str, directory: Path, *, cwd: Path | None = None) -> dict[str, Any]:
    """What a process says that runs ``code``, with two directories: ``root`` and ``outside``."""
    for name in ("root", "outside"):
        (directory / name).mkdir(exist_ok=True)
    return said_by(BEGIN + code, str(directory / "root"), str(directory / "outside"), cwd=cwd)


@pytest.fixture(scope="module")
def landlock(tmp_path_factory: pytest.TempPathFactory) -> None:
    """For tests that need a kernel with it."""
    done = run("say(done=confine([], []))", tmp_path_factory.mktemp("landlock"))["done"]
    if not done.startswith("Landlock ABI"):
        pytest.skip(done)


needs_landlock = pytest.mark.usefixtures("landlock")

EVERY_OPERATION = """
async def operations(files):
    await files.mkdir("/a/b")
    await files.mkdir("/c")
    file = await files.open_writer("/a/file", WriteMode.CREATE)
    await file.write(b"content")
    await file.finish()
    await files.rename("/a/file", "/c/moved", replace=False)
    await files.rename("/a/b", "/c/b", replace=False)
    await (await files.open_writer("/c/other", WriteMode.CREATE)).close()
    await files.rename("/c/other", "/a/other", replace=True)
    file = await files.open_writer("/c/moved", WriteMode.TRUNCATE)
    await file.truncate()
    await file.write(b"shorter")
    await file.finish()
    file = await files.open_writer("/c/moved", WriteMode.APPEND)
    await file.write(b"!")
    await file.finish()
    file = await files.open_reader("/c/moved")
    content = await file.read(100)
    await file.close()
    await files.set_modified("/c/moved", 1e9)
    await files.chmod("/c/moved", 0o640)
    await files.symlink("/c/moved", "/link")
    status = await files.stat("/link")
    os.link(f"{root}/c/moved", f"{root}/a/hard")
    os.rename(f"{root}/fifo", f"{root}/a/fifo")
    names = [entry[0] async for batch in files.scan("/a") for entry in batch]
    for name in ("/link", "/c/moved", "/a/other", "/a/hard", "/a/fifo"):
        await files.unlink(name)
    for name in ("/c/b", "/c", "/a"):
        await files.rmdir(name)
    return content, status, sorted(names), await files.available("/")

os.mkfifo(f"{root}/fifo")
files = Awaited(LocalStorage(Root(root)))
done = confine([root], needed_by_python())
content, status, names, available = asyncio.run(operations(files))
say(done=done, content=content.decode(), modified=status.st_mtime,
    mode=stat.S_IMODE(status.st_mode), names=names, available=available, left=os.listdir(root))
"""


@needs_landlock
def test_within_the_root_every_operation_of_a_storage_works(tmp_path: Path) -> None:
    said = run(EVERY_OPERATION, tmp_path)
    assert said["done"].startswith("Landlock ABI")
    assert said["content"] == "shorter!"
    assert (said["modified"], said["mode"]) == (1e9, 0o640)
    assert said["names"] == ["fifo", "hard", "other"]
    assert said["available"] > 0
    assert said["left"] == []


@needs_landlock
@pytest.mark.parametrize("abi", [2, 3, 5])
def test_older_kernels_that_know_fewer_rights_do_as_well(tmp_path: Path, abi: int) -> None:
    said = run(f"confinement._abi = lambda: {abi}\n" + EVERY_OPERATION, tmp_path)
    assert said["done"] == f"Landlock ABI {abi}"
    assert said["content"] == "shorter!"


@needs_landlock
def test_outside_nothing_is_opened_made_moved_or_removed_even_by_root(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("secret")
    (tmp_path / "outside" / "directory").mkdir()
    said = run(
        """
open(f"{root}/file", "w").close()
confine([root], needed_by_python())
there = f"{outside}/file"
say(answers=[
    refused(open, there),
    refused(open, there, "a"),
    refused(os.truncate, there, 0),
    refused(os.listdir, outside),
    refused(open, f"{outside}/new", "w"),
    refused(os.mkdir, f"{outside}/new"),
    refused(os.symlink, "file", f"{outside}/new"),
    refused(os.unlink, there),
    refused(os.rmdir, f"{outside}/directory"),
    refused(os.rename, there, f"{outside}/renamed"),
    refused(os.link, there, f"{root}/linked"),
    refused(os.rename, f"{root}/file", f"{outside}/moved"),
    refused(open, "/etc/shadow"),
    refused(os.listdir, "/"),
    refused(os.listdir, "/root"),
])
""",
        tmp_path,
    )
    assert set(said["answers"][:10]) == {"PermissionError"}
    assert set(said["answers"][10:12]) <= {"PermissionError", "OSError"}  # OSError: EXDEV
    assert set(said["answers"][12:]) == {"PermissionError"}
    assert sorted(os.listdir(tmp_path / "outside")) == ["directory", "file"]
    assert (tmp_path / "outside" / "file").read_text() == "secret"


@needs_landlock
def test_a_link_that_leads_out_of_the_root_is_not_followed(tmp_path: Path) -> None:
    said = run(
        """
open(f"{outside}/file", "w").close()
os.symlink(f"{outside}/file", f"{root}/link")
confine([root], [])
say(answer=refused(open, f"{root}/link"))
""",
        tmp_path,
    )
    assert said["answer"] == "PermissionError"


@needs_landlock
def test_what_may_be_read_is_not_written(tmp_path: Path) -> None:
    said = run(
        """
open(f"{outside}/file", "w").close()
confine([root], [outside])
open(f"{outside}/file").close()
say(names=os.listdir(outside), answers=[
    refused(open, f"{outside}/file", "w"), refused(open, f"{outside}/new", "w"),
    refused(os.unlink, f"{outside}/file"),
])
""",
        tmp_path,
    )
    assert said == {"names": ["file"], "answers": ["PermissionError"] * 3}


@needs_landlock
def test_no_devices_are_made_even_in_the_root(tmp_path: Path) -> None:
    said = run(
        """
confine([root], [])
say(answers=[refused(os.mknod, f"{root}/{name}", kind | 0o600, os.makedev(1, 3))
             for name, kind in (("block", stat.S_IFBLK), ("char", stat.S_IFCHR))])
""",
        tmp_path,
    )
    assert said["answers"] == ["PermissionError"] * 2
    assert os.listdir(tmp_path / "root") == []


@needs_landlock
def test_nothing_is_executed_not_even_what_was_uploaded(tmp_path: Path) -> None:
    said = run(
        """
import shutil, subprocess
shutil.copy("/bin/true", f"{root}/true")
subprocess.run([f"{root}/true"], check=True)
confine([root], needed_by_python())
say(answers=[refused(subprocess.run, [name]) for name in (f"{root}/true", "/bin/true")])
""",
        tmp_path,
    )
    assert said["answers"] == ["PermissionError"] * 2


@needs_landlock
def test_modules_that_are_imported_later_are_found(tmp_path: Path) -> None:
    said = run(
        """
late = ("sqlite3", "decimal", "lzma", "xml.etree.ElementTree", "encodings.big5", "argon2", "bcrypt")
early = [name for name in late if name in sys.modules]
confine([root], needed_by_python())
for name in late:
    __import__(name)
argon2 = sys.modules["argon2"].PasswordHasher()
argon2.verify(argon2.hash("secret"), "secret")
say(early=early)
""",
        tmp_path,
    )
    assert said["early"] == []


@needs_landlock
def test_accounts_names_of_hosts_and_times_of_day_are_found(tmp_path: Path) -> None:
    if not Path("/usr/share/zoneinfo/Asia/Kolkata").exists():
        pytest.skip("this machine has no time zones")
    said = run(
        """
import pwd, time, zoneinfo
confine([root], needed_by_python())
os.environ["TZ"] = "Asia/Kolkata"
time.tzset()
say(account=pwd.getpwuid(0).pw_name, host=socket.getaddrinfo("localhost", 21)[0][4][1],
    offset=time.localtime(0).tm_gmtoff, zone=zoneinfo.ZoneInfo("Asia/Kolkata").key)
""",
        tmp_path,
    )
    assert (said["account"], said["host"]) == ("root", 21)
    assert said["offset"] == 19800
    assert said["zone"] == "Asia/Kolkata"


@needs_landlock
def test_contexts_are_made_of_certificates_that_were_read_before(tmp_path: Path) -> None:
    """Of anonymous files, which have a name in /proc only."""
    (tmp_path / "outside").mkdir()
    chain = trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem
    chain.write_to_path(str(tmp_path / "outside" / "pem"))
    said = run(
        """
from ftpcluster.net.certificates import ContextMaker, Contexts, read_certificates

path = f"{outside}/pem"
contexts = Contexts(ContextMaker(read_certificates(path, path)), one_each=True)
confine([], [])
say(made=type(contexts.take()).__name__, read=refused(open, path))
""",
        tmp_path,
    )
    assert said == {"made": "SSLContext", "read": "PermissionError"}


@needs_landlock
def test_beneath_a_directory_all_may_come_and_go_but_not_the_directory(tmp_path: Path) -> None:
    said = run(
        """
os.makedirs(f"{root}/directory")

def replace_beneath():
    os.rename(f"{root}/directory", f"{root}/old")
    os.mkdir(f"{root}/directory")
    open(f"{root}/directory/file", "w").close()

def replace_root():
    os.rename(root, f"{root}-old")
    os.mkdir(root)
    open(f"{root}/file", "w").close()

replace_beneath, replace_root = another_process(replace_beneath), another_process(replace_root)
confine([root], [])
replace_beneath()
beneath = refused(open, f"{root}/directory/file", "a")
replace_root()
say(beneath=beneath, root=refused(open, f"{root}/file"))
""",
        tmp_path,
    )
    assert said == {"beneath": None, "root": "PermissionError"}


@needs_landlock
def test_threads_that_start_later_are_confined(tmp_path: Path) -> None:
    said = run(
        """
answers = []
def look():
    answers.append(refused(open, "/etc/shadow"))
    open(f"{root}/file", "w").close()
confine([root], [])
thread = threading.Thread(target=look)
thread.start()
thread.join()
say(answers=answers)
""",
        tmp_path,
    )
    assert said["answers"] == ["PermissionError"]
    assert (tmp_path / "root" / "file").exists()


@needs_landlock
def test_a_process_that_is_signalled_cannot_signal_back(tmp_path: Path) -> None:
    said = run(
        """
down, up = os.pipe()
child = os.fork()
if child == 0:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    done = confine([], [])
    os.write(up, b"c")
    signal.sigwait([signal.SIGUSR1])
    os.kill(os.getpid(), 0)
    os.write(up, (refused(os.kill, os.getppid(), signal.SIGKILL) or "-").encode())
    os._exit(0)
os.read(down, 1)
os.kill(child, signal.SIGUSR1)
answer = os.read(down, 100).decode()
say(abi=confinement._abi(), answer=answer, status=os.waitpid(child, 0)[1])
""",
        tmp_path,
    )
    if said["abi"] < 6:
        pytest.skip("this kernel does not confine signals")
    assert said == {"abi": said["abi"], "answer": "PermissionError", "status": 0}


@needs_landlock
def test_sockets_of_others_without_a_path_are_out_of_reach(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")  # the kernel chooses an abstract address
        listener.listen()
        said = run(
            f"""
address = {listener.getsockname()!r}
before = refused(socket.socket(socket.AF_UNIX).connect, address)
confine([root], [])
say(abi=confinement._abi(), before=before,
    after=refused(socket.socket(socket.AF_UNIX).connect, address))
""",
            tmp_path,
        )
    if said["abi"] < 6:
        pytest.skip("this kernel does not confine sockets")
    assert (said["before"], said["after"]) == (None, "PermissionError")


@pytest.mark.parametrize("kind", ["python", "library"])
def test_with_threads_it_is_too_late(tmp_path: Path, kind: str) -> None:
    said = run(
        f"""
end = threading.Event()
if "{kind}" == "python":
    threading.Thread(target=end.wait, name="watcher").start()
else:
    import _thread
    _thread.start_new_thread(end.wait, ())  # threading has no object for it
try:
    confine([root], [])
except RuntimeError as error:
    say(error=str(error), shadow=refused(os.stat, "/etc/shadow"))
end.set()
""",
        tmp_path,
    )
    assert said["error"].startswith("a worker with threads cannot be confined any more: ")
    assert ("watcher" in said["error"]) == (kind == "python")


def test_where_a_seccomp_filter_refuses_landlock_it_says_so_and_goes_on(tmp_path: Path) -> None:
    said = run(
        """
import struct
prctl = ctypes.CDLL(None, use_errno=True).prctl
refuse = struct.pack("=" + "HBBI" * 4,
    0x20, 0, 0, 0,             # load the call's number
    0x15, 0, 1, 444,           # landlock_create_ruleset?
    0x06, 0, 0, 0x00050001,    # SECCOMP_RET_ERRNO, EPERM
    0x06, 0, 0, 0x7FFF0000)    # SECCOMP_RET_ALLOW
code = ctypes.create_string_buffer(refuse)
program = struct.pack("@HP", 4, ctypes.addressof(code))
confinement.no_new_privs()
filtered = prctl(22, 2, program)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
say(filtered=filtered, done=confine([root], []), passwd=refused(open, "/etc/passwd"))
""",
        tmp_path,
    )
    assert said == {
        "filtered": 0,
        "done": "not confined: a seccomp filter refuses Landlock",
        "passwd": None,
    }


def test_a_kernel_that_cannot_let_files_be_renamed_between_directories_is_not_asked(
    tmp_path: Path,
) -> None:
    said = run(
        "confinement._abi = lambda: 1\n"
        "say(done=confine([root], []), passwd=refused(open, '/etc/passwd'))",
        tmp_path,
    )
    assert said["done"].startswith("not confined: Landlock before Linux 5.19")
    assert said["passwd"] is None


@needs_landlock
def test_paths_that_are_not_there_are_named(tmp_path: Path) -> None:
    said = run('say(done=confine([root, f"{root}/missing"], []))', tmp_path)
    assert said["done"].endswith(f"; without {tmp_path}/root/missing")


@pytest.mark.parametrize("abi", range(1, 10))
def test_what_a_kernel_knows_is_handled_and_nothing_else(abi: int) -> None:
    # linux/landlock.h: 13 rights at first, and when the others came
    count = 13 + (abi >= 2) + (abi >= 3) + (abi >= 5)
    assert confinement._handled(abi) == Right(2**count - 1)


def test_a_file_that_a_link_names_has_two_directories(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "1.pem").touch()
    (tmp_path / "certificate.pem").symlink_to("archive/1.pem")
    assert directories_of(str(tmp_path / "certificate.pem")) == [
        str(tmp_path),
        str(tmp_path / "archive"),
    ]


@pytest.mark.parametrize("path", ["/file", "/etc/no-such-file", "/run/no-such-file"])
def test_a_file_that_lies_where_everything_lies_is_allowed_alone(path: str) -> None:
    assert set(directories_of(path)) == {path}


@needs_landlock
def test_the_directory_that_python_was_started_in_is_not_needed(tmp_path: Path) -> None:
    """With ``python -m``, or -c, it is the first of sys.path."""
    (tmp_path / "secret").touch()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "module.py").touch()
    said = run(
        "say(path=os.getcwd() in map(os.path.realpath, sys.path), needed=needed_by_python())",
        tmp_path,
        cwd=tmp_path,
    )
    assert said["path"]
    assert str(tmp_path) not in said["needed"]
    assert {str(tmp_path / "package"), str(tmp_path / "module.py")} <= set(said["needed"])
    assert str(tmp_path / "secret") not in said["needed"]


def test_nothing_that_is_needed_holds_secrets() -> None:
    for path in needed_by_python():
        for secret in (
            "/etc/shadow",
            "/etc/ssl/private/key.pem",
            "/root/.ssh/id",
            "/proc/1/environ",
        ):
            assert not f"{secret}/".startswith(f"{path.rstrip('/')}/"), path
