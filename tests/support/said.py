"""Runs code in a Python process of its own, for calls that a process cannot undo."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.cluster import DEADLINE
from tests.support.forking import environment

SAYING = """
import json

def say(**what):
    print(json.dumps(what))

def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return type(error).__name__
"""


def said_by(code: str, *arguments: str, cwd: Path | None = None) -> dict[str, Any]:
    """Run ``code``, which calls ``say`` once, and perhaps ``refused``. Returns what it says."""
    done = subprocess.run(
        [sys.executable, "-c", SAYING + code, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=cwd,
        env=environment({}),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said
