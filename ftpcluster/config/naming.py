"""How messages name keys and show values."""

from __future__ import annotations

import json
import re

from ftpcluster.config.lines import Path

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 60


def dotted(path: Path) -> str:
    """``user[0].download``, as messages name a key."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += "." * bool(text) + (key if _BARE.fullmatch(key) else quoted(key))
    return text


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def shown(value: object) -> str:
    """A value in a message, as TOML writes it, if it is short."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, bool):
        return str(value).lower()
    text = quoted(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
