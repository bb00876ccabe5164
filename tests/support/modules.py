"""Modules of other languages that tests drive."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.programs import TIMEOUT, attempt, need


def need_perl_module(module: str) -> None:
    """Without it the test is skipped, or, where CI=true, fails; as ``need`` does."""
    if attempt((need("perl"), f"-M{module}", "-e", "1"), home=Path("/")).returncode:
        _miss(f"Perl's {module} is not installed")


def need_node_module(module: str) -> str:
    """Where a module is that Node finds by itself, or by NODE_PATH. Without it, as ``need``."""
    command = (need("node"), "-p", f"require.resolve({module!r})")
    # with NODE_PATH, which clients do not inherit: they are told the path
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        _miss(f"Node's {module} is not installed; NODE_PATH may name the directory that has it")
    return done.stdout.strip()


def _miss(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
