"""How ``run`` and ``check`` first load a configuration, with the checks that only a start makes."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ftpcluster.cli.aside import call_bounded
from ftpcluster.cli.flags import Flags
from ftpcluster.cli.standard_streams import say
from ftpcluster.cli.start_checks import check_start
from ftpcluster.config import Config, ConfigError
from ftpcluster.config.checks import identity_of
from ftpcluster.config.environment import Environment
from ftpcluster.config.load import load
from ftpcluster.config.sources import Sources
from ftpcluster.config.tls_doubts import tls_doubts
from ftpcluster.config.warnings import warnings
from ftpcluster.net.certificates import BadCertificate, read_certificates
from ftpcluster.safe_paths import reading_for


def load_to_start(file: Path | None, flags: Flags, environment: Environment) -> Config:
    """Load the configuration, and print warnings about it to stderr. Raises ConfigError.

    Everything else that a start needs is checked, too. A reload does not check it: it may not be
    root any more, and uses what is open. Modules are imported from the directory of the command, as
    Python itself does.
    """
    config, doubts = call_bounded(functools.partial(_load, file, flags, environment))
    for line in (*environment.doubts(), *flags.doubts(), *doubts):
        say(f"ftpcluster: warning: {line}")
    if config.server or config.user_manager:
        sys.path.insert(0, flags.directory)
    return config


def _load(file: Path | None, flags: Flags, environment: Environment) -> tuple[Config, list[str]]:
    doubts: list[str] = []
    find_doubts = functools.partial(_find_doubts, doubts)
    return load(file, flags, check_start, find_doubts, environment=environment), doubts


def _find_doubts(found: list[str], config: Config, sources: Sources) -> None:
    sources.check()  # warnings make sense only without errors
    found.extend(warnings(config, sources))
    found.extend(_as_root(config))
    found.extend(tls_doubts(config, certificates_of(config)))


def _as_root(config: Config) -> Iterator[str]:
    if config.run_as is None and os.geteuid() == 0:
        yield (
            "run_as is not set, so the server serves as root, and root owns what clients store; "
            "name the user who owns the accounts' directories"
        )


def certificates_of(config: Config) -> tuple[bytes, ...] | None:
    """The contents of the files of ``[tls]``, if there is one. Raises ConfigError."""
    if (tls := config.tls) is None:
        return None
    try:
        with reading_for(tls.files, identity_of(config)):
            return read_certificates(
                tls.certificate,
                tls.key_file,
                minimum_version=tls.minimum_version,
                client_ca=tls.client_ca,
            )
    except BadCertificate as error:
        raise ConfigError(str(error)) from error
