"""A command of ``ftpcluster``, run to its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.cluster import environment


def command(
    *arguments: str, cwd: Path, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """``python -m ftpcluster …`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "ftpcluster", *arguments],
        cwd=cwd,
        env=environment({}),
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
