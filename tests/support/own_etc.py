"""A command with an /etc of its own: python -m tests.support.own_etc DIRECTORY MODULE ARGUMENTS…

The command runs in a mount namespace where DIRECTORY is /etc. A test may change that directory
meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.forking import become
from tests.support.hanging import bind, separate, skip_where_refused
from tests.support.programs import need


def with_etc(directory: Path) -> tuple[str, ...]:
    """Copy /etc to ``directory``. Returns the ``program`` of a ``Cluster`` that has it as /etc."""
    directory.mkdir()
    # what we may not read is not needed
    subprocess.run((need("cp"), "-a", "/etc/.", str(directory)), check=False, capture_output=True)
    program = ("tests.support.own_etc", str(directory))
    skip_where_refused(program)
    return (*program, "ftpcluster", "run")


def main() -> None:
    directory, *command = sys.argv[1:]
    separate()
    bind(directory, "/etc")
    become(command)


if __name__ == "__main__":
    main()
