"""``python -m ftpcluster``; also what the ``ftpcluster`` script calls."""

import sys


def main() -> None:
    try:
        import ftpcluster.native  # noqa: F401
    except ImportError as error:  # the environment asks for what was not built
        print(f"ftpcluster: error: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        fork_server = None
        if sys.argv[1:2] == ["run"]:
            from ftpcluster.runtime import open_missing

            open_missing()  # before others get their numbers
            from ftpcluster.worker.fork_server import begin

            fork_server = begin()
        from ftpcluster.cli import main  # not above: worker processes import this module, too

        main(fork_server)
    except KeyboardInterrupt:  # of the imports, which take a while
        sys.exit(130)


if __name__ == "__main__":
    main()
