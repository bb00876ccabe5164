"""``ftpcluster run`` whose supervisor takes orders from a test.

    python -m tests.support.driver --workers 2 …

does the same as ``run``, and reads orders as lines of JSON from stdin: ``["limit", login, read,
write]`` (login null: the server), ``["end", session, reason]``, ``["drain", worker]``,
``["count"]``, ``["ledger"]``. It answers each on stderr.
"""

from __future__ import annotations

import asyncio
import collections
import importlib
import json
import os
import re
import subprocess
import sys
from typing import Any, Self

from ftpcluster.quota.rates import Rates
from tests.support.cluster import Cluster
from tests.support.forking import CHECKOUT


class Driven(Cluster):
    """A cluster that runs this module."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        super().__init__(
            *arguments, env=env, program=(__name__,), stdin=subprocess.PIPE, cwd=CHECKOUT
        )
        self._orders = 0

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        super().__exit__(*error)

    def set_limits(self, login: str | None, rates: Rates) -> None:
        self._order("limit", login, rates.upload, rates.download)

    def end_session(self, session: int, reason: str) -> bool:
        """Sessions are numbered from 1 on, as their connections come."""
        return bool(self._order("end", session, reason))

    def drain(self, number: int) -> bool:
        """Have a worker replaced. Workers are counted from 1 on, as in the log."""
        return bool(self._order("drain", number))

    def count_messages(self) -> dict[str, int]:
        """The numbers of messages between supervisor and workers since the last call, by type."""
        counts: dict[str, int] = self._order("count")
        return counts

    def ledger(self) -> dict[str, int]:
        """What the supervisor counts at this moment."""
        held: dict[str, int] = self._order("ledger")
        return held

    def _order(self, *order: object) -> Any:
        self._orders += 1
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        answer = re.compile(rf"^order {self._orders}: (.*)$", re.MULTILINE)
        return json.loads(self.wait_for(answer)[1])


def main() -> None:
    from ftpcluster.cli.main import main as run
    from ftpcluster.ipc import channel
    from ftpcluster.supervisor.supervisor import Supervisor

    counts: collections.Counter[str] = collections.Counter()
    send = channel.Channel.send

    def counting_send(self: Any, message: Any, fd: int | None = None) -> None:
        counts[type(message).__name__] += 1
        send(self, message, fd)

    class Obedient(Supervisor):
        """Follows orders."""

        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            os.set_blocking(sys.stdin.fileno(), False)
            self._orders = 0
            self._rest = b""
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._on_orders)

        def _on_orders(self) -> None:
            data = os.read(sys.stdin.fileno(), 65536)
            if not data:
                asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._orders += 1
                answer = json.dumps(self._follow(*json.loads(line)))
                # with one call, since the workers write there, too
                os.write(sys.stderr.fileno(), f"order {self._orders}: {answer}\n".encode())

        def _follow(self, order: str, *arguments: Any) -> object:
            if order == "limit":
                login, read, write = arguments
                self.set_limits(login, Rates(upload=read, download=write))
                return None
            if order == "end":
                return self.end_session(*arguments)
            if order == "drain":
                return self.drain(arguments[0] - 1, "on order")
            if order == "ledger":
                ledger = self.ledger
                return {
                    "connections": ledger.connections,
                    "unauthenticated": ledger.unauthenticated,
                    "addresses": len(ledger._addresses),
                    "users": len(ledger._logins),
                    "held": sum(map(len, ledger._held.values())),
                }
            seen = dict(counts)
            counts.clear()
            return seen

        def on_message(self, worker: Any, message: Any) -> None:
            counts[type(message).__name__] += 1
            super().on_message(worker, message)

    channel.Channel.send = counting_send  # type: ignore[method-assign]
    vars(importlib.import_module("ftpcluster.cli.cluster"))["Supervisor"] = Obedient
    sys.argv.insert(1, "run")
    run()


if __name__ == "__main__":
    main()
