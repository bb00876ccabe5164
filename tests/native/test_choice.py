"""Which twin runs is chosen by one variable, and can be seen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ftpcluster import native
from tests.support.cluster import Cluster, environment

CHOICE = os.environ.get(native.VARIABLE, "")
BUILT = all(
    list(Path(native.__file__).parent.glob(f"_native/{name}.*.so")) for name in native.MODULES
)
LOOK = """
from ftpcluster import native
from ftpcluster.net import early_accept, passive, poller, readiness, stream
from ftpcluster.protocol import command
from ftpcluster.session.commands import listings, long_lines
from ftpcluster.storage import contained, local, local_file
functions = (
    local.entries_in, long_lines.list_lines, listings.fact_lines, listings.name_lines,
    passive.accept_at_once, passive.is_queued, early_accept.accept_at_once,
    contained.encode, contained.openat2, contained.open_regular, contained.examined,
    readiness.Readiness, poller.Watching, stream.Watched, command.one_line,
    local_file.count_links, local_file.is_in_memory,
)
print(native.NATIVE, *(function.__module__ for function in functions))
"""


def run(*command: str, choice: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        env=environment({native.VARIABLE: choice}),
    )


def test_these_tests_run_on_what_was_chosen() -> None:
    if CHOICE == "0":
        assert not native.NATIVE
    elif CHOICE == "1" or os.environ.get("CI") == "true":
        assert native.NATIVE
    else:
        assert native.NATIVE == BUILT
    kind = "_native" if native.NATIVE else "(storage|session|protocol|net)"
    for name in run("-c", LOOK, choice=CHOICE).stdout.split()[1:]:
        assert re.match(rf"ftpcluster\.{kind}\.", name), name


def test_none_are_used_where_the_variable_is_0() -> None:
    assert run("-c", LOOK, choice="0").stdout.split() == [
        "False",
        "ftpcluster.storage.scanning",
        *["ftpcluster.protocol.listing"] * 3,
        *["ftpcluster.net.sockets"] * 3,
        *["ftpcluster.storage.beneath"] * 4,
        *["ftpcluster.net.watching"] * 3,
        "ftpcluster.protocol.single_line",
        *["ftpcluster.storage.file_calls"] * 2,
    ]
    assert run("-m", "ftpcluster", "--version", choice="0").stdout.endswith(
        "without compiled modules\n"
    )


@pytest.mark.skipif(not BUILT, reason="was not built")
def test_they_are_used_where_they_were_built() -> None:
    for choice in ("", "1"):
        assert run("-c", LOOK, choice=choice).stdout.split() == [
            "True",
            *["ftpcluster._native.entries"] * 4,
            *["ftpcluster._native.sockets"] * 3,
            *["ftpcluster._native.beneath"] * 4,
            *["ftpcluster._native.watching"] * 3,
            "ftpcluster._native.single_line",
            *["ftpcluster._native.file_calls"] * 2,
        ]
    assert run("-m", "ftpcluster", "--version", choice="").stdout.endswith(
        " with compiled modules\n"
    )


def test_a_wrong_value_and_what_is_missing_are_said(tmp_path: Path) -> None:
    done = run("-m", "ftpcluster", "--version", choice="yes")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'ftpcluster: error: FTPCLUSTER_NATIVE: expected "0" or "1", got "yes"\n'
    hidden = """
import sys
from importlib.machinery import PathFinder
class Nothing(PathFinder):
    @classmethod
    def find_spec(cls, name, *rest):
        return None if "_native." in name else super().find_spec(name, *rest)
sys.meta_path = [each for each in sys.meta_path if each is not PathFinder] + [Nothing]
from ftpcluster.__main__ import main
main()
"""
    done = run("-c", hidden, choice="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "ftpcluster: error: FTPCLUSTER_NATIVE=1, but compiled modules are missing "
        f"({', '.join(native.MODULES)}): install ftpcluster "
        "again where there is a C compiler, or unset the variable\n"
    )


@pytest.mark.parametrize("choice", ["0", CHOICE])
def test_the_first_line_of_the_log_says_it(tmp_path: Path, choice: str) -> None:
    with Cluster("--root", str(tmp_path), env={native.VARIABLE: choice}) as cluster:
        first = cluster.log.splitlines()[0]
    spoken = "without compiled modules" if choice == "0" else native.DESCRIPTION
    assert first.endswith(f"INFO supervisor: Python {sys.version.split()[0]} {spoken}")
