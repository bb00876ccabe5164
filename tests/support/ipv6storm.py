"""Guesses passwords from one IPv6 /48, each time from another /64, and logs in over IPv4 meanwhile.

unshare --map-root-user --net python -m tests.support.ipv6storm DIRECTORY

Prints the reply codes of the logins over IPv4.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import argon2

from tests.support.apart import bring_up
from tests.support.configured import configured
from tests.support.dialogue import Dialogue

_GUESSES = 300
_TEXT = """
[[listen]]
address = '::'
port = 0
[ban]
allow = []
[[user]]
login = 'user'
password = '{password}'
root = '.'
"""


def main() -> None:
    directory = Path(sys.argv[1])
    bring_up("lo")
    # every address of it is this machine's
    subprocess.run(("ip", "-6", "route", "add", "local", "2001:db8::/48", "dev", "lo"), check=True)
    Path("/proc/sys/net/ipv6/ip_nonlocal_bind").write_text("1")
    slow = argon2.PasswordHasher(time_cost=8, memory_cost=16384, parallelism=1).hash("12345")
    text = _TEXT.format(password=slow)
    with configured(directory, text, hosts=()) as cluster, ExitStack() as stack:
        for number in range(_GUESSES):
            source = f"2001:db8:0:{number:x}::1"
            guesser = stack.enter_context(Dialogue(cluster.port, "2001:db8::1", source=source))
            guesser.says("USER user", 331)
            guesser.send("PASS wrong")
        for number in range(4):  # over both workers
            honest = stack.enter_context(Dialogue(cluster.port, source=f"127.0.0.{number + 2}"))
            honest.says("USER user", 331)
            honest.send("PASS 12345")
            print(honest.reply()[0])


if __name__ == "__main__":
    main()
