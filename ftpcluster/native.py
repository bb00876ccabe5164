"""One switch for all compiled twins in ``_native``: they run where they were built.

In the environment FTPCLUSTER_NATIVE=0 leaves everything to Python, and =1 fails where they are
missing: then the import of this module raises ImportError.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

VARIABLE = "FTPCLUSTER_NATIVE"
MODULES = ("beneath", "entries", "sockets", "watching")


def _choose(choice: str) -> bool:
    """Whether the compiled twins run. Raises ImportError."""
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
SPOKEN = "with compiled modules" if NATIVE else "without compiled modules"
