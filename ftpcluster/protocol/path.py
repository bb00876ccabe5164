"""Virtual paths, as a client sees them: absolute, resolved by their text, never above "/".

They are strings in normal form ("/", "/a/b"): no empty component, no ".", no "..". So a comparison
of text tells whether one lies beneath another. Only the storage knows real paths.
"""

from __future__ import annotations

import posixpath


def resolve(current: str, argument: str) -> str:
    """The virtual path that ``argument`` names, seen from the directory ``current``."""
    if argument[:1] == "/":
        path = argument
    else:
        path = f"/{argument}" if current == "/" else f"{current}/{argument}"
    # nearly all paths: no component is empty, "." or ".."
    if "/." not in path and "//" not in path and path[-1] != "/":
        return path
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def name(path: str) -> str:
    """The last component; "" for "/"."""
    return path.rpartition("/")[2]


def join(directory: str, child: str) -> str:
    """The path of ``child``, one component, in ``directory``."""
    return f"{directory}{child}" if directory == "/" else f"{directory}/{child}"


def relative(path: str, directory: str) -> str:
    """``path`` relative to ``directory``, with ".." where it takes them."""
    return posixpath.relpath(path, directory)


def is_beneath(path: str, directory: str) -> bool:
    """Whether ``path`` is ``directory`` or lies beneath it, by components: "/ab" is not in "/a"."""
    return directory == "/" or path == directory or path.startswith(directory + "/")
