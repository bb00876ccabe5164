"""The transfer log, in the format of wu-ftpd that programs read: xferlog(5).

``Thu Feb  5 10:15:03 2026 2 192.0.2.7 1048576 /pub/a_b.iso b _ o r alice ftp 0 * c``
"""

from __future__ import annotations

import re
import time

_NO_PART_OF_A_FIELD = re.compile(
    r"[\s\x00-\x20\x7f-\xa0\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
"""Characters that end a field or a line, or that a terminal obeys; bidirectional ones, too."""


def transfer_line(
    *,
    seconds: float,
    host: str,
    size: int,
    path: str,
    user: str,
    is_binary: bool,
    is_upload: bool,
    is_anonymous: bool,
    is_complete: bool,
) -> bytes:
    """The line of a transfer that ends now; ``size`` in bytes, as many as were moved.

    Blanks and control characters become ``_``, as they do at wu-ftpd: so no name adds a field.
    """
    fields = (
        time.ctime(),  # in English whatever the locale
        str(max(1, round(seconds))),  # programs divide by it
        host,
        str(size),
        _field(path),
        "b" if is_binary else "a",
        "_",  # nothing was done to the file on its way
        "i" if is_upload else "o",
        "a" if is_anonymous else "r",
        _field(user),
        "ftp",
        "0",  # nobody asked an ident server
        "*",
        "c" if is_complete else "i",
    )
    return f"{' '.join(fields)}\n".encode("utf-8", "surrogateescape")


def _field(text: str) -> str:
    return _NO_PART_OF_A_FIELD.sub("_", text) or "-"
