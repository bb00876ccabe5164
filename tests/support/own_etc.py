"""A command that has an /etc of its own: python -m tests.support.own_etc FOLDER MODULE ARGUMENTS…

FOLDER becomes a copy of /etc, and /etc for the command, in a mount namespace of its own. A test may
change it from outside.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.forking import become
from tests.support.hanging import bind, separate, skip_where_refused
from tests.support.programs import need


def with_etc(folder: Path) -> tuple[str, ...]:
    """What begins the command of a ``Cluster`` whose /etc is ``folder``."""
    folder.mkdir()
    # what we may not read is not needed
    subprocess.run((need("cp"), "-a", "/etc/.", str(folder)), check=False, capture_output=True)
    program = ("tests.support.own_etc", str(folder))
    skip_where_refused(program)
    return (*program, "ftpcluster", "run")


def main() -> None:
    folder, *command = sys.argv[1:]
    separate()
    bind(folder, "/etc")
    become(command)


if __name__ == "__main__":
    main()
