"""Virtual paths: what a client sees, always absolute, resolved lexically and never above "/".

They are plain strings in normal form ("/", "/a/b"): no empty component, no ".", no "..". That
makes them cheap, and makes "beneath" a matter of text. Real paths are the storage layer's.
"""

from __future__ import annotations

import posixpath


def resolve(current: str, argument: str) -> str:
    """The virtual path that ``argument`` names, seen from the directory ``current``."""
    if argument[:1] == "/":
        path = argument
    else:
        path = f"/{argument}" if current == "/" else f"{current}/{argument}"
    # a component that is "." or ".." begins with a dot, as few others do
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
    """``path`` as it is named from ``directory``: with as many ".." as that takes."""
    return posixpath.relpath(path, directory)


def is_beneath(path: str, directory: str) -> bool:
    """Whether ``path`` is ``directory`` or lies beneath it, by components: "/ab" is not in "/a"."""
    return directory == "/" or path == directory or path.startswith(directory + "/")
