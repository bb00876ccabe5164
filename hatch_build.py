"""Compiles ``ftpcluster/_native`` while the package is built, if there is a C compiler.

FTPCLUSTER_NATIVE in the environment overrides this: 0 leaves the compiled modules out; 1 makes the
build fail if they cannot be compiled. `ftpcluster --version` says whether they are used.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = "ftpcluster/_native"


class NativeHook(BuildHookInterface[Any]):
    """A hook of hatchling: makes an extension module of each ``.pyx`` file."""

    _work: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        choice = os.environ.get("FTPCLUSTER_NATIVE", "")
        if choice == "0":
            return
        work = tempfile.mkdtemp(prefix="ftpcluster-build-")
        try:
            built = compiled(Path(self.root), work)
        except Exception as error:  # a compiler, or its absence, may raise anything
            shutil.rmtree(work)
            if choice == "1":
                raise
            print(f"ftpcluster is built without compiled modules: {error}", file=sys.stderr)
            return
        self._work = work
        for module in built:
            if version == "editable":  # they are imported from the checkout
                # not a rename: the checkout may be on another file system
                shutil.move(module, Path(self.root, SOURCES, module.name))
            else:
                build_data["force_include"][str(module)] = f"{SOURCES}/{module.name}"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._work is not None:
            shutil.rmtree(self._work)


def compiled(root: Path, work: str) -> list[Path]:
    """Compile in the directory ``work``. Returns the paths of the modules."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    extensions = cythonize(
        [
            Extension(f"ftpcluster._native.{path.stem}", [str(path)], extra_compile_args=["-O2"])
            for path in sorted((root / SOURCES).glob("*.pyx"))
        ],
        build_dir=work,
        compiler_directives={"language_level": "3"},
        quiet=True,
    )
    command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = f"{work}/lib", work
    command.parallel = True  # a compiler for each core
    command.ensure_finalized()
    command.run()
    return sorted(Path(work, "lib", SOURCES).iterdir())
