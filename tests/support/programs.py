"""External programs that tests drive."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

TIMEOUT = 60.0


def need(program: str) -> str:
    """The path of a program. Without it the test is skipped, or, where CI=true, fails."""
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def drive(
    program: str, *arguments: str | os.PathLike[str], home: Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a client to its end, without anybody's settings, in UTF-8. It must succeed."""
    done = attempt((need(program), *map(str, arguments)), home=home, stdin=stdin)
    assert done.returncode == 0, f"{program} exited {done.returncode}:\n{done.stdout}{done.stderr}"
    return done


def attempt(
    command: Sequence[str], *, home: Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a client to its end, whatever its exit code is."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT,
        cwd=home,
        env={**kept, "HOME": str(home), "LC_ALL": "C.UTF-8", "TERM": "dumb"},
        check=False,
    )


def need_distribution(name: str) -> None:
    """Without a package the test is skipped, or, where CI=true, fails."""
    if importlib.util.find_spec(name) is None:
        reason = f"{name} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
