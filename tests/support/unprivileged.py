"""A Python for servers that do not run as root, while the tests do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from tests.support.forking import CHECKOUT
from tests.support.programs import need

PACKAGES = (str(CHECKOUT), str(Path(trustme.__file__).parents[1]))


def python_for_nobody() -> str:
    """A Python that an unprivileged user may run, with our packages."""
    if os.geteuid() != 0:
        pytest.skip("only root can give up root")
    become = [
        "setpriv",
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        "--bounding-set=-all",
    ]
    code = "import os, sys, ftpcluster.worker.worker; sys.exit(not os.access(sys.executable, 1))"
    for python in (sys.executable, shutil.which("python3", path="/usr/bin")):
        if python is not None:
            done = subprocess.run(
                [need("setpriv"), *become[1:], python, "-c", code],
                cwd="/",
                env={"PYTHONPATH": ":".join(PACKAGES)},
                capture_output=True,
                check=False,
            )
            if done.returncode == 0:
                return python
    pytest.skip("the user nobody may run no Python of this machine that has our packages")
