"""What others have sent, as a person may see it in a terminal or a log."""

from __future__ import annotations

import unicodedata

_UNSEEN = ("Cc", "Cf", "Zl", "Zp")
"""Categories: what a terminal obeys; what is not seen, or turns what follows around (U+202E); what
some take for an end of line."""


def visible(text: str) -> str:
    """``text`` in one line that cannot pretend to be another one: "?" for what is not seen.

    What is no character (a byte of a name that is not UTF-8) is written as an escape.
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
