"""A command that has an /etc of its own: python -m tests.support.own_etc FOLDER MODULE ARGUMENTS…

FOLDER becomes a copy of /etc, and /etc for the command, in a mount namespace of its own. A test may
change it from outside.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hanging import bind, separate
from tests.support.programs import need


def with_etc(folder: Path) -> tuple[str, ...]:
    """What begins the command of a ``Cluster`` whose /etc is ``folder``."""
    folder.mkdir()
    # what we may not read is not needed
    subprocess.run((need("cp"), "-a", "/etc/.", str(folder)), check=False, capture_output=True)
    program = ("tests.support.own_etc", str(folder))
    command = (sys.executable, "-m", *program, "platform")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mounts for us: {done.stderr[-200:]}")
    return (*program, "ftpcluster", "run")


def main() -> None:
    folder, *command = sys.argv[1:]
    separate()
    bind(folder, "/etc")
    os.execv(sys.executable, (sys.executable, "-m", *command))


if __name__ == "__main__":
    main()
