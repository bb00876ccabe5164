"""Wheels and the source distribution: with a compiler, without one, and where none is wanted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftpcluster import native

ROOT = Path(__file__).parents[2]
SLOW = pytest.mark.slow  # `pip install -e` has built for all tests what is built again here
PARTS = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What is needed to build, copied: builds write beside it."""
    copy = tmp_path / "source"
    copy.mkdir()
    for name in PARTS:
        shutil.copy(ROOT / name, copy)
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "ftpcluster", copy / "ftpcluster", ignore=ignored)
    for name in ("tests", "docs", "deploy"):
        (copy / name).mkdir()
        (copy / name / "file").touch()
    return copy


def build(source: Path, kind: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", "out", "."],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def built(source: Path, kind: str, **environment: str) -> Path:
    done = build(source, kind, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = (source / "out").iterdir()
    return found


def modules_of(wheel: Path) -> set[str]:
    """The compiled modules in it; sources of them have no place there."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if "_native/" in name]
    assert not [name for name in names if name.endswith((".c", ".pyx"))]
    return {Path(name).name.split(".")[0] for name in names if name.endswith(".so")}


@SLOW
def test_no_compiler_is_needed_for_a_wheel(source: Path) -> None:
    wheel = built(source, "--wheel", FTPCLUSTER_NATIVE="", CC="/bin/false", LDSHARED="/bin/false")
    assert modules_of(wheel) == set()


@SLOW
def test_a_wheel_without_compiled_modules_is_for_all_machines(source: Path) -> None:
    wheel = built(source, "--wheel", FTPCLUSTER_NATIVE="0", CC="/bin/false")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert modules_of(wheel) == set()


@SLOW
def test_a_build_that_must_compile_fails_where_it_cannot(source: Path) -> None:
    done = build(source, "--wheel", FTPCLUSTER_NATIVE="1", CC="/bin/false", LDSHARED="/bin/false")
    assert done.returncode != 0


@SLOW
def test_a_wheel_and_the_source_have_what_they_need(source: Path) -> None:
    archive = built(source, "--sdist", FTPCLUSTER_NATIVE="0")
    with tarfile.open(archive) as tar:
        tar.extractall(source.parent / "unpacked", filter="data")
    (unpacked,) = (source.parent / "unpacked").iterdir()
    for name in (*PARTS, "ftpcluster/py.typed", "tests/file", "docs/file", "deploy/file"):
        assert (unpacked / name).exists(), name
    wheel = built(unpacked, "--wheel", FTPCLUSTER_NATIVE="1")
    assert modules_of(wheel) == set(native.MODULES)
    with zipfile.ZipFile(wheel) as archive_:
        assert "ftpcluster/py.typed" in archive_.namelist()
        archive_.extractall(source.parent / "installed")
    look = "from ftpcluster import native; print(native.__file__, native.NATIVE)"
    done = subprocess.run(
        [sys.executable, "-c", look],
        capture_output=True,
        text=True,
        check=True,
        cwd=source.parent / "installed",
        env=os.environ | {"PYTHONPATH": str(source.parent / "installed"), native.VARIABLE: "1"},
    )
    assert done.stdout == f"{source.parent}/installed/ftpcluster/native.py True\n"


def test_the_workflow_builds_for_the_pythons_that_the_package_names() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pythons = [
        "cp" + line.rpartition(" ")[2].replace(".", "") + "-*"
        for line in project["project"]["classifiers"]
        if line.startswith("Programming Language :: Python :: 3.")
    ]
    wheels = project["tool"]["cibuildwheel"]
    assert wheels["build"].split() == pythons
    assert wheels["environment"] == {native.VARIABLE: "1"}
    workflow = yaml.safe_load((ROOT / ".github/workflows/wheels.yml").read_text())
    assert set(workflow["jobs"]) == {"compiled", "pure"}
    runners = workflow["jobs"]["compiled"]["strategy"]["matrix"]["runner"]
    assert len(runners) == len(wheels["archs"])
