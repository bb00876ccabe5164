"""Whether the compiled modules in ``_native`` are used, or the same functions in Python.

They are used if all of them were built. FTPCLUSTER_NATIVE in the environment overrides this: 0
means Python. 1 means the compiled modules; if one is missing, importing this module raises
ImportError.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

VARIABLE = "FTPCLUSTER_NATIVE"
MODULES = ("beneath", "entries", "file_calls", "single_line", "sockets", "watching")


def _choose(choice: str) -> bool:
    """Whether the compiled modules are used. Raises ImportError."""
    if choice not in ("", "0", "1"):
        raise ImportError(f'{VARIABLE}: expected "0" or "1", got "{choice}"')
    if choice == "0":
        return False
    missing = [name for name in MODULES if find_spec(f"ftpcluster._native.{name}") is None]
    if missing and choice == "1":
        raise ImportError(
            f"{VARIABLE}=1, but compiled modules are missing ({', '.join(missing)}): install "
            "ftpcluster again where there is a C compiler, or unset the variable"
        )
    return not missing


NATIVE = _choose(os.environ.get(VARIABLE, ""))
DESCRIPTION = "with compiled modules" if NATIVE else "without compiled modules"
