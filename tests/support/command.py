"""A command of ``ftpcluster``, run to its end."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.forking import CHECKOUT, environment, fork

_TIMEOUT = 60.0
AS_ROOT = (
    "ftpcluster: warning: run_as is not set, so the server serves as root, and root owns what "
    "clients store; name the user who owns the accounts' directories\n"
)
"""The warning that root gets, and others do not."""


def command(
    *arguments: str | bytes,
    cwd: Path | None = None,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    as_root: bool = False,
) -> subprocess.CompletedProcess[str]:
    """``python -m ftpcluster …`` to its end. ``env`` is added to the environment.

    ``as_root``: with the warning that root gets.
    """
    given = [os.fsdecode(argument) for argument in arguments]
    with (
        tempfile.TemporaryFile() as stdin_file,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        stdin_file.write(stdin.encode())
        stdin_file.seek(0)
        streams = [stdin_file.fileno(), stdout.fileno(), stderr.fileno()]
        process = fork(
            ["ftpcluster", *given], environment(dict(env or {})), streams, cwd=cwd or CHECKOUT
        )
        assert process is not None, "these variables need an interpreter of their own"
        try:
            code = process.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        written = []
        for file in (stdout, stderr):
            file.seek(0)
            said = file.read().decode(errors="surrogateescape")
            written.append(said if as_root else said.replace(AS_ROOT, ""))
    return subprocess.CompletedProcess(given, code, *written)
