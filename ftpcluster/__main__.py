"""``python -m ftpcluster``; also what the ``ftpcluster`` script calls."""

import sys


def main() -> None:
    try:
        import ftpcluster.native  # noqa: F401
    except ImportError as error:  # FTPCLUSTER_NATIVE=1, but they were not built
        print(f"ftpcluster: error: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        fork_server = None
        if sys.argv[1:2] == ["run"]:
            from ftpcluster.runtime import open_standard_streams

            open_standard_streams()  # first: other files would get their numbers
            if not {"-h", "--help"}.intersection(sys.argv):  # nothing will be forked
                from ftpcluster.worker.fork_server import begin

                fork_server = begin()
        from ftpcluster.cli.main import main  # here, since worker processes import this module, too

        main(fork_server)
    except KeyboardInterrupt:  # during the imports, which take a while
        sys.exit(130)


if __name__ == "__main__":
    main()
