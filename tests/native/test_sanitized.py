"""The tests of compiled functions, with AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ftpcluster.native import MODULES

ROOT = Path(__file__).parents[2]
TWINS = [f"tests/native/test_{name}.py" for name in MODULES]


@pytest.mark.slow  # compiles everything again
@pytest.mark.timeout(1200)
def test_no_fault_is_found_while_the_tests_of_compiled_functions_run(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("ftpcluster", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "hatch_build.py"):
        shutil.copy(ROOT / name, copy)
    program = (
        "import pathlib, hatch_build\n"
        "for module in hatch_build.compiled(pathlib.Path('.'), 'work'):\n"
        "    module.replace(pathlib.Path('ftpcluster/_native', module.name))"
    )
    flags = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -g"
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=copy,
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"CFLAGS": flags, "LDFLAGS": flags},
    )
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", *TWINS],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {
            "LD_PRELOAD": library,
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": "detect_leaks=0",
            "FTPCLUSTER_NATIVE": "1",
            "PYTHONPATH": str(copy),
        },
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
