"""A file, with flags laid over it, → Config. It changes nothing, and may be called again."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ftpcluster.config.checks import check, with_folders
from ftpcluster.config.decode import decode
from ftpcluster.config.model import Config
from ftpcluster.config.tree import Tree


class Overlay(Protocol):
    """What was given on a command line."""

    def lay_over(self, tree: Tree) -> None:
        """Put what was given into the tree, or refuse it there."""


def load(file: Path | None, flags: Overlay) -> Config:
    """What a server is told. Raises ConfigError with all that is wrong."""
    tree = Tree(file)
    flags.lay_over(tree)
    config = decode(tree, Config)
    check(config, tree)
    config = with_folders(config, tree)
    tree.check()
    return config
