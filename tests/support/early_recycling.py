"""``ftpcluster`` that accepts smaller values of `[recycle]` than a configuration may have.

python -m tests.support.early_recycling run …
"""

from __future__ import annotations

if __name__ == "__main__":  # workers import this module, too
    from ftpcluster.worker.fork_server import begin

    fork_server = begin()

    from ftpcluster.cli.main import main
    from ftpcluster.config import values

    values.LEAST_AGE = values.LEAST_MEMORY = 1
    main(fork_server)
