"""A file, with flags laid over it, → Config. It changes nothing, and may be called again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ftpcluster.config.checks import check, check_accounts, with_folders
from ftpcluster.config.decode import decode
from ftpcluster.config.model import Config
from ftpcluster.config.tree import Tree


class Overlay(Protocol):
    """What was given on a command line."""

    @property
    def folder(self) -> str:
        """Where it was given: relative names lead from there, whatever became of it."""

    def lay_over(self, tree: Tree) -> None:
        """Put what was given into the tree, or refuse it there."""


def load(file: Path | None, flags: Overlay, *further: Callable[[Config, Tree], None]) -> Config:
    """What a server is told. Raises ConfigError with all that is wrong.

    ``further`` checks are those that do not hold for a reload.
    """
    tree = Tree(file, flags.folder)
    flags.lay_over(tree)
    config = decode(tree, Config)
    check(config, tree)
    config = with_folders(config, tree)
    for each in further:
        each(config, tree)
    check_accounts(config, tree)
    tree.check()
    return config


def admin_socket(file: Path) -> str | None:
    """The one key of a file that says where its server is steered; None where it says nothing.

    Whatever else is wrong with the file does not keep anybody from its server. Raises ConfigError.
    """
    tree = Tree(file)
    socket = tree.get(("admin", "socket"))
    tree.values = {} if socket is None else {"admin": {"socket": socket}}
    config = decode(tree, Config)
    tree.check()
    return config.admin.socket
