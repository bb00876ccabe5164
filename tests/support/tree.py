"""Files and directories to transfer, and what shows that they arrived whole."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

_BLOCK = 1 << 20

ODD_NAMES = (
    "two words",
    " leading and trailing ",
    "it's",
    'say "hello"',
    "Grüße.txt",
    "日本語",
    "e\u0301 (decomposed)",
    ".hidden",
    "-dash",
    "100%",
    "hash#mark",
    "semi;colon",
    "a&b|c",
    "star*",
    "what?",
    "[brackets]",
    "{a,b}",
    "back\\slash",
    "~tilde",
    "$HOME",
    "equal=sign",
    "x" * 200,
)


def make_tree(directory: Path, files: int) -> None:
    """Fill ``directory`` with files of 0 to 20 KB in nested directories, with odd names."""
    chance = random.Random(files)
    names = [*ODD_NAMES, *(f"file-{number}" for number in range(files - len(ODD_NAMES)))]
    for number, name in enumerate(names):
        above = directory / f"directory {number % 7}" / f"ünter-{number % 5}"
        above.mkdir(parents=True, exist_ok=True)
        (above / name).write_bytes(chance.randbytes(chance.randrange(20_000)))
    (directory / "empty file").touch()


def make_file(path: Path, size: int) -> None:
    """A file of ``size`` bytes with nothing sparse in it, made of one random block."""
    block = bytearray(os.urandom(_BLOCK))
    with path.open("wb") as file:
        for start in range(0, size, _BLOCK):
            # numbered, so that blocks in another order, or twice, do not go unnoticed
            block[:8] = start.to_bytes(8, "big")
            file.write(block[: size - start])


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of every file beneath ``directory``, by its relative path."""
    return {
        str(path.relative_to(directory)): digest(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
