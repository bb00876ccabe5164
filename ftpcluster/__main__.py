"""``python -m ftpcluster``; also what the ``ftpcluster`` script calls."""


def main() -> None:
    from ftpcluster.cli import main  # not above: worker processes import this module, too

    main()


if __name__ == "__main__":
    main()
