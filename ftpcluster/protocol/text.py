"""Text from clients and files, made safe for a terminal and a log."""

from __future__ import annotations

import unicodedata

_UNSEEN = ("Cc", "Cf", "Zl", "Zp")
"""Unicode's categories of control characters, of format characters (invisible ones, and those that
reverse text, as U+202E), and of line and paragraph separators."""


def visible(text: str) -> str:
    """``text`` in one line, with "?" for each character of ``_UNSEEN``.

    A surrogate (a byte of a name that is not UTF-8) becomes an escape.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else _shown(character) for character in text
    )


def _shown(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cs":
        return f"\\u{ord(character):04x}"
    return "?" if category in _UNSEEN else character
