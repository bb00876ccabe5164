"""Compares passwords with stored ones: plain text, or hashes in the forms of PHC and crypt(3).

A hash is expensive on purpose: it takes tens of milliseconds of a core, and as a rule 64 MiB of
memory. So hashes are computed in a small pool of threads of their own: many logins at once cannot
take the threads that transfers need for files. These threads have a lower priority than the event
loops. The number of logins that wait for them is bounded.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import hmac
import os
import re
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor

from ftpcluster import libcrypt

_SCRYPT = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([^$]+)\$([^$]+)")
_SCRYPT_MEMORY = 256 * 1024 * 1024
_BCRYPT = ("$2a$", "$2b$", "$2y$")
_HASHES = ("$argon2", "$scrypt$", *_BCRYPT, *libcrypt.KINDS)
_BCRYPT_FORM = re.compile(
    # the last character of the salt has two bits more than its 16 bytes, which have to be 0
    r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}"
)
_ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)(?:\$v=(?:16|19))?"
    r"\$m=([1-9]\d{0,9}),t=([1-9]\d{0,9}),p=([1-9]\d{0,7})\$([^$]+)\$([^$]+)",
    re.ASCII,
)
_ARGON2_SALT = 8
_LEAST_KEY = 16
"""Bytes of a key at least. A shorter key, or one whose length is no multiple of 4, was cut off.
With argon2 no password would match it. With scrypt many would: only the rest is compared."""
_FOREIGN = ("$apr1$", "$2x$", "$3$", "$sha1$", "$md5", "$pbkdf2")
_BCRYPT_BYTES = 72
_NICENESS = 5
"""The niceness of threads that hash passwords or compute digests. A busy event loop gets three
times as much of a core. Logins still come to an end where transfers or other programs keep all
cores busy. A nicer thread could hold the GIL while it waits for a core, and the loop would wait."""
MOST_AT_ONCE = 64
"""Hashes of this process that are computed or wait, at most. The last of them waits for seconds,
which clients accept. Without a bound, a storm of logins would make all wait for minutes."""


class BadHash(ValueError):
    """A stored hash cannot be used. The message says why, and contains nothing of the hash."""


class TooManyLogins(Exception):
    """Too many passwords wait to be checked. This one is not checked: it may be right or wrong."""


_places = threading.BoundedSemaphore(MOST_AT_ONCE)
_processes = 1


def is_hash(password: str) -> bool:
    """Whether a stored password is a hash by its form, and not plain text.

    This includes kinds that cannot be checked here: taken for plain text, the hash itself would be
    the password.
    """
    return password.startswith((*_HASHES, *_FOREIGN))


def foreign_kind(password: str) -> str | None:
    """The prefix, such as ``$apr1$``, of a hash whose kind cannot be checked here; else None."""
    return next((kind for kind in _FOREIGN if password.startswith(kind)), None)


def check_hash(stored: str) -> None:
    """Raises BadHash for a hash that cannot be used, as far as its form tells."""
    if kind := foreign_kind(stored):
        raise BadHash(f"a {kind} hash, which cannot be checked here")
    if kind := libcrypt.kind_of(stored):
        if not libcrypt.is_whole(stored):
            raise _not_whole(kind)
        if not libcrypt.can_check(kind):
            raise BadHash(f"a {kind} hash, which the libcrypt of this system cannot check")
    elif stored.startswith("$argon2"):
        _check_argon2(stored)
    elif stored.startswith(_BCRYPT):
        if not _BCRYPT_FORM.fullmatch(stored):
            raise _not_whole("bcrypt")
    else:
        _parse_scrypt(stored)


def _not_whole(kind: str) -> BadHash:
    return BadHash(f"not a whole {kind} hash (cut off?)")


def _check_argon2(stored: str) -> None:
    match = _ARGON2.fullmatch(stored)
    if match is None:
        raise _not_whole("argon2")
    memory, passes, lanes = (int(match[number]) for number in (1, 2, 3))
    if not 8 * lanes <= memory < 2**32 or passes >= 2**32:  # RFC 9106 section 3.1
        raise _not_whole("argon2")
    try:
        salt, key = _unpadded(match[4]), _unpadded(match[5])
    except ValueError as error:
        raise _not_whole("argon2") from error
    if len(salt) < _ARGON2_SALT or not _is_whole_key(key):
        raise _not_whole("argon2")


def hash_password(password: str) -> str:
    """Make an argon2id hash. Blocks for tens of milliseconds."""
    import argon2

    return argon2.PasswordHasher().hash(password.encode("utf-8", "surrogateescape"))


def verify(stored: str, password: str) -> bool:
    """Whether ``password`` is the stored one, plain or hash. Blocks for hashes. Raises BadHash."""
    given = password.encode("utf-8", "surrogateescape")
    if stored.startswith("$argon2"):
        return _verify_argon2(stored, given)
    if stored.startswith("$scrypt$"):
        return _verify_scrypt(stored, given)
    if stored.startswith(_BCRYPT):
        return _verify_bcrypt(stored, given)
    if is_hash(stored):
        return _verify_crypt(stored, given)
    return hmac.compare_digest(stored.encode("utf-8", "surrogateescape"), given)


def matches_plain(stored: str, password: str) -> bool:
    """Whether the stored password is plain text and equal. Computes no hash."""
    return not is_hash(stored) and verify(stored, password)


def share_cores(processes: int) -> None:
    """Set the number of worker processes, whose pools share the cores: one thread for each.

    To be called before the first password is checked.
    """
    global _processes
    _processes = processes


async def verify_off_loop(stored: str, password: str) -> bool:
    """``verify``, with hashes in the pool. Raises TooManyLogins."""
    if not is_hash(stored):
        return verify(stored, password)
    return await asyncio.wrap_future(_in_pool(verify, stored, password))


def begin_comparing(stored: str | None, decoy: str, password: str) -> Future[bool]:
    """``verify`` in the pool. Where ``stored`` is None or damaged, ``decoy`` takes the time.

    ``cancel()`` of the future returns False once a thread has begun. Raises TooManyLogins.
    """
    return _in_pool(_compare, stored, decoy, password)


def _compare(stored: str | None, decoy: str, password: str) -> bool:
    try:
        if stored is not None:
            return verify(stored, password)
    except BadHash:
        _take_as_long_as(decoy, password)
        raise
    _take_as_long_as(decoy, password)
    return False


def _take_as_long_as(decoy: str, password: str) -> None:
    with contextlib.suppress(BadHash):
        verify(decoy, password)


def _in_pool(function: Callable[..., bool], *arguments: str | None) -> Future[bool]:
    if not _places.acquire(blocking=False):
        raise TooManyLogins
    try:
        work = _pool().submit(function, *arguments)
    except RuntimeError:  # no thread can be started
        _places.release()
        raise
    # only when the thread is done, even if nobody waits for it any more
    work.add_done_callback(lambda _: _places.release())
    return work


@functools.cache
def _pool() -> Executor:
    return nice_threads("ftpcluster-passwords")


def nice_threads(name: str) -> Executor:
    """Threads of lower priority than the event loops: one for each core of this process's share."""
    count = max(1, len(os.sched_getaffinity(0)) // _processes)
    return ThreadPoolExecutor(count, name, functools.partial(set_niceness, _NICENESS))


def set_niceness(niceness: int) -> None:
    """Set it for the calling thread and those that it starts: Linux has it by thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGABRT,))  # see runtime.py
    try:
        # 0 is this thread; the filter of worker/seccomp.py allows no other number
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    except OSError:
        pass  # a sandbox refuses it: the thread keeps the priority of the loops


def _verify_argon2(stored: str, given: bytes) -> bool:
    import argon2

    try:
        return argon2.PasswordHasher().verify(stored, given)
    except argon2.exceptions.VerifyMismatchError:
        return False
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError) as error:
        # it may also want more memory than there is, which its form does not tell
        raise BadHash(f"an argon2 hash that cannot be checked ({error})") from error


def _verify_bcrypt(stored: str, given: bytes) -> bool:
    import bcrypt

    try:
        return bcrypt.checkpw(given[:_BCRYPT_BYTES], stored.encode())
    except ValueError as error:
        raise _not_whole("bcrypt") from error


def _verify_crypt(stored: str, given: bytes) -> bool:
    check_hash(stored)
    is_right = libcrypt.matches(stored, given)
    if is_right is None:
        raise BadHash("a hash that the libcrypt of this system cannot check")
    return is_right


def _verify_scrypt(stored: str, given: bytes) -> bool:
    cost, salt, expected = _parse_scrypt(stored)
    try:
        computed = hashlib.scrypt(
            given, salt=salt, maxmem=_SCRYPT_MEMORY, dklen=len(expected), **cost
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise BadHash("a scrypt hash that cannot be checked") from error
    return hmac.compare_digest(computed, expected)


def _parse_scrypt(stored: str) -> tuple[dict[str, int], bytes, bytes]:
    """``$scrypt$ln=16,r=8,p=1$salt$hash``, salt and hash in base64 without padding (PHC)."""
    match = _SCRYPT.fullmatch(stored)
    if match is None:
        raise _not_whole("scrypt")
    n, r, p = 1 << int(match[1]), int(match[2]), int(match[3])
    if n < 2 or not r or not p or 128 * r * (n + 2 + p) > _SCRYPT_MEMORY:
        raise BadHash("a scrypt hash that takes more memory than there is for it")
    try:
        salt, key = _unpadded(match[4]), _unpadded(match[5])
    except ValueError as error:
        raise _not_whole("scrypt") from error
    if not _is_whole_key(key):
        raise _not_whole("scrypt")
    return {"n": n, "r": r, "p": p}, salt, key


def _is_whole_key(key: bytes) -> bool:
    return len(key) >= _LEAST_KEY and len(key) % 4 == 0


def _unpadded(text: str) -> bytes:
    """Decode base64 without padding. Raises ValueError, also where unused bits are not 0."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if base64.b64encode(data).rstrip(b"=") != text.encode():
        raise ValueError("bits are left over")
    return data
