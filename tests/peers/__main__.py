"""``python -m tests.peers``: try everything on every server, and print what the page should say."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.peers import page
from tests.peers.checks import CHECKS, outcome
from tests.peers.servers import MAKES, Running
from tests.support.dialogue import DEADLINE

RACE = 20.0


def main() -> None:
    outcomes = {}
    for make in MAKES:
        for strict in (False, True):
            with tempfile.TemporaryDirectory() as directory:
                server = Running(MAKES[make], Path(directory), strict=strict)
                for name, check in CHECKS.items():
                    if check.strict is strict:
                        outcomes[make, name] = outcome(check, server.target(DEADLINE, RACE))
                server.close()
    print(page.write(outcomes, page.explanations(page.PAGE.read_text())))


if __name__ == "__main__":
    main()
