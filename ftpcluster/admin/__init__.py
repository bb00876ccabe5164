"""Orders to a running server: their messages, and the client that sends them.

It must not know how the supervisor obeys an order, nor how the command line shows an answer: both
import this package, and it imports neither.
"""

from __future__ import annotations

import os

_NAME = "admin.sock"


def default_socket() -> str | None:
    """The admin socket of a server without ``admin.socket``; None where there is none."""
    directory = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]  # of a systemd service
    if directory:
        return os.path.join(directory, _NAME)
    if os.geteuid() == 0:
        return f"/run/ftpcluster/{_NAME}"
    directory = os.environ.get("XDG_RUNTIME_DIR", "")
    return os.path.join(directory, "ftpcluster", _NAME) if directory else None
