"""``[confine_allow]``: the named directories and files have to exist and be readable."""

from __future__ import annotations

import os

from ftpcluster.config.lines import Path
from ftpcluster.config.model import Config
from ftpcluster.config.naming import quoted
from ftpcluster.config.progress import looking_at
from ftpcluster.config.sources import Sources
from ftpcluster.privileges import Identity, may_read, parse_run_as


def check_allowed(config: Config, sources: Sources) -> None:
    """Refuse a path that is missing or unreadable: Landlock allows existing files, not names."""
    identity = None
    if config.run_as is not None and sources.is_sound(("run_as",)) and os.geteuid() == 0:
        identity = parse_run_as(config.run_as)
    for name in ("read", "write"):
        path: Path = ("confine_allow", name)
        if not sources.is_sound(("confine_allow",)):
            return
        for index, place in enumerate(getattr(config.confine_allow, name)):
            looking_at(f"{place} (confine_allow.{name})")
            problem = _problem_of(place, identity)
            if problem:
                sources.refuse((*path, index), problem, about=place)


def _problem_of(place: str, identity: Identity | None) -> str:
    """Why custom code could not read a path; empty if it could."""
    try:
        os.stat(place)
        is_readable = os.access(place, os.R_OK, effective_ids=True)
    except FileNotFoundError:
        return (
            "there is no such file or directory; make it, or name the directory that it will be in"
        )
    except OSError as error:
        return error.strerror or str(error)
    if not is_readable:
        return "not permitted; the server may not read it"
    if identity is not None and not may_read(identity, place):
        return f"{quoted(identity.name)} (run_as), who serves, may not read it"
    return ""
