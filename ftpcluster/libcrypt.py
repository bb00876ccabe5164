"""Checks hashes in crypt(3)'s forms, as in /etc/shadow, with the system's libcrypt."""

from __future__ import annotations

import ctypes
import functools
import hmac
import re

KINDS = ("$1$", "$5$", "$6$", "$7$", "$y$", "$gy$")
"""The prefixes of the hashes that libcrypt checks."""
_ROOM = 1 << 18
"""Bytes that crypt_r may use; glibc's own libcrypt takes 128 KiB."""
_TEXT = "[./0-9A-Za-z]"
_FORMS = {
    "$1$": rf"\$1\${_TEXT}{{0,8}}\${_TEXT}{{22}}",
    "$5$": rf"\$5\$(?:rounds=\d{{1,9}}\$)?[^$]{{0,16}}\${_TEXT}{{43}}",
    "$6$": rf"\$6\$(?:rounds=\d{{1,9}}\$)?[^$]{{0,16}}\${_TEXT}{{86}}",
    "$7$": rf"\$7\${_TEXT}{{11}}[^$]{{1,64}}\${_TEXT}{{43}}",
    "$y$": rf"\$y\${_TEXT}{{1,16}}\${_TEXT}{{0,86}}\${_TEXT}{{43}}",
    "$gy$": rf"\$gy\${_TEXT}{{1,16}}\${_TEXT}{{0,86}}\${_TEXT}{{43}}",
}
_SAMPLES = {
    "$1$": "$1$ab$",
    "$5$": "$5$rounds=1000$ab$",
    "$6$": "$6$rounds=1000$ab$",
    "$7$": "$7$2/..../....ab$",
    "$y$": "$y$j75$saltsaltsalt$",
    "$gy$": "$gy$j75$saltsaltsalt$",
}


def kind_of(stored: str) -> str | None:
    """The prefix of a hash, such as ``$6$``; None where it is not one of ``KINDS``."""
    return next((kind for kind in KINDS if stored.startswith(kind)), None)


def is_whole(stored: str) -> bool:
    """Whether a hash of one of ``KINDS`` has its whole form: nothing was cut off."""
    return re.fullmatch(_FORMS[kind_of(stored) or ""], stored, re.ASCII) is not None


@functools.cache
def can_check(kind: str) -> bool:
    """Whether this system has a libcrypt that can check hashes of a kind."""
    return _crypt(b"", _SAMPLES[kind].encode()) is not None


def matches(stored: str, given: bytes) -> bool | None:
    """Whether a password has this hash; None where libcrypt cannot tell. Blocks."""
    if b"\0" in given:  # a C string would end there
        return False
    computed = _crypt(given, stored.encode())
    return None if computed is None else hmac.compare_digest(computed, stored.encode())


def _crypt(given: bytes, setting: bytes) -> bytes | None:
    library = _library()
    if library is None:
        return None
    computed: bytes | None = library.crypt_r(given, setting, ctypes.create_string_buffer(_ROOM))
    return None if computed is None or computed.startswith(b"*") else computed


@functools.cache
def _library() -> ctypes.CDLL | None:
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.crypt_r.argtypes = [ctypes.c_char_p] * 3
        library.crypt_r.restype = ctypes.c_char_p
        return library
    return None
